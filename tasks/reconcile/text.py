"""What people are told of what a sweep found, and the page of one sweep."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.database.applied import applied_of
from tasks.markdown.text import cell, table
from tasks.reconcile.hands import Message
from tasks.reconcile.trouble import Outcome, Trouble
from tasks.release.environment import Environment
from tasks.release.errors import RunbookError
from tasks.release.people import Occasion
from tasks.release.release import Release


def message(
    environment: Environment, trouble: Trouble, *facts: tuple[str, str], occasion: Occasion = "trouble"
) -> Message:
    """What people are told of a trouble: what is wrong, then these facts."""
    what = _sentence(trouble.what)
    return Message(occasion, f"{_sentence(environment.name)}: {what}", (("What", what), *facts))


def go_on(release: Release) -> str:
    """What to type so that a release goes on."""
    return (
        "run it again, it goes on where it ended and repeats nothing: runbook deploy"
        f" {release.environment} --ref {release.ref} --release-id {release.id}"
    )


def standing(environment: Environment, release: Release) -> str:
    """Which migrations of a release that died stand applied: what the application meets by now."""
    if release.plan is None or not release.plan.pending or "applied" not in release.stages:
        return "none of its migrations was begun"
    planned = [migration.label for migration in release.plan.pending]
    try:
        there = applied_of(environment.database, release.migrations_schema, planned)
    except RunbookError as error:
        return f"could not be found out: {error.message}"
    left = [label for label in planned if label not in there]
    done = ", ".join(label for label in planned if label in there)
    if not done:
        return f"none of its migrations; {', '.join(left)} would follow"
    if not left:
        return f"all of its migrations: {done}"
    return f"A PART of its migrations: {done}. Not applied: {', '.join(left)}"


def page(environment: str, outcomes: Sequence[Outcome]) -> str:
    """What one sweep found and did."""
    rows = [(cell(_sentence(one.trouble.what)), cell(one.did or "nothing"), cell(one.error)) for one in outcomes]
    return f"# Sweep of {cell(environment)}\n\n" + table(("Found", "Done", "Failed"), rows)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
