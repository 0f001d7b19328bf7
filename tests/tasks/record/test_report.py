"""The report renders, whatever became of the release and whatever strange names it holds."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tasks.record.report import preview_report, release_report
from tasks.release.errors import CommandError
from tasks.release.order import Order, Preview
from tasks.release.plan import BothWays, Sql
from tasks.release.rehearsal import Broken, Loss
from tasks.release.release import Answer, Release, StageRun
from tasks.release.risk import Suppression
from tests.builders import (
    AT,
    COMMIT,
    applied,
    backup,
    deployed,
    finding,
    migration,
    plan,
    rehearsal,
    rehearsed,
    release,
    reloaded,
    risk,
    smoked,
    verification,
)

LABEL = "documents.0002_document_category"
MARKDOWN = MarkdownIt("commonmark").enable("table")


def finished() -> Release:
    made = release(commits=("3f2a1b0 Categories",)).noted("opened by a test", AT)
    results = {
        "plan": plan(LABEL),
        "risk": risk(finding()),
        "backup": backup(),
        "verification": verification(),
        "rehearsal": rehearsal(),
        "code": deployed(),
        "applied": applied(LABEL),
        "reloaded": reloaded(),
        "smoke": smoked(),
    }
    for number, (stage, result) in enumerate(results.items()):
        at = AT + timedelta(seconds=10 * number)
        made = made.began(stage, at).finished(stage, result, at + timedelta(seconds=5))  # type: ignore[arg-type]
    return made.closed("finished", "finished", AT + timedelta(seconds=179.7))


def tables(markdown: str) -> list[list[list[str]]]:
    """The rows of each table, as a reader sees them; refuses what is not Markdown of ours."""
    found: list[list[list[str]]] = []
    for token in MARKDOWN.parse(markdown):
        inner = token.children or []
        foreign = ("html_block", "html_inline", "link_open", "image")
        assert not [part for part in (token, *inner) if part.type in foreign], token.content
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level == 4:
            found[-1][-1].append(_text(inner))
    return found


def _text(tokens: list[Token]) -> str:
    return "".join(token.content for token in tokens if token.type in ("text", "code_inline", "text_special"))


def is_whole(markdown: str, expected: int) -> None:
    found = tables(markdown)
    assert len(found) == expected
    for table in found:
        assert {len(row) for row in table} == {len(table[0])}


def test_a_finished_release() -> None:
    report = release_report(finished())
    is_whole(report, 7)
    stages, checklist, rehearsed_ones, statements, migrations, smoke, timeline = tables(report)
    assert [row[1] for row in checklist[1:]] == ["✓ yes", "✓ yes", "✓ yes", "✓ yes", "? unknown"]
    assert rehearsed_ones[1][3] == "works"
    assert statements[1][-1] == "AccessExclusiveLock on public.documents_document"
    assert [row[2] for row in stages[1:]] == ["done"] * 9
    assert [row[3] for row in stages[1:]] == ["5.0 s"] * 9
    assert migrations[1][:4] == [LABEL, "250 ms", "yes", "yes"]
    assert smoke[1] == ["GET /api/health", "200", "20 ms", "as it should"]
    assert timeline[-1][1] == "finished"
    assert report.startswith("# v1.1 is on staging\n")
    assert "3 min 0 s in all" in report
    assert "12,345 rows" in report
    assert "- `3f2a1b0` Categories" in report
    assert "watch error log" in report


def test_a_release_that_failed() -> None:
    error = CommandError("pip", 1, "no network").message
    made = release().began("plan", AT).failed("plan", error, AT + timedelta(seconds=3)).closed("failed", "ended", AT)
    report = release_report(made)
    is_whole(report, 2)
    assert tables(report)[0][1] == ["§3", "Plan", "failed: pip ended with exit code 1: no network", "3.0 s", "1"]
    assert tables(report)[0][2][2] == "not begun"
    assert "did not get through to staging" in report
    assert "`runbook deploy staging --ref v1.1` goes on" in report


def test_a_release_that_is_blocked() -> None:
    made = release(status="failed", plan=plan(LABEL), risk=risk(finding(severity="blocked")))
    made = made.model_copy(update={"stages": {"risk": StageRun(attempts=1, began_at=AT, ended_at=AT)}})
    report = release_report(made)
    assert tables(report)[0][2][:3] == ["§4.1", "Risk", "blocked"]
    assert "judges and rehearses it anew" in report


def test_a_release_that_is_under_way() -> None:
    report = release_report(release().began("plan", AT))
    assert tables(report)[0][1][2:] == ["under way, or its run died", "", "1"]
    assert f"--release-id {release().id}`" in report


def test_nothing_pending_and_nothing_begun() -> None:
    is_whole(release_report(release()), 2)
    assert "None is pending" in release_report(release(plan=plan()))


def test_a_dry_run() -> None:
    order = Order(environment="staging", ref="v1.1", commit=COMMIT, release_id="", dry_run=True)
    previews = [Preview(stage="backup", would="dump | stream", findings=("a <b>", "c|d"))]
    report = preview_report(order, previews, plan(LABEL))
    is_whole(report, 2)
    assert tables(report)[0][1] == ["§3.1", "Backup", "dump | stream", "a <b>; c|d"]
    assert "Only read, nothing changed" in report
    assert "`runbook deploy staging --ref v1.1`" in report


def strange(text: str) -> Release:
    """A release in which every name that comes from elsewhere is this text."""
    sql = Sql(statements=(f"-- {text}",), partial=False, because=(text,))
    odd = migration(
        f"documents.{text}",
        reversible=False,
        irreversible_because=text,
        operations=({"describe": text, "table": text},),
        sql=BothWays(forward=sql, backward=sql),
    )
    accepted = Suppression(rule=text, migration=text, reason=text, expires=AT.date(), file=text, line=1)
    answer = Answer(name=f"GET /{text}", ok=True, status=200, seconds=0.1, problem=text, head=text)
    return (
        release(
            ref=text,
            requested_by=text,
            commits=(f"3f2a1b0 {text}",),
            plan=plan(pending=(odd,), findings=(text,)),
            risk=risk(
                finding(text, migration=odd.label, message=text, evidence=(text,), mitigation=(text,), file=text),
                finding(migration=odd.label, message=text, suppressed=accepted),
                facts=(text,),
            ),
            backup=backup(findings=(text,)),
            rehearsal=rehearsal(
                rehearsed(
                    odd.label,
                    error=text,
                    broken=(Broken(what=text, query=text, error=text),),
                    irreversible_because=text,
                    schema_differences=(text,),
                    losses=(Loss(relation=text, column=text, kind="gone", count=1),),
                ),
                findings=(text,),
            ),
            applied=applied(odd.label, analyzed=(text,)),
            smoke=smoked(answers=(answer,)),
        )
        .began("code", AT)
        .failed("code", text, AT)
        .noted(text, AT)
    )


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "[a](http://b)",
        "<script>alert(1)</script>",
        "two\nlines",
        "`|`",
        r"\|",
        "|\n|---|\n",
        "```````",
        "&lt;",
        "\x1b[2J",
        "\ud800",
    ],
)
def test_no_name_can_break_the_report(text: str) -> None:
    report = release_report(strange(text))
    is_whole(report, 8)
    assert "<script" not in report.split("### SQL")[0] + report.split("## Smoke test")[1]
    assert "\x1b" not in report.split("### SQL")[0] + report.split("## Smoke test")[1]


@given(st.text(st.sampled_from("a|`<>&\\\n\r-*_# \t\x0b\x1b\u2028"), min_size=1, max_size=12) | st.text(min_size=1))
def test_no_name_at_all_can_break_it(text: str) -> None:
    is_whole(release_report(strange(text)), 8)
