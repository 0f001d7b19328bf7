"""The order of code and migrations, by what the rehearsal measured: at every moment the service must work."""

from __future__ import annotations

from typing import Literal

from tasks.release.checklist import MAINTENANCE, checklist
from tasks.release.errors import RefusedError
from tasks.release.rehearsal import MigrationRehearsal
from tasks.release.release import Release

Way = Literal["migrate first", "code first", "in maintenance"]
SHUT = (
    "or deploy it with `--release-id new`, which asks anew, and let whoever approves it allow maintenance mode"
    " (`maintenance_window` in the form)"
)


def needs_maintenance(release: Release) -> bool:
    """Whether the application is shut for this release: the checklist demands it, or a person has allowed it."""
    if release.approval and release.approval.maintenance_window:
        return True
    if release.plan is None or release.risk is None:
        return False
    return MAINTENANCE in checklist(release.plan, release.risk, release.tried).demands


def way_of(release: Release) -> Way:
    """In which order code and migrations of a release are brought out.

    Migrations that the serving code does not mind come first, and the code after them. Those that it minds come after
    the new code, if that works without them. While the application is shut for maintenance nobody minds anything.

    Raises:
        RefusedError: No order keeps the service at work; says how to split the release.
    """
    if release.plan is None or not release.plan.pending:
        return "migrate first"
    if needs_maintenance(release):
        return "in maintenance"
    tried = {one.migration: one for one in release.tried.migrations} if release.tried else {}
    records = [(migration.label, tried.get(migration.label)) for migration in release.plan.pending]
    unknown = [label for label, record in records if record is None or record.backward_compatible is None]
    if unknown:
        raise RefusedError(
            f"whether the serving code can go on during {', '.join(unknown)} is not known: the order of code and"
            " migrations cannot be chosen",
            hint=f'have them rehearsed ([backup] verify = "restored"), {SHUT}',
        )
    contracting = [label for label, record in records if record and record.backward_compatible is False]
    if not contracting:
        return "migrate first"
    expanding = [label for label, _ in records if label not in contracting]
    if expanding:
        raise RefusedError(
            f"the serving code minds {', '.join(contracting)} and the new code may need {', '.join(expanding)}: there"
            " is no order of code and migrations in which the service works all the time",
            hint=f"split it: first a release with {', '.join(expanding)} and code that no longer needs what"
            f" {', '.join(contracting)} take away, then a release with {', '.join(contracting)}; {SHUT}",
        )
    _refuse_what_is_needed(release, contracting, [record for _, record in records if record])
    return "code first"


def _refuse_what_is_needed(release: Release, contracting: list[str], records: list[MigrationRehearsal]) -> None:
    needs = release.tried.needs if release.tried else None
    broken = next((broken for record in records for broken in record.broken), None)
    minds = f"the serving code minds {', '.join(contracting)}" + (f" ({broken.what}: {broken.error})" if broken else "")
    if needs is None:
        raise RefusedError(
            f"{minds}, and whether the new code works without them is not known",
            hint=f"make them reversible, so that the rehearsal can try it, {SHUT}",
        )
    if needs:
        raise RefusedError(
            f"{minds}, and the new code does not work without them ({needs[0].what}: {needs[0].error})",
            hint=f"expand and contract: first a release whose code works with both forms, {SHUT}",
        )
