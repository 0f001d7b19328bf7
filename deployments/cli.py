"""The `runbook` command."""

from __future__ import annotations

import enum
import functools
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deployments import embedded
from deployments.register import FILE, VERSION_VARIABLE, register
from deployments.start import STOPPED
from flows.cli import app, console
from tasks.release.environment import DIRECTORY_VARIABLE
from tasks.release.errors import ConfigurationError, RunbookError


class Form(enum.Enum):
    """How a check tells what it found."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


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
        os.environ.setdefault(DIRECTORY_VARIABLE, str(STATE / "environments"))  # it may be there only now
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
def check(
    directory: Annotated[Path, typer.Argument(help="Where the management command runs.")] = Path(),
    base: Annotated[str, typer.Option(help="Ref that this branch will be merged into; none: origin's own.")] = "",
    settings: Annotated[str, typer.Option(help="Settings module; none: what the command knows by itself.")] = "",
    python: Annotated[str, typer.Option(help="The application's interpreter; none: .venv's, then PATH's.")] = "",
    manage: Annotated[str, typer.Option(help="The management command.")] = "{python} manage.py",
    alias: Annotated[str, typer.Option(help="Alias of the database in the settings.")] = "default",
    database_url: Annotated[
        str,
        typer.Option(
            envvar="RUNBOOK_CHECK_DATABASE_URL",
            show_envvar=True,
            help="Database whose facts count, read only. A password belongs into the variable or PGPASSWORD.",
        ),
    ] = "",
    server_url: Annotated[
        str,
        typer.Option(
            envvar="RUNBOOK_CHECK_SERVER_URL",
            show_envvar=True,
            help="PostgreSQL server on which throw-away databases are made; none: a bundled one. Needs CREATEDB.",
        ),
    ] = "",
    form: Annotated[Form, typer.Option("--format", help="How findings are told.")] = Form.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[Path | None, typer.Option(help="File to write instead of standard output.")] = None,
) -> None:
    """Judge the migrations that a branch adds; exit code 0: clean, 1: findings, 2: could not judge."""
    from deployments.check.stopping import Stopping  # noqa: PLC0415 - first, since the others take a second

    stopping = Stopping()
    stopping.listen()
    from deployments.check.application import Application  # noqa: PLC0415 - only this command needs them
    from deployments.check.formats import FORMATS  # noqa: PLC0415
    from deployments.check.run import Wanted  # noqa: PLC0415
    from deployments.check.run import check as carry_out  # noqa: PLC0415

    errors = Console(stderr=True)
    try:
        application = Application(directory.resolve(), python, tuple(shlex.split(manage)), settings, alias)
        wanted = Wanted(application, base, database_url, server_url)
        report = functools.partial(errors.print, style="dim", highlight=False, markup=False, soft_wrap=True)
        checked = carry_out(wanted, report, stopping)
        text = FORMATS["json" if as_json else form.value](checked)
        with stopping.waiting():
            if output:
                output.write_text(text + "\n", encoding="utf-8")
            else:
                print(text)  # noqa: T201 - as it is, whatever the width of the terminal
    except KeyboardInterrupt:
        raise _stopped(errors) from None
    except (RunbookError, OSError) as error:
        if stopping.asked:  # what failed was hit by the same signal
            raise _stopped(errors) from None
        errors.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    raise typer.Exit(0 if not any(finding.suppressed is None for finding in checked.risk.findings) else 1)


def _stopped(errors: Console) -> typer.Exit:
    errors.print("stopped")
    return typer.Exit(STOPPED)


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
