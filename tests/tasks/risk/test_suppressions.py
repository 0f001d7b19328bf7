"""What a comment next to a migration's code accepts, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.release.risk import Finding, Severity, Suppression
from tasks.risk.judge import judge
from tasks.risk.suppressions import apply, suppressions
from tests import builders
from tests.tasks.risk.no_database import NoDatabase

TODAY = date(2026, 11, 24)
LABEL = "documents.0002_document_category"
RULES = {"add-index", "remove-column"}
GOOD = "# runbook: accept add-index until 2026-12-31: the table is frozen for the weekend"
Read = Callable[[str], tuple[tuple[Suppression, ...], tuple[Finding, ...]]]


def written(root: Path, text: str) -> Path:
    file = root / "apps/documents/migrations/0002_document_category.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return root


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function from a migration's text to what is suppressed in it and what is wrong with that."""
    return lambda text: suppressions(written(tmp_path, text), builders.plan(LABEL), TODAY, RULES)


def test_a_comment_with_rule_day_and_reason_holds(read: Read) -> None:
    [made], findings = read(f"import x\n\n{GOOD}\n")
    assert findings == ()
    assert made == Suppression(
        rule="add-index",
        migration=LABEL,
        reason="the table is frozen for the weekend",
        expires=date(2026, 12, 31),
        file="apps/documents/migrations/0002_document_category.py",
        line=3,
    )


def test_it_may_stand_behind_code_and_holds_on_its_last_day(read: Read) -> None:
    made, findings = read("x = 1  #  runbook: accept remove-column until 2026-11-24: nobody: reads it\n")
    assert [one.reason for one in made] == ["nobody: reads it"]
    assert findings == ()


@pytest.mark.parametrize("text", [f"x = '{GOOD}'\n", f'"""\n{GOOD}\n"""\n', "# a comment on the runbook: nothing\n"])
def test_what_is_no_such_comment_is_none(read: Read, text: str) -> None:
    assert read(text) == ((), ())


@pytest.mark.parametrize(
    ("comment", "told"),
    [
        ("accept add-index until 2026-11-23: why", "expired on 2026-11-23"),
        ("accept add-index until 2027-05-24: why", "more than 180 days ahead"),
        ("accept add-index until 2026-12-31:", "gives no reason"),
        ("accept add-index until 2026-12-31", "gives no reason"),
        ("accept add-index: why", "has no last day"),
        ("accept add-index until 2026-02-30: why", "ends on no day: '2026-02-30'"),
        ("accept add-index until tomorrow: why", "ends on no day: 'tomorrow'"),
        ("accept add-idnex until 2026-12-31: why", "names no rule: 'add-idnex'"),
        ("accept suppression until 2026-12-31: why", "names no rule"),
        ("ignore add-index until 2026-12-31: why", "cannot be understood"),
        ("accept", "cannot be understood"),
    ],
)
def test_a_bad_one_is_one_finding_and_suppresses_nothing(read: Read, comment: str, told: str) -> None:
    made, [finding] = read(f"\n# runbook: {comment}\n")
    assert made == ()
    assert told in finding.message
    assert (finding.rule, finding.migration, finding.severity, finding.line) == ("suppression", LABEL, "medium", 2)
    assert finding.file == "apps/documents/migrations/0002_document_category.py"
    assert finding.mitigation


def test_a_near_rule_is_proposed(read: Read) -> None:
    [finding] = read("# runbook: accept add-idnex until 2026-12-31: why")[1]
    assert finding.mitigation == ("Did you mean add-index?",)


def test_the_longest_is_180_days(read: Read) -> None:
    assert len(read("# runbook: accept add-index until 2027-05-23: why")[0]) == 1


@pytest.mark.parametrize(
    ("severity", "held"), [("medium", True), ("unknown", True), ("high", True), ("blocked", False)]
)
def test_all_but_what_blocks_can_be_accepted(read: Read, severity: Severity, held: bool) -> None:
    made, _ = read(GOOD)
    [finding] = apply([builders.finding("add-index", severity=severity)], made)
    assert (finding.suppressed == made[0]) is held
    assert (finding.suppressed is None) is not held


def test_only_that_rule_and_that_migration(read: Read) -> None:
    made, _ = read(GOOD)
    others = [builders.finding("remove-column"), builders.finding("add-index", migration="documents.0003_other")]
    assert apply(others, made) == tuple(others)


def test_judgement_shows_what_is_suppressed_and_does_not_count_it(tmp_path: Path) -> None:
    plan = builders.plan(LABEL, pending=(builders.migration(LABEL, operations=()),))
    more = [builders.finding("add-index", severity="high"), builders.finding("add-index", severity="medium")]
    source = written(tmp_path, GOOD)

    judged = judge(plan, NoDatabase(), source, more=more, today=TODAY)
    accepted = [one for one in judged.findings if one.rule == "add-index"]
    assert [one.suppressed.reason for one in accepted if one.suppressed] == ["the table is frozen for the weekend"] * 2
    assert judged.level == "low"

    late = judge(plan, NoDatabase(), source, more=more, today=date(2027, 1, 1))
    assert late.level == "high"
    assert [one.rule for one in late.findings if "expired" in one.message] == ["suppression"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@given(
    text=st.text(max_size=80),
    around=st.sampled_from(["{}", "# runbook: {}", "# runbook: accept {}", "x = ({}", "'''{}"]),
)
def test_any_content_is_survived(root: Path, text: str, around: str) -> None:
    written(root, "")
    file = root / "apps/documents/migrations/0002_document_category.py"
    file.write_bytes(around.format(text).encode("utf-8", "surrogatepass"))
    suppressions(root, builders.plan(LABEL), TODAY, RULES)
