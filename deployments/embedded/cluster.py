"""One PostgreSQL cluster on the loopback address: make it, start it, stop it.

Authentication is SCRAM for every connection, the socket's too. `initdb` works in a directory beside the final one,
which gets its name only when the cluster is complete: a start that was interrupted leaves nothing that looks like a
cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deployments.embedded.account import Account
from deployments.embedded.errors import ServiceNotStarted
from deployments.embedded.ports import LOOPBACK
from deployments.embedded.processes import Process, end_all, stop_daemon, working_in
from deployments.embedded.starting import Files, start_server

SUPERUSER = "postgres"
_START_S = 60.0
_STOP_S = 20.0
_SOCKET_PATH_BYTES = 107  # sockaddr_un.sun_path less the final NUL
_SETTINGS = {
    "shared_buffers": "64MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "log_lock_waits": "on",
    "log_min_duration_statement": "1s",
    "log_parameter_max_length": "0",  # values of the application's rows do not belong in a log
    "log_parameter_max_length_on_error": "0",
    "track_io_timing": "on",
}


@dataclass(frozen=True)
class Cluster:
    """A cluster in `directory`, run by the programs in `bin` as `account` (None: as the calling user).

    `settings` are server settings beyond those that every cluster gets.
    """

    name: str
    directory: Path
    bin: Path
    account: Account | None = None
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"

    def create(self, password: str, marks: Mapping[str, str], *, durable: bool = True) -> None:
        """Make the cluster with this password for the superuser, unless it exists.

        Args:
            password: the superuser's.
            marks: environment variables by which initdb is known, should its caller die.
            durable: wait until everything is on disk; a throw-away cluster need not.

        Raises:
            ServiceNotStarted: initdb failed.
        """
        if self.data.is_dir():
            return
        unfinished, password_file = self.directory / "data.new", self.directory / "password.new"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(password)
        if self.account is not None:
            for path in (self.directory, password_file):
                os.chown(path, self.account.uid, self.account.gid)
        try:
            self._run(
                marks,
                "initdb",
                *("--pgdata", str(unfinished), "--username", SUPERUSER, "--pwfile", str(password_file)),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums"),
                *(() if durable else ("--no-sync",)),
            )
        finally:
            password_file.unlink()
        unfinished.rename(self.data)

    def start(self, port: int, files: Files) -> Process:
        """Start the server on this port of 127.0.0.1 and wait until it accepts connections.

        Raises:
            ServiceNotStarted: it ended or was not ready in time; `why` carries its last words.
        """
        self._forget_strangers_pid()
        command = [str(self.bin / "postgres"), "-D", str(self.data), "-p", str(port), *self._options(port)]
        return start_server(
            self.name,
            self._as_account(command),
            files=files,
            environment=_environment(),
            directory="/",
            ready=self._ready,
            within_s=_START_S,
        )

    def stop(self, process: Process) -> bool:
        """Disconnect everybody, write a checkpoint and end; False when force was needed."""
        return stop_server(process)

    def _options(self, port: int) -> list[str]:
        sockets = str(self.directory)
        path = os.fsencode(f"{sockets}/.s.PGSQL.{port}")
        fits = len(path) <= _SOCKET_PATH_BYTES and not set(sockets) & set(',"')
        settings = {
            **_SETTINGS,
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": sockets if fits else "",
            **self.settings,
        }
        if self._has_library("pg_stat_statements"):
            settings["shared_preload_libraries"] = "pg_stat_statements"
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _has_library(self, name: str) -> bool:
        directory = subprocess.run(
            [str(self.bin / "pg_config"), "--pkglibdir"], capture_output=True, text=True, timeout=20, check=False
        ).stdout.strip()
        return bool(directory) and Path(directory, f"{name}.so").is_file()

    def _ready(self, process: Process) -> bool:
        # The eighth line of postmaster.pid is the server's own word on its state; the port might be another server's.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready"

    def _forget_strangers_pid(self) -> None:
        """Remove a postmaster.pid whose process id now is another program's: PostgreSQL would refuse to start."""
        lock = self.data / "postmaster.pid"
        try:
            pid = int(lock.read_text().splitlines()[0])
            working_directory = Path(f"/proc/{pid}/cwd").readlink()
        except (OSError, ValueError, IndexError):  # no file, or no such process: PostgreSQL's own check does
            return
        if working_directory != self.data.resolve():  # a server works in its data directory
            lock.unlink(missing_ok=True)

    def _run(self, marks: Mapping[str, str], program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._as_account([str(self.bin / program), *arguments]),
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",  # the account may not be allowed into ours
            env={**_environment(), **marks},
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            why = f"{program} exited with {done.returncode}: {done.stderr.strip()[-500:]}"
            raise ServiceNotStarted(self.name, why, hint=f"its directory is {self.directory}")

    def _as_account(self, command: Sequence[str]) -> list[str]:
        return list(command) if self.account is None else self.account.command(command)


def stop_server(process: Process) -> bool:
    """End a server of any cluster; False when force was needed. Needs none of PostgreSQL's programs."""
    return stop_daemon(process, how=signal.SIGINT, timeout_s=_STOP_S)


def end_backends(data: Path) -> None:
    """End the processes that a killed server left in this data directory: a busy one notices only after its query.

    They are known by the directory they work in: PostgreSQL overwrites the environment that marks our processes.
    """
    end_all(working_in(data, "postgres"))


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
