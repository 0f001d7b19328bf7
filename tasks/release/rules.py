"""Rules of the runbook that more than one stage holds to."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.release.backup import Backup
from tasks.release.checklist import MAINTENANCE, checklist
from tasks.release.environment import Environment
from tasks.release.errors import RefusedError, StaleBackupError
from tasks.release.plan import Plan
from tasks.release.release import Release
from tasks.release.risk import LEVELS


def proved(release: Release) -> tuple[Plan, Backup]:
    """The plan and the backup of a release: neither code nor migrations without them.

    Raises:
        RefusedError: One is missing, or the backup was not proved.
    """
    if release.plan is None or release.backup is None or release.verification is None:
        raise RefusedError(
            f"release {release.id} has no plan, or no backup that was proved: nothing is deployed without",
            hint="run the flow from its beginning with the same release id",
        )
    return release.plan, release.backup


def blocking(release: Release) -> tuple[str, ...]:
    """What blocks a release, a sentence each, by what is known of its migrations so far; empty: nothing."""
    if release.plan is None or release.risk is None:
        return ()
    if checklist(release.plan, release.risk, release.rehearsal).level != "blocked":
        return ()
    found = [
        f"{finding.migration}: {finding.message}"
        for finding in release.risk.findings
        if finding.severity == "blocked" and finding.suppressed is None
    ]
    if release.rehearsal:
        found += [f"{one.migration} on the backup: {one.error}" for one in release.rehearsal.migrations if one.error]
    return tuple(found)


def refuse_blocked(release: Release) -> None:
    """Refuse a release whose migrations would fail.

    Raises:
        RefusedError: It was not judged, or a finding or the rehearsal blocks it; nothing of it was deployed.
    """
    if release.plan is None or release.risk is None:
        raise RefusedError(
            f"release {release.id} was not judged: nothing is deployed without",
            hint="run the flow from its beginning with the same release id",
        )
    if found := blocking(release):
        raise RefusedError(
            f"{release.ref} is blocked: " + "; ".join(found),
            hint=f"nothing was deployed. `runbook report {release.environment}` says what to do about each: mend the"
            " migration and deploy the mended ref, or mend the data and deploy this one again, which judges it anew",
        )


def refuse_stale(environment: Environment, release: Release) -> None:
    """Refuse to begin a migration on a backup that is too old.

    Raises:
        StaleBackupError: Rows written since would be at risk.
    """
    plan, backup = proved(release)
    age_s = (datetime.now(UTC) - backup.started_at).total_seconds()
    if plan.pending and age_s > environment.backup.max_age_s:
        raise StaleBackupError(
            f"the backup of release {release.id} is {age_s / 60:.0f} minutes old, allowed are"
            f" {environment.backup.max_age_s / 60:.0f}: rows written since are at risk",
            hint="`--release-id new` starts a new release with a new backup; where backup and proof take longer than"
            " that, [backup] max_age_s has to be longer too",
        )


def outgrown(release: Release) -> str:
    """In a sentence, why the approval of a release holds no longer, risking or demanding more now; empty: it holds."""
    if release.plan is None or release.risk is None or release.approval is None:
        return ""
    made = checklist(release.plan, release.risk, release.tried)
    level, approved = made.level, release.approval
    if LEVELS.index(level) > LEVELS.index(approved.level):
        up_to = f"{approved.by} approved" if approved.asked else "nobody was asked, which is allowed for"
        return f"{release.ref} is of {level} risk by now, {up_to} a {approved.level} one"
    if approved.asked and MAINTENANCE in made.demands and not approved.maintenance_window:
        return f"{release.ref} needs maintenance mode by now, which {approved.by} did not allow"
    return ""


def refuse_unapproved(release: Release) -> None:
    """Refuse a release that risks more than what was approved, or demands maintenance mode that was not allowed.

    Raises:
        RefusedError: It was not approved, or the rehearsal found more than the approval holds up to.
    """
    if release.approval is None:
        raise RefusedError(
            f"release {release.id} was not approved: nothing is deployed without",
            hint="run the flow from its beginning with the same release id",
        )
    if why := outgrown(release):
        raise RefusedError(
            f"{why}; nothing was deployed",
            hint=f"`runbook report {release.environment}` shows what the rehearsal found; deploy the same ref again,"
            " which asks for an approval of that",
        )
