"""What is said on each occasion. Errors of programs are not quoted: they may hold rows of the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tasks.markdown.text import count, duration, moment
from tasks.notify.notice import Notice
from tasks.notify.procedure import procedure
from tasks.release.checklist import checklist
from tasks.release.environment import Environment
from tasks.release.release import Release
from tasks.release.way import needs_maintenance


def before(environment: Environment, release: Release, run_url: str = "") -> Notice:
    """§4.2: a release is about to be deployed; the rollback procedure is attached."""
    return Notice(
        occasion="before",
        subject=_subject(release),
        facts=(
            *_what(environment, release),
            ("Risk", _risk(release)),
            ("Estimated downtime", downtime(release)),
            ("Standby", _contacts(environment)),
            *_links(environment, run_url),
        ),
        rollback=procedure(environment, release),
    )


def after(environment: Environment, release: Release, run_url: str = "") -> Notice:
    """A release was deployed and serves."""
    applied, smoke = release.applied, release.smoke
    facts = (
        *_what(environment, release),
        ("Migrated in", duration(applied.seconds) if applied and release.plan and release.plan.pending else ""),
        ("Downtime", _downtime_was(release)),
        ("Smoke test", f"{count(len(smoke.answers), 'endpoint')} answered as they should" if smoke else ""),
        ("Watched", f"for {duration(environment.monitor.watch_s)} from now on" if environment.monitor.watch_s else ""),
        ("Approved", _approved(release)),
        *_links(environment, run_url),
    )
    return Notice(occasion="after", subject=f"Done: {_subject(release)}", facts=facts)


def approval(environment: Environment, release: Release, expires_at: datetime, run_url: str = "") -> Notice:
    """A release waits for a person."""
    return Notice(
        occasion="approval",
        subject=f"Approval wanted: {_subject(release)}",
        facts=(
            *_what(environment, release),
            ("Risk", _risk(release)),
            ("Estimated downtime", downtime(release)),
            ("Answer until", moment(expires_at)),
            *_links(environment, run_url),
        ),
        rollback=procedure(environment, release),
    )


def alarm(environment: Environment, release: Release, run_url: str = "") -> Notice:
    """The watch speaks against a release."""
    verdict = release.verdict
    facts = (
        *_what(environment, release),
        ("Verdict", verdict.sentence if verdict else "the release does harm"),
        (
            "Rolled back",
            ("automatically" if verdict.may_roll_back else f"by a person: {verdict.why_not}") if verdict else "",
        ),
        *_links(environment, run_url),
    )
    return Notice(
        occasion="alarm", subject=f"Alarm: {_subject(release)}", facts=facts, rollback=procedure(environment, release)
    )


def of_verdict(environment: Environment, release: Release, run_url: str = "") -> Notice | None:
    """What the end of a watch gives occasion to say; None: nobody has to know of it."""
    verdict = release.verdict
    if verdict and verdict.outcome == "convicted":
        return alarm(environment, release, run_url)
    if verdict and verdict.outcome == "inconclusive":
        hint = f"look at {environment.name} and decide whether {release.ref} stays"
        return trouble(environment, release, verdict.sentence, hint, run_url)
    return None


def trouble(environment: Environment, release: Release, what: str, hint: str = "", run_url: str = "") -> Notice:
    """Something about a release needs a person.

    Args:
        environment: Where.
        release: Which one.
        what: What happened, in words of our own: not a program's output.
        hint: What to do.
        run_url: Of the flow run that says it.
    """
    facts = (*_what(environment, release), ("Trouble", what), ("What to do", hint), *_links(environment, run_url))
    return Notice(occasion="trouble", subject=f"Trouble: {_subject(release)}", facts=facts)


def failed(environment: Environment, release: Release, run_url: str = "") -> Notice:
    """A release did not get through: at which stage, and what to do."""
    stages = [(name, run) for name, run in release.stages.items() if run.error or run.ended_at is None]
    name, run = stages[-1] if stages else ("", None)
    what = f"the stage {name} failed" if run and run.error else f"the stage {name} did not end" if name else "it failed"
    return trouble(environment, release, what, run.hint if run else "", run_url)


def downtime(release: Release) -> str:
    """The estimate of §4.2, from the rehearsal."""
    if release.plan and not release.plan.pending and not needs_maintenance(release):
        return "none: no migration"
    records = release.tried.migrations if release.tried else ()
    seconds = sum(one.seconds or 0 for one in records)
    blocking = max((one.blocking_s or 0 for one in records), default=0)
    complete = bool(records) and all(one.seconds is not None for one in records)
    if needs_maintenance(release):
        took = f"the migrations took {duration(seconds)} on the backup" if complete else "not rehearsed"
        return f"a maintenance window; {took}"
    if not complete:
        return "unknown: not rehearsed"
    return f"none; a table was blocked for {duration(blocking)} at most on the backup"


def _downtime_was(release: Release) -> str:
    closed, opened = release.maintenance, release.reopened
    if closed is None or opened is None or not closed.needed:
        return "none"
    return f"{duration((opened.at - closed.since).total_seconds())} in maintenance mode"


def _subject(release: Release) -> str:
    labels = [migration.label for migration in release.plan.pending] if release.plan else []
    kind = "migration" if labels else "release"
    what = _some(labels, 1) or "no migrations"
    return f"{release.environment.capitalize()} {kind} {release.ref}: {what}, {release.created_at:%Y-%m-%d %H:%M} UTC"


def _what(environment: Environment, release: Release) -> tuple[tuple[str, str], ...]:
    labels = [migration.label for migration in release.plan.pending] if release.plan else []
    return (
        ("What", f"{release.ref} ({release.commit[:12]}) to {environment.name}, release {release.id}"),
        ("Migrations", _some(labels, 20) or "none"),
        ("Begun", f"{moment(release.created_at)} by {release.requested_by}"),
    )


def _some(labels: Sequence[str], most: int) -> str:
    more = len(labels) - most
    return ", ".join(labels[:most]) + (f" and {more} more" if more > 0 else "")


def _risk(release: Release) -> str:
    if release.plan is None or release.risk is None:
        return "not judged"
    found = checklist(release.plan, release.risk, release.tried)
    demands = [demand for demand in found.demands if demand != "nothing"]
    return found.level + (f"; demands: {', '.join(demands)}" if demands else "")


def _approved(release: Release) -> str:
    given = release.approval
    if given is None or not given.asked:
        return ""
    return f"by {given.by}" + (f"; {given.standby} stands by" if given.standby else "")


def _contacts(environment: Environment) -> str:
    return ", ".join(one.name + (f" ({one.role})" if one.role else "") for one in environment.contacts)


def _links(environment: Environment, run_url: str) -> tuple[tuple[str, str], ...]:
    return ("Run", run_url), ("Report", f"runbook report {environment.name}")
