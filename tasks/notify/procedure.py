"""The rollback procedure of a release (§5), as it would be typed; attached to the notice before it (§4.2)."""

from __future__ import annotations

import shlex

from tasks.markdown.text import block, cell
from tasks.release.environment import Environment
from tasks.release.plan import Migration, Plan
from tasks.release.release import Release


def procedure(environment: Environment, release: Release) -> str:
    """The commands that take a release back, as Markdown."""
    parts = [f"## Rollback of {cell(release.ref)} on {environment.name}"]
    pending = release.plan.pending if release.plan else ()
    if release.plan and pending:
        parts += ["1. With the new code still checked out, reverse the migrations:"]
        parts += [block("\n".join(_reversals(environment, release.plan)), "bash")]
        parts += _warnings(pending)
    parts += [f"{2 if pending else 1}. Bring the previous code back:"]
    parts += [block("\n".join(_previous_code(environment, release)), "bash")]
    if pending:
        storage = environment.storage
        parts.append(
            "Where that loses data or cannot be done, the backup that the release makes before its migrations is"
            f" restored: it lies below `{storage.key('backups')}/` in the bucket `{storage.bucket}`;"
            f" `runbook report {environment.name}` names it."
        )
    text = "\n\n".join(parts) + "\n"
    return environment.redacted(text)  # a command of the environment file may hold what it should not


def _reversals(environment: Environment, plan: Plan) -> list[str]:
    """`migrate <app> <target>`, the app that was migrated last first."""
    python = environment.app.python
    command = [part.replace("{python}", python) for part in environment.app.manage]
    settings = [f"--settings={environment.app.settings}"] if environment.app.settings else []
    apps = list(dict.fromkeys(migration.app for migration in reversed(plan.pending)))
    migrate = [shlex.join([*command, "migrate", *settings, app, _target(plan, app)]) for app in apps]
    return [shlex.join(["cd", str(environment.app.directory)]), *migrate]


def _target(plan: Plan, app: str) -> str:
    """The migration of an app that stands applied last before the release."""
    applied = [entry.name for entry in plan.listed if entry.app == app and entry.applied]
    return applied[-1] if applied else "zero"


def _warnings(pending: tuple[Migration, ...]) -> list[str]:
    stuck = [one for one in pending if one.reversible is not True]
    return [
        f"⚠ {cell(one.label)} "
        + ("cannot be reversed" if one.reversible is False else "may not be reversible: it could not be rendered")
        + (f": {cell(one.irreversible_because)}" if one.irreversible_because else "")
        for one in stuck
    ]


def _previous_code(environment: Environment, release: Release) -> list[str]:
    app = environment.app
    places = {"{python}": app.python, "{directory}": str(app.directory)}
    reload = [_filled(part, places) for part in app.reload]
    return [
        shlex.join(["git", "-C", str(app.directory), "checkout", "--detach", release.previous_commit]),
        *([shlex.join(reload)] if reload else []),
    ]


def _filled(part: str, places: dict[str, str]) -> str:
    for placeholder, value in places.items():
        part = part.replace(placeholder, value)
    return part
