"""What notices say: the facts of the release, the way back, and nothing that must not be said."""

from __future__ import annotations

import pytest

from tasks.notify import text
from tasks.notify.notice import Notice
from tasks.notify.procedure import procedure
from tasks.release.decisions import Approved, Closed, Reopened
from tasks.release.environment import Environment
from tasks.release.plan import Listed
from tasks.release.watch import Outcome, Verdict
from tests import builders

LABELS = ("documents.0004_pinned", "conversations.0002_title")
SECRET = "hunter2-hunter2"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("TEST_DATABASE_PASSWORD", SECRET)
    return builders.environment(
        app={"settings": "shop.settings", "reload": ["systemctl", "reload", "shop", f"--token={SECRET}"]},
        database={"password": {"env": "TEST_DATABASE_PASSWORD"}},
        contacts=[{"name": "Ada", "role": "DBA", "email": "ada@example.com"}],
        monitor={"watch_s": 7200},
    )


def planned(**changes: object) -> dict[str, object]:
    listed = (Listed(app="documents", name="0003_category", applied=True), *builders.plan(*LABELS).listed)
    return {"plan": builders.plan(*LABELS, listed=listed), "risk": builders.risk(), "ref": "v1.2"} | changes


def test_the_notice_before_has_what_the_runbook_asks_for(environment: Environment) -> None:
    rehearsal = builders.rehearsal(*(builders.rehearsed(label) for label in LABELS))
    notice = text.before(environment, builders.release(**planned(rehearsal=rehearsal)), "http://ui/run")
    assert notice.headline == ("Staging migration v1.2: documents.0004_pinned and 1 more, 2026-11-22 03:00 UTC")
    facts = dict(notice.facts)
    assert facts["Migrations"] == "documents.0004_pinned, conversations.0002_title"
    assert facts["Risk"] == "low"
    assert facts["Estimated downtime"] == "none; a table was blocked for 10 ms at most on the backup"
    assert facts["Standby"] == "Ada (DBA)"
    assert facts["Run"] == "http://ui/run"
    assert "migrate --settings=shop.settings conversations zero" in notice.rollback
    assert "**Risk:** low" in notice.markdown
    assert "Risk: low\n" in notice.plain


def test_the_procedure_is_what_would_be_typed_in_that_order_and_holds_no_secret(environment: Environment) -> None:
    stuck = builders.migration("documents.0005_gone", reversible=False, irreversible_because="RunSQL without a reverse")
    plan = builders.plan(*LABELS)
    plan = plan.model_copy(
        update={
            "pending": (*plan.pending, stuck),
            "listed": (Listed(app="documents", name="0003_category", applied=True), *plan.listed),
        }
    )
    page = procedure(environment, builders.release(plan=plan))
    typed = [line for line in page.splitlines() if " migrate " in line or "checkout" in line or "reload" in line]
    assert typed == [
        ".venv/bin/python manage.py migrate --settings=shop.settings documents 0003_category",
        ".venv/bin/python manage.py migrate --settings=shop.settings conversations zero",
        f"git -C /somewhere/app checkout --detach {builders.BEFORE}",
        "systemctl reload shop --token=******",
    ]
    assert "documents.0005_gone cannot be reversed: RunSQL without a reverse" in page


def test_the_notice_after_tells_the_downtime_that_was(environment: Environment) -> None:
    closed = Closed(since=builders.AT, how="command", needed=True)
    opened = Reopened(at=builders.AT.replace(minute=1), by="the release")
    approved = Approved(asked=True, by="bob", standby="ada", level="high", answered_at=builders.AT)
    done = planned(
        applied=builders.applied(*LABELS),
        smoke=builders.smoked(),
        maintenance=closed,
        reopened=opened,
        approval=approved,
    )
    facts = dict(text.after(environment, builders.release(**done)).facts)
    assert facts["Downtime"] == "60.0 s in maintenance mode"
    assert facts["Approved"] == "by bob; ada stands by"
    assert facts["Watched"] == "for 120 min 0 s from now on"


def test_a_window_that_a_person_allowed_is_downtime(environment: Environment) -> None:
    approved = Approved(asked=True, by="bob", maintenance_window=True, level="high", answered_at=builders.AT)
    assert text.downtime(builders.release(**planned(approval=approved))).startswith("a maintenance window")
    assert text.downtime(builders.release(**planned())) == "unknown: not rehearsed"
    assert text.downtime(builders.release(plan=builders.plan())) == "none: no migration"


def test_a_failure_names_the_stage_and_quotes_no_row(environment: Environment) -> None:
    broken = builders.release(**planned()).began("applied", builders.AT)
    broken = broken.failed("applied", "DETAIL: Key (email)=(eve@example.com) exists", builders.AT, "mend the data")
    notice = text.failed(environment, broken)
    assert ("Trouble", "the stage applied failed") in notice.facts
    assert ("What to do", "mend the data") in notice.facts
    assert "eve@" not in notice.plain + notice.markdown + notice.headline


@pytest.mark.parametrize(
    ("outcome", "occasion"),
    [("convicted", "alarm"), ("inconclusive", "trouble"), ("passed", None), ("superseded", None)],
)
def test_the_end_of_a_watch_is_told_where_it_asks_for_a_person(
    environment: Environment, outcome: Outcome, occasion: str | None
) -> None:
    verdict = Verdict(
        outcome=outcome,
        sentence="5% of the requests fail",
        metric=None,
        blame=None,
        may_roll_back=False,
        why_not="nobody tried the judge",
        began_at=builders.AT,
        ended_at=builders.AT,
    )
    notice = text.of_verdict(environment, builders.release(verdict=verdict))
    assert (notice.occasion if notice else None) == occasion
    assert notice is None or "5% of the requests fail" in notice.plain


def test_a_subject_is_one_line_and_a_fact_is_no_markup() -> None:
    notice = Notice(
        occasion="trouble", subject="a\r\nBcc: x@example.com\x00 b", facts=(("What", "<!channel> [x](y)\n# z"),)
    )
    assert notice.headline == "a Bcc: x@example.com b"
    assert notice.markdown == "- **What:** &lt;!channel&gt; &#91;x](y) # z\n"
    assert notice.plain.count("\n") == 1
