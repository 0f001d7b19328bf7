"""What a person answers, and whether it is an answer."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from tasks.release.checklist import MAINTENANCE
from tasks.release.decisions import Approved, Asked
from tasks.release.errors import RefusedError
from tasks.release.release import Release

NAME_LENGTH = 2  # characters at least: initials
TEXT_LENGTH = 2_000  # characters at most: it goes into the record and into every report


class Answer(BaseModel):
    """The form. Prefect checks it by its JSON schema only, which knows no "one of them if the other": see `mistake`."""

    approve: bool = Field(False, title="Approve", description="yes: deploy it; no: everything stays as it is")
    approver: str = Field(
        title="Your name", min_length=NAME_LENGTH, max_length=TEXT_LENGTH, description="goes into the record"
    )
    standby: str = Field(
        "",
        title="On standby",
        max_length=TEXT_LENGTH,
        description="who watches and can act until it is over; an approval needs somebody",
    )
    maintenance_window: bool = Field(
        False, title="Maintenance mode", description="it may be switched on now, for as long as the release needs it"
    )
    comment: str = Field("", title="Comment", max_length=TEXT_LENGTH)


def mistake(answer: Answer, question: Asked) -> str:
    """What is wrong with an answer, in a sentence; empty: nothing."""
    if len(answer.approver.strip()) < NAME_LENGTH:
        return "who answers has to give a name"
    if not answer.approve:
        return ""
    if len(answer.standby.strip()) < NAME_LENGTH:
        return "an approval names who is on standby"
    if MAINTENANCE in question.demands and not answer.maintenance_window:
        return "this release needs maintenance mode: an approval allows it, or the release is rejected"
    return ""


def approved(answer: Answer, question: Asked, at: datetime) -> Approved:
    """The approval that an answer without a mistake gives.

    Raises:
        RefusedError: It came too late, or it rejects the release.
    """
    who = " ".join(answer.approver.split())
    comment = " ".join(answer.comment.split())
    if question.expired(at):
        raise RefusedError(
            f"the question expired at {question.expires_at:%Y-%m-%d %H:%M:%S} UTC; the answer of {who} came too late",
            hint="nothing was deployed. Deploy the same ref again, which asks again",
        )
    if not answer.approve:
        raise RefusedError(
            f"rejected by {who}" + (f": {comment}" if comment else ""),
            hint="nothing was deployed. When the reason is gone, deploy the same ref again, which asks again",
        )
    return Approved(
        asked=True,
        by=who,
        standby=" ".join(answer.standby.split()),
        comment=comment,
        maintenance_window=answer.maintenance_window,
        level=question.level,
        answered_at=at,
    )


def refuse_what_is_over(release: Release, flow_run_id: str) -> None:
    """Refuse to go on by an answer that is no longer waited for.

    Raises:
        RefusedError: Another run asked since.
    """
    if release.asked and release.asked.flow_run_id != flow_run_id:
        raise RefusedError(
            f"release {release.id} was taken over by another run, which asked by itself",
            hint="answer that one: `runbook approve` shows it",
        )
