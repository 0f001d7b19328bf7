"""Whether a person is asked about a release, up to which risk nobody is, and the question itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from tasks.markdown.risk import EVIDENCE_LIMIT, TICKS
from tasks.markdown.text import cell, code, duration, moment, table
from tasks.release.checklist import MAINTENANCE, Box, Checklist, checklist
from tasks.release.decisions import Approved, Asked
from tasks.release.environment import Environment
from tasks.release.environment import Risk as Limits
from tasks.release.errors import RefusedError
from tasks.release.release import Release
from tasks.release.risk import LEVELS, Level
from tasks.release.rules import outgrown

CONDITIONS = (
    "The approval holds up to this risk: where the rehearsal on the environment's own backup finds more, the release is"
    " refused, and asks again when it is deployed again. An answer without *Approve* rejects it, and everything stays"
    " as it is."
)


def checklist_of(release: Release) -> Checklist:
    """The checklist by what is known until now.

    Raises:
        RefusedError: The release was not planned or not judged.
    """
    if release.plan is None or release.risk is None:
        raise RefusedError(
            f"release {release.id} was not judged: nobody can be asked about it",
            hint="run the flow from its beginning with the same release id",
        )
    return checklist(release.plan, release.risk, release.tried)


def must_ask(environment: Environment, made: Checklist) -> bool:
    """Whether the environment wants a person's approval of this checklist."""
    asks = environment.approval.ask
    return asks == "always" or (asks == "when demanded" and "approval" in made.demands)


def unasked_up_to(environment: Environment, limits: Limits) -> Level:
    """The highest risk that goes on without anybody being asked."""
    if environment.approval.ask == "never":
        return "high"
    demands = {"low": "nothing", "medium": limits.medium, "high": limits.high}
    up_to: Level = "low"
    for level in LEVELS[: LEVELS.index("blocked")]:
        if demands[level] == "approval":
            break
        up_to = level
    return up_to


def still_holds(environment: Environment, release: Release, at: datetime) -> bool:
    """Whether the approval of a release is still good to begin on.

    One of yesterday is not: whoever was on standby then has gone home. Once the code is being deployed, going on is
    safer than to stop in the middle.
    """
    approval = release.approval
    if approval is None:
        return False
    if "code" in release.stages:
        return True
    age = at - approval.answered_at
    return not outgrown(release) and (not approval.asked or age < timedelta(seconds=environment.approval.expires_s))


def unasked(environment: Environment, release: Release, at: datetime) -> Approved | None:
    """The approval of a release that nobody has to be asked about; None: somebody has to."""
    made = checklist_of(release)
    if must_ask(environment, made) or release.risk is None:
        return None
    return Approved(asked=False, level=unasked_up_to(environment, release.risk.limits), answered_at=at)


def question(environment: Environment, release: Release, flow_run_id: str, at: datetime) -> Asked:
    """The question of a flow run about a release.

    Where it is asked a second time, on a backup of its own, it stands no longer than that is good to migrate on.
    """
    made = checklist_of(release)
    expires_at = at + timedelta(seconds=environment.approval.expires_s)
    if release.backup:
        expires_at = min(expires_at, release.backup.started_at + timedelta(seconds=environment.backup.max_age_s))
    return Asked(
        flow_run_id=flow_run_id,
        level=made.level,
        demands=made.demands,
        asked_at=at,
        expires_at=expires_at,
    )


def described(release: Release, asked: Asked, problem: str = "") -> str:
    """The question as a person reads it, in Markdown.

    Args:
        release: What is asked about.
        asked: The question.
        problem: What was wrong with the answer before.
    """
    made = checklist_of(release)
    facts = (
        f"{code(release.commit[:12])} takes the place of {code(release.previous_commit[:12])}",
        f"asked for by {cell(release.requested_by)}",
        f"an answer counts until **{moment(asked.expires_at)}**",
    )
    rows = [
        (code(one.label), "; ".join(cell(operation["describe"]) for operation in one.operations) or "nothing")
        for one in (release.plan.pending if release.plan else ())
    ]
    parts = [
        f"> **The last answer could not be taken: {cell(problem)}.**" if problem else "",
        f"# {cell(release.ref)} to {cell(release.environment)}?",
        " · ".join(facts),
        _downtime(release, made),
        table(("Migration", "Does"), rows) if rows else "No migration is pending: the database stays as it is.",
        f"**Risk: {made.level}** · this environment demands: {', '.join(made.demands)}",
        # Two columns: the form is narrow.
        table(
            ("Checklist", "Evidence"),
            [(f"{TICKS[box.tick]}: {cell(box.question)}", _evidence(box)) for box in made.boxes],
        ),
        _prerequisites(release),
        CONDITIONS,
    ]
    return "\n\n".join(part for part in parts if part)


def _evidence(box: Box) -> str:
    told = [cell(sentence) for sentence in box.evidence[:EVIDENCE_LIMIT]]
    more = len(box.evidence) - EVIDENCE_LIMIT
    return "; ".join([*told, *([f"and {more} more"] if more > 0 else [])])


def _downtime(release: Release, made: Checklist) -> str:
    if not (release.plan and release.plan.pending):
        return "**Estimated downtime:** none"
    tried = release.tried
    if tried is None:
        return "**Estimated downtime:** unknown, the migrations were not tried yet"
    seconds = sum(one.seconds or 0 for one in tried.migrations)
    blocked = max((one.blocking_s or 0 for one in tried.migrations), default=0)
    window = f"{duration(seconds)} of maintenance mode" if MAINTENANCE in made.demands else "none"
    return (
        f"**Estimated downtime:** {window}; the migrations took {duration(seconds)} where they were tried, and kept one"
        f" table from its readers or writers for {duration(blocked)} at most"
    )


def _prerequisites(release: Release) -> str:
    if release.gate is None:
        return ""
    rows = [(cell(check.name), cell(check.evidence)) for check in release.gate.checks]
    return table(("Prerequisite, which holds", "Found"), rows)
