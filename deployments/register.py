"""Registering the deployments of prefect.yaml on a Prefect server: checked before, read back after."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from deployments.lint import check, flow_name
from flows.follow import prefect_api
from tasks.release.environment import directory
from tasks.release.errors import CommandError, ConfigurationError

ROOT = Path(__file__).parents[1]
FILE = ROOT / "prefect.yaml"
if not FILE.exists():  # this is no checkout: an installed package carries it beside this module
    FILE = Path(__file__).with_name("prefect.yaml")
TIMEOUT_S = 300
VERSION_VARIABLE = "RUNBOOK_VERSION"  # what prefect.yaml gives each deployment as its version


def register(api: str, report: Callable[[str], None], *, only_if_changed: bool = False) -> None:
    """Check prefect.yaml, deploy all of it, and read back that every deployment is there.

    Schedules of an environment whose file is not there are paused, all others go: their runs could but fail.

    Args:
        api: The Prefect API's address.
        report: Takes a line for the person who waits.
        only_if_changed: Leave a server alone that has these deployments already, made of these very files, for the
            environments that are there now.

    Raises:
        ConfigurationError: prefect.yaml says something that Prefect would ignore; or a deployment did not arrive.
        CommandError: `prefect deploy` failed.
    """
    missing_files = {name for name in _scheduled().values() if not (directory() / f"{name}.toml").exists()}
    digest = _digest(missing_files)
    if only_if_changed and _versions(api) == dict.fromkeys(_wanted(), digest):
        return
    environment = {**os.environ, VERSION_VARIABLE: digest, "PREFECT_API_URL": api, "PREFECT_CLI_PROMPT": "false"}
    check(FILE, environment)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(FILE)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandError("prefect deploy", None, "", hint=f"does {api} answer?") from None
    if done.returncode:
        raise CommandError("prefect deploy", done.returncode, done.stdout + done.stderr, hint=f"does {api} answer?")
    there = _versions(api)
    missing = _wanted() - there.keys()
    if missing:
        raise ConfigurationError(
            f"{', '.join(sorted(missing))} did not arrive at {api}:\n{done.stdout[-2000:]}", hint="mend prefect.yaml"
        )
    report(f"deployments on {api}: {', '.join(sorted(_wanted()))}")
    paused = _pause(api, missing_files)
    if paused:
        report(
            f"paused, since {directory()} has no file of their environment: {', '.join(paused)}; `runbook register`"
            " lets them go when it has"
        )
    for name in sorted(there.keys() - _wanted()):
        report(f"{name} is on the server but no longer in prefect.yaml; `prefect deployment delete {name}` removes it")


def _pause(api: str, missing_files: set[str]) -> list[str]:
    """Pause the scheduled deployments of environments without a file, let the others go; those that are paused."""
    scheduled = _scheduled()
    with prefect_api(api) as client:
        for name, deployment in _registered(api).items():
            if name in scheduled:
                verb = "pause" if scheduled[name] in missing_files else "resume"
                client.post(f"/deployments/{deployment['id']}/{verb}_deployment").raise_for_status()
    now = _registered(api)
    wrong = [name for name, where in scheduled.items() if now[name]["paused"] is not (where in missing_files)]
    if wrong:
        raise ConfigurationError(
            f"the schedules of {', '.join(sorted(wrong))} could not be paused or let go at {api}",
            hint="register again, when nobody else does",
        )
    return sorted(name for name, where in scheduled.items() if where in missing_files)


def _deployments() -> dict[str, dict[str, Any]]:
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {f"{flow_name(deployment)}/{deployment['name']}": deployment for deployment in content["deployments"]}


def _wanted() -> set[str]:
    return set(_deployments())


def _scheduled() -> dict[str, str]:
    """The deployments that run by themselves, with the environment of each."""
    return {name: one["parameters"]["environment"] for name, one in _deployments().items() if one.get("schedules")}


def _versions(api: str) -> dict[str, str]:
    """What each deployment on the server was made of."""
    return {name: str(one["version"]) for name, one in _registered(api).items()}


def _registered(api: str) -> dict[str, dict[str, Any]]:
    """The deployments with our tag on the server, by flow/name."""
    with prefect_api(api) as client:
        wanted = {"deployments": {"tags": {"all_": ["runbook"]}}}
        found = client.post("/deployments/filter", json=wanted).raise_for_status().json()
        ids = {"flows": {"id": {"any_": [one["flow_id"] for one in found]}}}
        flows = client.post("/flows/filter", json=ids).raise_for_status().json()
    names = {flow["id"]: flow["name"] for flow in flows}
    return {f"{names.get(one['flow_id'])}/{one['name']}": one for one in found}


def _digest(missing_files: set[str]) -> str:
    """Of all that registered deployments are made of: file, flows with their parameters, and which environments."""
    digest = hashlib.sha256(repr(sorted(missing_files)).encode())
    for path in (FILE, *sorted((ROOT / "flows").glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
