"""The set of migrations that the judgement is measured on: well-formed, and honest about what counts."""

from __future__ import annotations

import pytest

from bench.migrations import CASES
from bench.migrations.case import Case
from bench.migrations.shop import release
from bench.reasons import OURS, PEERS, is_style, names
from bench.risk import Result, Said, tally
from bench.truth import Truth
from tasks.risk.rules import MIGRATION_RULES, OPERATION_RULES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_is_valid_python_and_says_why_it_is_dangerous(case: Case) -> None:
    compile(release(*case.models, *case.later), case.name, "exec")
    for name, text in case.files().items():
        compile(text, name, "exec")
    assert bool(case.dangers) == bool(case.reasons)


def test_names_are_unique_and_the_set_is_large_enough() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert any(case.dangerous for case in CASES)
    assert any(not case.dangerous for case in CASES)


def test_every_reason_is_one_that_some_rule_can_give() -> None:
    spoken_of = {reason for topics in (OURS, *PEERS.values()) for reasons in topics.values() for reason in reasons}
    assert {reason for case in CASES for reason in case.reasons} <= spoken_of


def test_every_rule_of_ours_stands_for_a_reason_or_for_an_unknown() -> None:
    open_ends = {
        "data-migration-unknown",
        "outside-call-in-migration",
        "sql-trigger",
        "unjudged-sql",
        "unknown-operation",
    }
    ids = {rule.id for rule in (*MIGRATION_RULES, *OPERATION_RULES)}
    assert ids - open_ends <= OURS.keys()


def test_a_danger_named_for_another_reason_is_not_named() -> None:
    assert names(["add-index"], OURS, ["index-build"])
    assert not names(["add-index", "no-such-rule"], OURS, ["drop-column"])
    assert is_style("prefer-robust-stmts")
    assert not is_style("ban-drop-column")


def test_a_label_that_the_run_does_not_bear_out_is_told() -> None:
    safe = Case("safe", "")
    blocking = Case("blocking", "", dangers=("blocks",), reasons=("index-build",))
    assert Result(safe, Truth({"loss": "shop_order is gone"}), Said()).wrong_label
    assert Result(blocking, Truth({"loss": "shop_order is gone"}), Said()).wrong_label
    assert not Result(blocking, Truth({"blocks": "", "old code": ""}), Said()).wrong_label


def test_a_safe_migration_counts_as_flagged_whatever_is_said_of_it() -> None:
    results = [
        Result(Case("safe", ""), None, Said(ours=("data-migration-unknown",))),
        Result(Case("blocking", "", dangers=("blocks",), reasons=("index-build",)), None, Said(ours=("add-index",))),
        Result(Case("other", "", dangers=("loss",), reasons=("loss",)), None, Said(ours=("add-index",))),
    ]
    assert tally(results, OURS) == (1, 1)
