"""The `runbook` command's part that works on environments: a thin face on the flows."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markdown import Markdown

from flows.answer import answer, question_of, waiting
from flows.follow import Run, follow, prefect_api, reports_of, start, withdraw
from tasks.markdown.text import without_charts
from tasks.record.report import release_report
from tasks.release.environment import load
from tasks.release.errors import ConfigurationError, RunbookError
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger

console = Console()
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

EnvironmentName = Annotated[str, typer.Argument(help="Name of the environment file, such as staging.")]


@app.command()
def deploy(
    environment: EnvironmentName,
    ref: Annotated[str, typer.Option(help="Tag, branch or commit to deploy.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only read: show what would be done.")] = False,
    release_id: Annotated[str, typer.Option(help="A release to take up again; `new` begins anew.")] = "",
) -> None:
    """Deploy a release as a Prefect flow run, and follow it to its end."""
    if not ref.strip():
        raise ConfigurationError("the ref is empty", hint="name a tag, a branch or a commit")
    kind = load(environment).kind  # a mistake in the file is told here, not by a worker
    if kind not in ("staging", "production"):
        raise ConfigurationError(f"{environment} is of kind {kind}: nothing is deployed there by a flow")
    parameters = {"ref": ref, "environment": environment, "dry_run": dry_run, "release_id": release_id}
    with prefect_api() as api:
        run = start(api, f"{kind}/{environment}", f"{ref}-to-{environment}", parameters)
        ui = str(api.base_url).removesuffix("/").removesuffix("/api")
        console.print(f"flow run [bold]{run.name}[/bold]: {ui}/v2/runs/flow-run/{run.id}")
        console.print("Ctrl-C stops only this view; the run goes on.", style="dim")
        try:
            ended = follow(api, run, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
        except KeyboardInterrupt:
            gone = withdraw(api, run)
            console.print(
                f"\n{'the run had not begun; it is cancelled' if gone else 'the run goes on'}", highlight=False
            )
            raise typer.Exit(130) from None
        except RunbookError:
            # Where the server is away, the error that is on its way says so.
            with suppress(httpx.HTTPError):
                _show_reports(api, run)
            raise
        _show_reports(api, run)
        console.print(ended.message, style="bold")


@app.command()
def approve(
    environment: EnvironmentName,
    by: Annotated[str, typer.Option(help="Who approves, for the record.")],
    standby: Annotated[str, typer.Option(help="Who watches and can act until it is over.")],
    comment: Annotated[str, typer.Option(help="For the record.")] = "",
    maintenance_window: Annotated[
        bool, typer.Option("--maintenance-window", help="Maintenance mode may be switched on now.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask back.")] = False,
) -> None:
    """Show the question of the release that waits, and approve it."""
    values = {"approver": by, "standby": standby, "maintenance_window": maintenance_window, "comment": comment}
    _answer(environment, {"approve": True, **values}, yes=yes)


@app.command()
def reject(
    environment: EnvironmentName,
    by: Annotated[str, typer.Option(help="Who rejects, for the record.")],
    comment: Annotated[str, typer.Option(help="For the record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask back.")] = False,
) -> None:
    """Show the question of the release that waits, and reject it: everything stays as it is."""
    _answer(environment, {"approve": False, "approver": by, "comment": comment}, yes=yes)


def _answer(environment: str, values: dict[str, Any], *, yes: bool) -> None:
    release = waiting(_ledger(environment))
    console.print(Markdown(question_of(release)))
    verb = "approve" if values["approve"] else "reject"
    if not yes:
        typer.confirm(f"{verb} {release.ref} for {environment}?", abort=True)
    with prefect_api() as api:
        answer(api, release, values)
    console.print(f"answered; `runbook report {environment} {release.id}` shows how it goes on", highlight=False)


@app.command()
def report(
    environment: EnvironmentName,
    release_id: Annotated[str, typer.Argument(help="The release; none: the newest one.")] = "",
) -> None:
    """Show the report of a release."""
    ledger = _ledger(environment)
    release = ledger.load(release_id) if release_id else next(ledger.newest(), None)
    if release is None:
        console.print(f"no release of {environment} yet")
        return
    console.print(Markdown(without_charts(release_report(release))))


@app.command()
def monitor(
    replay: Annotated[str, typer.Option(help="The environment whose past is judged.")],
    at: Annotated[datetime, typer.Option(help="When a migration would have happened, in UTC.")],
) -> None:
    """Judge the past as if a migration had happened then, by the same judge and the history before that moment."""
    from tasks.monitor.replay import replay as judge_again  # noqa: PLC0415 - pandas takes a second to import

    found = judge_again(load(replay), at if at.tzinfo else at.replace(tzinfo=UTC))
    alarmed = f"{found.verdict} at {found.alarmed_at:%Y-%m-%d %H:%M:%S} UTC" if found.alarmed_at else found.verdict
    console.print(f"{alarmed}: {found.intervals} intervals, {found.days:.1f} days of history before", highlight=False)
    if found.metric:
        console.print(f"most weighs {found.metric}, evidence in all {found.evidence:.3g}", highlight=False)


@app.command()
def releases(environment: EnvironmentName) -> None:
    """List the releases of an environment, newest first."""
    for release in _ledger(environment).newest():
        console.print(f"{release.id}  {release.status:9} {release.ref} ({release.commit[:12]})", highlight=False)


def _show_reports(api: httpx.Client, run: Run) -> None:
    for text in reports_of(api, run):
        console.print(Markdown(without_charts(text)))


def _ledger(environment: str) -> Ledger:
    return Ledger(Bucket(load(environment).storage), environment)
