"""The rehearsal's page: a row for each migration, whatever became of it, and a chart that no statement can break."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from tasks.markdown.rehearsal import CHART_LIMIT, chart, rehearsal_section
from tasks.markdown.text import without_charts
from tasks.release.rehearsal import Statement
from tests.builders import rehearsal, rehearsed

BAR = re.compile(r" {4}\d+ :(crit, |active, |done, )\d+, \d+")
SECTION = re.compile(r" {4}section [^:;#%{}\"`]+")


def statement(sql: str = "SELECT 1", seconds: float = 0.1, lock: str = "") -> Statement:
    locks = {"public.orders": lock} if lock else {}
    return Statement(sql=sql, count=1, began_s=0.5, seconds=seconds, rows=0, locks=locks, rewrites=())


def bars(markdown: str) -> list[str]:
    inside = markdown.partition("```mermaid\n")[2].partition("\n```")[0].splitlines()
    assert inside[1:5] == ["gantt", "    dateFormat x", "    axisFormat %M:%S.%L", "    todayMarker off"]
    for line in inside[5:]:
        assert SECTION.fullmatch(line) or BAR.fullmatch(line), line
    return [line for line in inside[5:] if BAR.fullmatch(line)]


def test_the_colour_is_the_harm() -> None:
    locks = ["AccessExclusiveLock", "ShareLock", "ShareUpdateExclusiveLock"]
    drawn = bars(chart(rehearsal(rehearsed(statements=tuple(statement(lock=lock) for lock in locks)))))
    assert [re.search(r":(\w+),", bar)[1] for bar in drawn] == ["crit", "active", "done"]  # type: ignore[index]


def test_migrations_follow_each_other_in_time() -> None:
    first, second = rehearsed("shop.0002_a", seconds=2.0), rehearsed("shop.0003_b", seconds=1.0)
    text = chart(rehearsal(first, second))
    assert text.index("section shop.0002_a") < text.index("section shop.0003_b")
    assert re.findall(r", (\d+), (\d+)", text) == [("10", "14"), ("2010", "2014")]


def test_only_the_longest_are_drawn() -> None:
    many = tuple(statement(sql=f"UPDATE t{number}", seconds=number) for number in range(CHART_LIMIT + 7))
    text = chart(rehearsal(rehearsed(statements=many)))
    assert len(bars(text)) == CHART_LIMIT
    assert "7 shorter statements left out" in text
    assert "`UPDATE t6`" not in text
    assert "`UPDATE t7`" in text


@given(sql=st.text(), label=st.text(min_size=1))
def test_no_statement_breaks_the_chart(sql: str, label: str) -> None:
    bars(chart(rehearsal(rehearsed(f"shop.{label}", statements=(statement(sql=sql),)))))


def test_failed_and_not_reached_migrations_are_told() -> None:
    failed = rehearsed("shop.0002_a", seconds=None, error="could not create unique index")
    unreached = rehearsed("shop.0003_b", seconds=None, statements=())
    text = rehearsal_section(rehearsal(failed, unreached))
    assert "could not be applied: could not create unique index" in text
    assert "not reached" in text


def test_a_terminal_gets_the_table_and_no_chart() -> None:
    text = without_charts(rehearsal_section(rehearsal()))
    assert "mermaid" not in text
    assert "gantt" not in text
    assert 'ADD COLUMN "category"' in text
