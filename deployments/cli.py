"""The `runbook` command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deployments import embedded
from deployments.register import FILE, VERSION_VARIABLE, register
from flows.cli import app, console
from tasks.release.environment import DIRECTORY_VARIABLE
from tasks.release.errors import ConfigurationError, RunbookError

STATE = Path(os.environ.get("RUNBOOK_STATE", ".runbook")).resolve()
PRESETS = Path(__file__).parent / "environments"

Names = Annotated[list[str] | None, typer.Argument(help="Services; none: all.")]


@app.command()
def up(names: Names = None) -> None:
    """Start the embedded services, and register the deployments where the Prefect server is among them."""
    embedded.up(names or [], STATE, console.print)
    embedded.write_environments(PRESETS, embedded.services(STATE), STATE)
    server = _prefect_url()
    if server:
        register(f"{server}/api", console.print, only_if_changed=True)
        console.print(f"Prefect UI: {server}")


@app.command()
def status() -> None:
    """Show the embedded services."""
    table = Table("service", "state", "port", "pid", "address", "since (UTC)", "log", box=None)
    for one in embedded.status(STATE):
        cells = (one.name, one.state, one.port, one.pid, one.url, one.since, one.log)
        table.add_row(*("" if cell is None else str(cell) for cell in cells))
    console.print(table)


@app.command()
def down(
    names: Names = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove all their data too; asks first.")] = False,
) -> None:
    """Stop the embedded services; their data stays."""
    if delete:
        if names:
            raise typer.BadParameter("--delete removes the data of all services; give no names")
        typer.confirm(f"Remove every database, backup, record and checkout below {STATE}?", abort=True)
    embedded.down(names or [], STATE, console.print)
    if delete:
        embedded.delete(STATE, console.print)


@app.command(name="register")
def register_deployments() -> None:
    """Check prefect.yaml and register its deployments on the Prefect server that PREFECT_API_URL names."""
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        raise ConfigurationError(
            "no Prefect server is known", hint="`runbook up` starts one; PREFECT_API_URL names another"
        )
    register(api, console.print)


@app.command()
def lint() -> None:
    """Check prefect.yaml for what Prefect would ignore without a word."""
    from deployments.lint import check  # noqa: PLC0415 - imports Prefect, which takes seconds

    check(FILE, {**os.environ, VERSION_VARIABLE: "any"})
    console.print(f"{FILE.name} is sound")


@app.command()
def demo() -> None:
    """Carry a release of the example application through staging, from nothing."""
    from deployments.demo import run  # noqa: PLC0415 - only this command needs it

    run(STATE, PRESETS, console)


def main() -> None:
    """Run the command; one of our errors is a message and exit code 1, never a traceback."""
    _use_embedded_services()
    try:
        app()
    except RunbookError as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)


def _use_embedded_services() -> None:
    """Where nothing else is named, the Prefect server and the environments are those of `runbook up`."""
    server = _prefect_url()
    if server:
        os.environ.setdefault("PREFECT_API_URL", f"{server}/api")
    if (STATE / "environments").is_dir():
        os.environ.setdefault(DIRECTORY_VARIABLE, str(STATE / "environments"))


def _prefect_url() -> str:
    running = {one.name: one.url for one in embedded.status(STATE) if one.state == "running"}
    return running.get("prefect", "")
