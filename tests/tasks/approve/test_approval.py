"""Approval on a real Prefect server: a run is suspended, a person answers by REST, and only a good answer goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tasks.release.errors import CodeError, RefusedError
from tasks.release.release import Release
from tasks.store.ledger import now
from tests.tasks.approve.conftest import Deployed

YES = {"approve": True, "approver": "Ada", "standby": "Grace", "comment": "go"}


def test_an_approved_release_goes_on_in_the_same_record(asking: Deployed) -> None:
    run = asking.ask(release_id="new")
    waiting = asking.release
    assert waiting.asked is not None
    assert (waiting.asked.flow_run_id, waiting.asked.level) == (run, "low")
    assert waiting.asked.expires_at - waiting.asked.asked_at == timedelta(hours=4)
    assert asking.state_of(run) == "Suspended"
    shown = asking.api.get(f"/flow_runs/{run}/input/suspended-{waiting.asked.key}-description").json()
    assert "documents.0002_document_category" in shown
    assert "Team members on standby" in shown

    # The server itself takes nothing that the form would not.
    assert asking.answer(run, approve=True) == "REJECT"
    assert asking.answer(run, **YES | {"approver": "x"}) == "REJECT"
    assert asking.state_of(run) == "Suspended"

    assert asking.answer(run, **YES) == "ACCEPT"
    asking.go_on(run)
    release = asking.release
    assert (release.id, release.status) == (waiting.id, "finished")
    assert release.approval is not None
    assert (release.approval.by, release.approval.standby, release.approval.comment) == ("Ada", "Grace", "go")
    assert release.approval.level == "low"
    assert release.stages["approval"].attempts == release.stages["plan"].attempts == 1
    assert any("approved by Ada" in line.what for line in release.timeline)


def test_a_rejected_release_leaves_everything_as_it_was(asking: Deployed) -> None:
    run = asking.ask()
    assert asking.answer(run, approver="Ada", comment="not on a Friday") == "ACCEPT"
    with pytest.raises(RefusedError, match="rejected by Ada: not on a Friday"):
        asking.go_on(run)
    release = asking.release
    assert (release.status, release.approval, release.code, release.backup) == ("failed", None, None, None)
    assert "rejected by Ada" in release.timeline[-1].what
    assert asking.site.checkout.commit == asking.site.commit_of("v1.0")

    # Once the reason is gone, the same release asks again.
    second = asking.ask()
    assert asking.release.id == release.id
    assert asking.answer(second, **YES) == "ACCEPT"
    asking.go_on(second)
    assert asking.release.status == "finished"


def test_an_approval_that_comes_too_late_does_not_count(asking: Deployed) -> None:
    run = asking.ask()
    asking.site.ledger.update(asking.release.id, _expired)
    assert asking.answer(run, **YES) == "ACCEPT"
    with pytest.raises(RefusedError, match="the question expired"):
        asking.go_on(run)
    release = asking.release
    assert (release.status, release.approval) == ("failed", None)


def test_an_approval_without_anybody_on_standby_is_asked_for_again(asking: Deployed) -> None:
    run = asking.ask()
    first = asking.release.asked
    assert asking.answer(run, **YES | {"standby": " "}) == "ACCEPT"  # no schema can say that this is wrong
    asking.suspends(run)
    again = asking.release.asked
    assert first is not None
    assert again is not None
    assert again.expires_at == first.expires_at
    shown = asking.api.get(f"/flow_runs/{run}/input/suspended-{again.key}-description").json()
    assert "an approval names who is on standby" in shown
    assert asking.answer(run, **YES) == "ACCEPT"
    asking.go_on(run)
    assert asking.release.status == "finished"


def test_a_release_that_waits_belongs_to_the_run_that_asked(asking: Deployed) -> None:
    run = asking.ask()
    other = asking.create()
    with pytest.raises(RefusedError, match="waits for an approval"):
        asking.go_on(other)
    assert asking.release.status == "waiting"

    asking.ask(release_id="new")  # a person gives the question up
    assert asking.answer(run, **YES) == "ACCEPT"
    with pytest.raises(RefusedError, match="waits for nobody any more"):
        asking.go_on(run)
    superseded, new = list(asking.site.ledger.newest())[::-1]
    assert (superseded.status, new.status) == ("failed", "waiting")


def test_what_changed_while_it_waited_is_found_when_it_goes_on(asking: Deployed) -> None:
    run = asking.ask()
    asking.site.publish({"README": "another"}, on="v1.1", tag="v1.1.1")
    asking.site.check_out("v1.1.1")
    assert asking.answer(run, **YES) == "ACCEPT"
    with pytest.raises((RefusedError, CodeError), match="the checkout is at"):
        asking.go_on(run)
    assert asking.release.approval is None


def test_nobody_is_asked_where_nothing_demands_it(asking: Deployed) -> None:
    asking.site.configure(approval={"ask": "when demanded"})
    asking.go_on(asking.create())
    release = asking.release
    assert release.approval is not None
    assert (release.status, release.approval.asked, release.approval.level) == ("finished", False, "medium")


def _expired(record: Release) -> Release:
    assert record.asked is not None
    return record.model_copy(update={"asked": record.asked.model_copy(update={"expires_at": now()})})
