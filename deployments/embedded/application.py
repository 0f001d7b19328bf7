"""The example application as a service: gunicorn in the checkout that lies in `apps/<environment>`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx

from deployments.embedded.errors import ServiceUnavailable
from deployments.embedded.ports import LOOPBACK, listens, unproxied
from deployments.embedded.processes import Process, stop_daemon
from deployments.embedded.starting import Files, start_server

_START_S = 60.0
_STOP_S = 15.0  # gunicorn lets requests end for 10 s


def directory_of(state_dir: Path, environment: str) -> Path:
    """Return where the application of an environment is checked out."""
    return state_dir / "apps" / environment


def pidfile_of(state_dir: Path, environment: str) -> Path:
    """Return where the application's gunicorn notes its process id."""
    return state_dir / "apps" / f"{environment}-logs" / "gunicorn.pid"


def variables(environment: str) -> dict[str, str]:
    """Return the environment variables of the application's processes; the rest is in its env file."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "PG"))}
    return {
        **inherited,
        **unproxied(inherited),
        "CHATBOT_ENV_FILE": ".env",
        "DJANGO_SETTINGS_MODULE": f"config.settings.{environment}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def start(name: str, environment: str, state_dir: Path, port: int, files: Files) -> Process:
    """Start the application and wait until it answers.

    Args:
        name: the service's name.
        environment: whose application.
        state_dir: the state directory.
        port: its port on 127.0.0.1.
        files: where its traces go.

    Raises:
        ServiceUnavailable: it is not installed.
        ServiceNotStarted: it ended or did not answer in time.
    """
    directory = directory_of(state_dir, environment)
    gunicorn = directory / ".venv" / "bin" / "gunicorn"
    if not gunicorn.exists():
        raise ServiceUnavailable(f"{name} is not installed in {directory}", hint="`runbook demo` installs it")
    _forget_dead_pid(pidfile_of(state_dir, environment), directory)
    return start_server(
        name,
        [str(gunicorn), "-c", "config/gunicorn.py"],
        files=files,
        environment={**variables(environment), "BIND": f"{LOOPBACK}:{port}"},
        directory=directory,
        ready=lambda process: listens(process.pid, port) and _answers(port),
        within_s=_START_S,
    )


def stop(process: Process) -> bool:
    """End the application; False when force was needed."""
    return stop_daemon(process, how=signal.SIGTERM, timeout_s=_STOP_S)


def _forget_dead_pid(pidfile: Path, directory: Path) -> None:
    """Remove a pidfile whose process is gone, or by now another program's: gunicorn would refuse to start."""
    try:
        alive = Path(f"/proc/{int(pidfile.read_text())}/cwd").readlink() == directory.resolve()
    except (OSError, ValueError):
        alive = False
    if not alive:
        pidfile.unlink(missing_ok=True)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False
