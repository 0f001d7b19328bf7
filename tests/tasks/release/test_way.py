"""The order of code and migrations: at no moment does code serve on a schema that it does not work with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.release.decisions import Approved
from tasks.release.environment import Risk as Limits
from tasks.release.errors import RefusedError
from tasks.release.rehearsal import Broken
from tasks.release.release import Release
from tasks.release.way import needs_maintenance, way_of
from tests.builders import AT, plan, rehearsal, rehearsed, release, risk

LABELS = ("documents.0004_a", "documents.0005_b", "documents.0006_c")
MINDED = Broken(what="insert documents.Document", query="INSERT ...", error="null value")
OPEN = Approved(asked=True, by="ann", standby="bob", maintenance_window=True, level="high", answered_at=AT)


def made(*compatible: bool | None, needs: tuple[Broken, ...] | None = None, **changes: object) -> Release:
    labels = LABELS[: len(compatible)]
    records = [
        rehearsed(label, backward_compatible=kept, broken=(MINDED,) if kept is False else ())
        for label, kept in zip(labels, compatible, strict=True)
    ]
    return release(plan=plan(*labels), risk=risk(labels=labels), rehearsal=rehearsal(*records, needs=needs), **changes)


def test_what_nobody_minds_comes_before_the_code() -> None:
    assert way_of(made(True, True)) == "migrate first"
    assert way_of(release(plan=plan(), risk=risk())) == "migrate first"


def test_what_the_serving_code_minds_comes_after_the_new_code() -> None:
    assert way_of(made(False, False, needs=())) == "code first"


def test_a_set_of_both_kinds_is_to_be_split() -> None:
    with pytest.raises(RefusedError) as caught:
        way_of(made(True, False, needs=()))
    assert "first a release with documents.0004_a" in caught.value.hint
    assert "then a release with documents.0005_b" in caught.value.hint


def test_what_the_new_code_needs_too_has_no_order() -> None:
    with pytest.raises(RefusedError, match="does not work without them") as caught:
        way_of(made(False, needs=(MINDED,)))
    assert "expand and contract" in caught.value.hint


def test_while_it_is_shut_nobody_minds() -> None:
    assert way_of(made(True, False, None, approval=OPEN)) == "in maintenance"


def test_a_demand_of_the_checklist_shuts_it() -> None:
    slow = release(
        plan=plan(LABELS[0]),
        risk=risk(labels=LABELS[:1], limits=Limits(high="approval")),
        rehearsal=rehearsal(rehearsed(LABELS[0], blocking_s=60, seconds=60)),
    )
    assert needs_maintenance(slow)
    assert not needs_maintenance(made(True))


@given(
    st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=3),
    st.sampled_from([None, (), (MINDED,)]),
)
def test_never_on_a_schema_that_is_minded(kept: list[bool | None], needs: tuple[Broken, ...] | None) -> None:
    try:
        way = way_of(made(*kept, needs=needs))
    except RefusedError:
        return
    assert way == ("migrate first" if all(kept) else "code first")
    if way == "code first":
        assert needs == ()
        assert all(one is False for one in kept)
