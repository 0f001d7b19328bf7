"""The checklist ticks itself: a wrong tick is impossible, and what nobody tried is never a yes."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.release.checklist import Checklist, checklist
from tasks.release.environment import Risk as Limits
from tasks.release.rehearsal import Broken, Loss, MigrationRehearsal
from tasks.release.risk import LEVELS, Finding, Harm, Severity, Suppression
from tests.builders import AT, finding, plan, rehearsal, rehearsed, risk

LABEL = "documents.0002_document_category"
COMPATIBLE, LOSS, TIME, WAY_BACK, STANDBY = range(5)
GONE = Loss(relation="public.documents_document", column="title", kind="changed", count=50_000)
ADDED = Loss(relation="public.auth_permission", column=None, kind="added", count=4)
UNTRIED: dict[str, Any] = dict.fromkeys(("seconds", "reversible", "again_identical", "backward_compatible"))
BROKEN = Broken(what="insert documents.Document", query="INSERT ...", error='null value in column "category"')
ACCEPTED = Suppression(rule="add-index", migration=LABEL, reason="quiet", expires=AT.date(), file="x.py", line=3)


def made(record: MigrationRehearsal | None, *findings: Finding, **limits: Any) -> Checklist:
    return checklist(
        plan(LABEL),
        risk(*findings, labels=(LABEL,), limits=Limits(**limits)),
        rehearsal(record) if record else None,
    )


def test_a_harmless_migration_that_was_rehearsed() -> None:
    boxes = made(rehearsed()).boxes
    assert [box.tick for box in boxes] == ["yes", "yes", "yes", "yes", "unknown"]
    assert made(rehearsed()).level == "low"
    assert made(rehearsed()).demands == ("nothing",)


def test_without_a_rehearsal_nothing_is_a_yes() -> None:
    assert {box.tick for box in made(None).boxes} == {"unknown"}
    assert all(box.mend for box in made(None).boxes)


@pytest.mark.parametrize(
    ("changes", "box", "level"),
    [
        ({"backward_compatible": False, "broken": (BROKEN,)}, COMPATIBLE, "high"),
        ({"losses": (GONE,)}, LOSS, "high"),
        ({"seconds": 6.0, "blocking_s": 5.9}, TIME, "high"),
        ({"blocking_s": 2.1}, TIME, "high"),
        ({"reversible": False, "irreversible_because": "no reverse_code"}, WAY_BACK, "medium"),
        ({"schema_restored": False, "schema_differences": ("index x is missing",)}, WAY_BACK, "medium"),
        ({"again_identical": False, "again_differences": ("index x is new",)}, WAY_BACK, "medium"),
    ],
)
def test_what_the_rehearsal_measured_speaks_against_it(changes: dict[str, Any], box: int, level: str) -> None:
    found = made(rehearsed(**changes))
    assert found.boxes[box].tick == "no"
    assert found.boxes[box].mend
    assert found.level == level


def test_what_cannot_be_applied_is_blocked() -> None:
    found = made(rehearsed(error="duplicate key", seconds=None, reversible=None, again_identical=None))
    assert (found.level, found.demands) == ("blocked", ("no deployment",))


def test_what_could_not_be_tried_is_unknown() -> None:
    found = made(rehearsed(**UNTRIED, not_tried="gpg was refused"))
    assert {box.tick for box in found.boxes} == {"unknown"}
    assert found.level == "high"


def test_a_long_migration_that_blocks_nobody_is_in_time() -> None:
    assert made(rehearsed(seconds=3600.0, blocking_s=0.0)).boxes[TIME].tick == "yes"


def test_rows_that_migrate_adds_by_itself_are_no_loss() -> None:
    assert made(rehearsed(losses=(ADDED,))).boxes[LOSS].tick == "yes"


def test_a_rehearsal_settles_what_was_open_and_nothing_else() -> None:
    assert made(rehearsed(), finding(severity="unknown", harm="open")).level == "low"
    assert made(rehearsed(again_identical=None), finding(severity="unknown", harm="open")).level == "high"
    assert made(None, finding(severity="unknown", harm="open")).level == "high"
    assert made(rehearsed(), finding(severity="high", harm="loss")).level == "high"
    assert made(rehearsed(), finding(severity="blocked", harm="fails")).level == "blocked"


def test_an_accepted_finding_does_not_count() -> None:
    assert made(rehearsed(), finding(severity="high", suppressed=ACCEPTED)).level == "low"


def test_what_the_environment_demands() -> None:
    late = rehearsed(seconds=9.0, blocking_s=9.0)
    assert made(late, high="approval").demands == ("approval", "maintenance window")
    assert made(late, high="nothing").demands == ("nothing",)
    assert made(rehearsed(), finding(), medium="low-traffic window").demands == ("low-traffic window",)


RECORDS = st.builds(
    rehearsed,
    seconds=st.none() | st.floats(0, 100),
    blocking_s=st.none() | st.floats(0, 100),
    error=st.sampled_from(["", "duplicate key"]),
    backward_compatible=st.none() | st.booleans(),
    reversible=st.none() | st.booleans(),
    again_identical=st.none() | st.booleans(),
    losses=st.sampled_from([(), (GONE,), (ADDED,)]),
)


@given(
    record=st.none() | RECORDS,
    findings=st.lists(
        st.builds(finding, severity=st.sampled_from(get_args(Severity)), harm=st.sampled_from(get_args(Harm)))
    ),
)
def test_a_yes_is_only_said_of_what_was_tried(record: MigrationRehearsal | None, findings: list[Finding]) -> None:
    found = made(record, *findings)
    ticks = [box.tick for box in found.boxes]
    assert ticks[STANDBY] == "unknown"
    if record is None or record.backward_compatible is not True:
        assert ticks[COMPATIBLE] != "yes"
    if record is None or record.reversible is not True or GONE in record.losses:
        assert ticks[LOSS] != "yes"
    if record is None or record.reversible is not True or record.again_identical is not True or record.error:
        assert ticks[WAY_BACK] != "yes"
    worst = max((LEVELS.index(risk(one).level) for one in findings if one.severity != "unknown"), default=0)
    assert LEVELS.index(found.level) >= worst
    assert found.demands == ("no deployment",) or found.level != "blocked"
