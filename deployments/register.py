"""Registering the deployments of prefect.yaml on a Prefect server: checked before, read back after."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from deployments.lint import check, flow_name
from flows.follow import prefect_api
from tasks.release.errors import CommandError, ConfigurationError

ROOT = Path(__file__).parents[1]
FILE = ROOT / "prefect.yaml"
if not FILE.exists():  # this is no checkout: an installed package carries it beside this module
    FILE = Path(__file__).with_name("prefect.yaml")
TIMEOUT_S = 300
VERSION_VARIABLE = "RUNBOOK_VERSION"  # what prefect.yaml gives each deployment as its version


def register(api: str, report: Callable[[str], None], *, only_if_changed: bool = False) -> None:
    """Check prefect.yaml, deploy all of it, and read back that every deployment is there.

    Args:
        api: The Prefect API's address.
        report: Takes a line for the person who waits.
        only_if_changed: Leave a server alone that has these deployments already, made of these very files.

    Raises:
        ConfigurationError: prefect.yaml says something that Prefect would ignore; or a deployment did not arrive.
        CommandError: `prefect deploy` failed.
    """
    digest = _digest()
    if only_if_changed and _registered(api) == dict.fromkeys(_wanted(), digest):
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
    there = _registered(api)
    missing = _wanted() - there.keys()
    if missing:
        raise ConfigurationError(
            f"{', '.join(sorted(missing))} did not arrive at {api}:\n{done.stdout[-2000:]}", hint="mend prefect.yaml"
        )
    report(f"deployments on {api}: {', '.join(sorted(_wanted()))}")
    for name in sorted(there.keys() - _wanted()):
        report(f"{name} is on the server but no longer in prefect.yaml; `prefect deployment delete {name}` removes it")


def _wanted() -> set[str]:
    content = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {f"{flow_name(deployment)}/{deployment['name']}" for deployment in content["deployments"]}


def _registered(api: str) -> dict[str, str]:
    """The deployments with our tag on the server, as flow/name, with the digest of what each was made of."""
    with prefect_api(api) as client:
        wanted = {"deployments": {"tags": {"all_": ["runbook"]}}}
        found = client.post("/deployments/filter", json=wanted).raise_for_status().json()
        ids = {"flows": {"id": {"any_": [one["flow_id"] for one in found]}}}
        flows = client.post("/flows/filter", json=ids).raise_for_status().json()
    names = {flow["id"]: flow["name"] for flow in flows}
    return {f"{names.get(one['flow_id'])}/{one['name']}": str(one["version"]) for one in found}


def _digest() -> str:
    """Of everything that a registered deployment is made of: the file, and the flows with their parameters."""
    digest = hashlib.sha256()
    for path in (FILE, *sorted((ROOT / "flows").glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
