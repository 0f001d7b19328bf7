"""The rehearsal as a person reads it: a row per migration, and a chart of its statements and their locks."""

from __future__ import annotations

import json
import re

from tasks.markdown.text import block, cell, code, count, duration, table
from tasks.release.rehearsal import MigrationRehearsal, Rehearsal, Statement

CHART_LIMIT = 40  # bars; the longest statements are shown
STATEMENT_LENGTH = 120  # characters of a statement in the table; the record has more
SECTION_LENGTH = 26  # characters of a migration, left of its bars
# Mermaid's styles for bars, coloured below.
STYLES = {"reads and writes": "crit, ", "writes": "active, ", "": "done, "}
# The Prefect UI draws on a dark ground and shrinks what is wider than its column.
SETTINGS = {
    "theme": "base",
    "themeVariables": {
        "textColor": "#e2e8f0",
        "titleColor": "#e2e8f0",
        "taskTextColor": "#ffffff",
        "taskTextDarkColor": "#ffffff",
        "taskTextLightColor": "#ffffff",
        "taskTextOutsideColor": "#e2e8f0",
        "critBkgColor": "#dc2626",
        "critBorderColor": "#dc2626",
        "activeTaskBkgColor": "#2563eb",
        "activeTaskBorderColor": "#2563eb",
        "doneTaskBkgColor": "#64748b",
        "doneTaskBorderColor": "#64748b",
        "gridColor": "#475569",
        "sectionBkgColor": "#334155",
        "altSectionBkgColor": "#1e293b",
        "sectionBkgColor2": "#334155",
    },
    "gantt": {"useWidth": 800, "barHeight": 22, "fontSize": 13, "sectionFontSize": 13, "leftPadding": 190},
}
SHORT_LOCKS = {
    "AccessExclusiveLock": "reads and writes",
    "ExclusiveLock": "writes",
    "ShareRowExclusiveLock": "writes",
    "ShareLock": "writes",
}


def rehearsal_section(rehearsal: Rehearsal) -> str:
    """What each migration did on the restored backup."""
    findings = "\n".join(f"- ⚠ {cell(finding)}" for finding in rehearsal.findings)
    if not rehearsal.migrations:
        return f"## Rehearsal\n\n{findings or 'Nothing was to be rehearsed.'}"
    rows = [_row(one) for one in rehearsal.migrations]
    head = ("Migration", "Time", "Blocks", "Old code", "Reversed", "Lost", "Again")
    how = (
        f"On the restored backup, in {duration(rehearsal.seconds)}: applied, tried with the code of"
        f" {code(rehearsal.previous_commit[:12])}, reversed, applied again."
    )
    parts = [
        "## Rehearsal",
        how,
        table(head, rows),
        findings,
        *(_details(one) for one in rehearsal.migrations),
        chart(rehearsal),
    ]
    return "\n\n".join(part for part in parts if part)


def chart(rehearsal: Rehearsal) -> str:
    """A mermaid gantt of the statements, by numbers, and what each number stands for.

    Red keeps readers and writers waiting, blue writers, grey nobody.
    """
    statements = [statement for one in rehearsal.migrations for statement in one.statements]
    if not statements:
        return ""
    shown = set(map(id, sorted(statements, key=lambda statement: -statement.seconds)[:CHART_LIMIT]))
    lines = [
        f"%%{{init: {json.dumps(SETTINGS)}}}%%",
        "gantt",
        "    dateFormat x",
        "    axisFormat %M:%S.%L",
        "    todayMarker off",
    ]
    rows: list[tuple[str, ...]] = []
    offset = 0.0
    for one in rehearsal.migrations:
        bars = [statement for statement in one.statements if id(statement) in shown]
        if bars:
            lines.append(f"    section {_plain(one.migration)[:SECTION_LENGTH]}")
        for statement in bars:
            begin = round((offset + statement.began_s) * 1000)
            end = begin + max(1, round(statement.seconds * 1000))
            rows.append((str(len(rows) + 1), *_statement(statement)))
            lines.append(f"    {len(rows)} :{STYLES[_blocks(statement)]}{begin}, {end}")
        offset += one.seconds or 0
    left_out = len(statements) - len(shown)
    note = f"\n\n{count(left_out, 'shorter statement')} left out." if left_out > 0 else ""
    return (
        "Statements over time: red keeps readers and writers of a table waiting, blue writers, grey nobody.\n\n"
        + block("\n".join(lines), "mermaid")
        + "\n\n"
        + table(("", "Statement", "Time", "Rows", "Takes"), rows)
        + note
    )


def _statement(statement: Statement) -> tuple[str, ...]:
    text = " ".join(statement.sql.split())
    locks = (f"{mode} on {relation}" for relation, mode in statement.locks.items())
    return (
        (f"{statement.count:,} times " if statement.count > 1 else "")
        + code(text if len(text) <= STATEMENT_LENGTH else text[: STATEMENT_LENGTH - 1] + "…"),
        duration(statement.seconds),
        f"{statement.rows:,}" if statement.rows else "",
        cell("; ".join(locks)),
    )


def _row(one: MigrationRehearsal) -> tuple[str, ...]:
    if one.error:
        return (code(one.migration), "**failed**", *[""] * 5)
    if one.seconds is None:
        return (code(one.migration), "not tried" if one.not_tried else "not reached", *[""] * 5)
    lost = sum(loss.count for loss in one.losses if loss.kind != "added")
    return (
        code(one.migration),
        duration(one.seconds),
        duration(one.blocking_s) if one.blocking_s else "nobody",
        _yes({True: "works", False: "**breaks**"}, one.backward_compatible),
        _yes({True: f"yes, {duration(one.reverse_s or 0)}", False: "**no**"}, one.reversible),
        f"**{_lost(one)}**" if lost else ("nothing" if one.reversible else ""),
        _yes({True: "identical", False: "**different**"}, one.again_identical),
    )


def _lost(one: MigrationRehearsal) -> str:
    """Rows and values apart, since one row may have lost several values."""
    rows = sum(loss.count for loss in one.losses if loss.kind != "added" and loss.column is None)
    values = sum(loss.count for loss in one.losses if loss.kind != "added" and loss.column is not None)
    return ", ".join(count(number, noun) for number, noun in ((rows, "row"), (values, "value")) if number)


def _yes(words: dict[bool, str], answer: bool | None) -> str:
    return "unknown" if answer is None else words[answer]


def _details(one: MigrationRehearsal) -> str:
    lines = [f"- could not be applied: {cell(one.error)}"] if one.error else []
    lines += [f"- could not be tried here: {cell(one.not_tried)}"] if one.not_tried else []
    lines += [
        f"- {cell(lock.mode)} on {code(lock.relation)} for {duration(lock.held_s)}:"
        f" {f'{lock.blocks} wait' if lock.blocks else 'nobody waits'}"
        for lock in one.locks
    ]
    lines += [f"- {code(relation)} was written anew" for relation in one.rewrites]
    lines += [f"- {count(rows, 'row')} of {code(relation)} written" for relation, rows in one.rows.items() if rows]
    lines += [f"- old code: {cell(broken.what)} fails: {cell(broken.error)}" for broken in one.broken]
    if one.irreversible_because:
        lines.append(f"- not reversed: {cell(one.irreversible_because)}")
    lines += [f"- after the reversal: {cell(difference)}" for difference in one.schema_differences]
    lines += [
        f"- after the reversal: {loss.count:,} {'rows' if loss.column is None else f'values of {code(loss.column)}'}"
        f" of {code(loss.relation)} {loss.kind}"
        for loss in one.losses
    ]
    lines += [f"- applied again: {cell(difference)}" for difference in one.again_differences]
    return f"### {cell(one.migration)}\n\n" + "\n".join(lines) if lines else ""


def _blocks(statement: Statement) -> str:
    found = [SHORT_LOCKS.get(mode, "") for mode in statement.locks.values()]
    return next((harm for harm in ("reads and writes", "writes") if harm in found), "")


def _plain(text: str) -> str:
    """A text that ends no line and no label of mermaid, and is no directive of it."""
    return re.sub(r"[^\w .,()=*+/<>'-]", " ", text.replace('"', "")).replace("<", "(").replace(">", ")").strip()
