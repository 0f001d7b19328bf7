"""Who is asked about what, for how long an approval holds, and what is no answer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tasks.approve.answer import Answer, mistake
from tasks.approve.question import question, still_holds, unasked, unasked_up_to
from tasks.release.decisions import Approved
from tasks.release.environment import Risk as Limits
from tasks.release.errors import RefusedError
from tasks.release.release import StageRun
from tasks.release.rules import refuse_unapproved
from tests.builders import AT, backup, environment, finding, plan, rehearsal, rehearsed, release, risk

LABEL = "documents.0002_document_category"
LIMITS = Limits(medium="low-traffic window", high="approval")


def judged(*findings: Any, **changes: Any) -> Any:
    return release(plan=plan(LABEL), risk=risk(*findings, labels=(LABEL,), limits=LIMITS), **changes)


def approval(**changes: Any) -> Approved:
    return Approved.model_validate({"asked": True, "by": "Ada", "level": "medium", "answered_at": AT} | changes)


@pytest.mark.parametrize(
    ("ask", "severity", "asked"),
    [
        ("always", None, True),
        ("when demanded", "medium", False),
        ("when demanded", "high", True),
        ("never", "high", False),
    ],
)
def test_the_environment_says_who_is_asked(ask: str, severity: str | None, asked: bool) -> None:
    findings = [finding(severity=severity)] if severity else []
    given = unasked(environment(approval={"ask": ask}), judged(*findings), AT)
    assert (given is None) == asked
    assert given is None or not given.asked


def test_without_being_asked_a_release_goes_on_up_to_what_demands_an_approval() -> None:
    demanded = environment(approval={"ask": "when demanded"})
    assert unasked_up_to(demanded, LIMITS) == "medium"
    assert unasked_up_to(demanded, Limits(medium="approval", high="approval")) == "low"
    assert unasked_up_to(demanded, Limits()) == "high"
    assert unasked_up_to(environment(approval={"ask": "never"}), LIMITS) == "high"


def test_an_approval_holds_up_to_its_level() -> None:
    worse = rehearsal(rehearsed(blocking_s=9.0))  # longer than a table may be blocked
    refuse_unapproved(judged(approval=approval(), rehearsal=rehearsal()))
    refuse_unapproved(judged(approval=approval(level="high", maintenance_window=True), rehearsal=worse))
    with pytest.raises(RefusedError, match="is of high risk by now, Ada approved a medium one"):
        refuse_unapproved(judged(approval=approval(), rehearsal=worse))
    with pytest.raises(RefusedError, match="was not approved"):
        refuse_unapproved(judged())


def test_an_approval_is_asked_for_again_when_it_is_old_or_outgrown_unless_the_code_is_in_place() -> None:
    place = environment(approval={"expires_s": 3600})
    late = AT + timedelta(hours=1)
    begun = {"stages": {"code": StageRun(attempts=1, began_at=AT)}}
    assert not still_holds(place, judged(), AT)
    assert still_holds(place, judged(approval=approval()), AT)
    assert not still_holds(place, judged(approval=approval()), late)
    assert still_holds(place, judged(approval=approval(), **begun), late)
    assert still_holds(place, judged(approval=approval(asked=False)), late)
    assert not still_holds(place, judged(approval=approval(), rehearsal=rehearsal(rehearsed(blocking_s=9.0))), AT)
    with pytest.raises(RefusedError, match="nobody can be asked"):
        judged(**begun).asks(question(place, judged(), "run", AT))


def test_maintenance_mode_that_nobody_allowed_is_asked_for_though_the_level_is_the_same() -> None:
    slow = {"rehearsal": rehearsal(rehearsed(blocking_s=60.0, seconds=60.0))}
    high = approval(level="high")
    assert not still_holds(environment(), judged(approval=high, **slow), AT)
    with pytest.raises(RefusedError, match="needs maintenance mode by now, which Ada did not allow"):
        refuse_unapproved(judged(approval=high, **slow))
    for allowed in (high.model_copy(update={"maintenance_window": True}), approval(level="high", asked=False)):
        refuse_unapproved(judged(approval=allowed, **slow))


def test_a_question_on_a_backup_stands_no_longer_than_that_is_good_for() -> None:
    place = environment(backup={"max_age_s": 3600}, approval={"expires_s": 7200})
    made = backup(started_at=AT - timedelta(minutes=50))
    assert question(place, judged(), "run", AT).expires_at == AT + timedelta(hours=2)
    assert question(place, judged(backup=made), "run", AT).expires_at == AT + timedelta(minutes=10)


def test_a_new_question_takes_an_approval_back() -> None:
    asked = question(environment(), judged(), "run", AT)
    waiting = judged(approval=approval()).asks(asked)
    assert (waiting.status, waiting.approval, waiting.asked) == ("waiting", None, asked)
    assert asked.expired(asked.expires_at)
    assert not asked.expired(asked.expires_at - timedelta(seconds=1))


def test_an_approval_needs_a_name_somebody_on_standby_and_the_window_that_is_demanded() -> None:
    asked = question(environment(), judged(), "run", AT)
    window = asked.model_copy(update={"demands": ("maintenance window",)})
    good = {"approve": True, "approver": "Ada", "standby": "Grace"}
    assert mistake(Answer(**good), asked) == ""
    assert "a name" in mistake(Answer(**good | {"approver": "   "}), asked)
    assert "on standby" in mistake(Answer(**good | {"standby": "  "}), asked)
    assert "maintenance mode" in mistake(Answer(**good), window)
    assert mistake(Answer(**good, maintenance_window=True), window) == ""
    assert mistake(Answer(approver="Ada"), window) == ""  # a rejection needs neither
