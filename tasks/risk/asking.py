"""What the rules over operations ask of a case, so that each asks it in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from tasks.risk import rendered
from tasks.risk.data_migrations import read_code
from tasks.risk.facts import Answer, Count
from tasks.risk.live import THROW_AWAY
from tasks.risk.references import Named, fills
from tasks.risk.rule import Case
from tasks.risk.sql_actions import understood


class Said(Enum):
    """What the rows say about a condition that a migration relies on."""

    BROKEN = "rows break it"
    HELD = "no row breaks it"
    OPEN = "it is not known, or an earlier pending migration changes the rows first"
    NOT_ASKED = "there is no database to ask"


@dataclass(frozen=True)
class Rows:
    """What the rows say, and where that is from."""

    said: Said
    evidence: tuple[str, ...]


def runs(case: Case) -> bool:
    """Whether the operation does something to the database."""
    return bool(case.operation["allowed"]) and not case.operation["state_only"] and not case.migration.backwards


def changed(case: Case) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The column before and after an operation on one field."""
    fields = case.operation["fields"]
    return (fields[0]["old"], fields[0]["new"]) if fields else (None, None)


def is_known(case: Case, table: str) -> bool:
    """Whether running code may use a table."""
    return not case.history.is_new(table)


def known_as(case: Case, table: str) -> str:
    """What the running release calls a table: an earlier pending migration may have renamed it."""
    return case.history.table_now(table) or table


def sql_now(case: Case, table: str, text: str) -> str:
    """SQL that names columns of a table as they are at that moment, with the names that the database has now."""
    renamed = {new: now for (of, new), now in case.history.columns.items() if of == table}
    return re.sub(r'"([^"]+)"', lambda match: rendered.quoted(renamed.get(match[1], match[1])), text)


def made_in(case: Case, table: str, text: str) -> list[str]:
    """The columns in a text of SQL that a pending migration makes."""
    made = [name for of, name in case.history.columns_made if of == table]
    return [name for name in made if re.search(rf'(?<![\w"])"?{re.escape(name)}"?(?![\w"])', text)]


def writers(case: Case, table: str) -> tuple[str, ...]:
    """Pending migrations before this moment that may have changed the rows of a table, by what their code writes."""
    known = case.history.written.get(table, [])
    maybe = [label for label in case.history.written.get("", []) if _may_write(case, label, table)]
    return tuple(dict.fromkeys([*known, *maybe]))


def _may_write(case: Case, label: str, table: str) -> bool:
    found = [migration for migration in case.pending if migration.label == label]
    for operation in found[0].operations if found else ():
        if operation["code"] is None or operation["code"]["name"].endswith("RunPython.noop"):
            continue
        code = read_code(replace(case, migration=found[0], operation=operation))
        # Deleting goes on to rows that refer to those deleted.
        if code.unknown or any(write.verb == "delete" for write in code.writes):
            return True
        done = [action for raw in code.raw for _, actions in understood(raw.sql) for action in actions]
        touched = {write.table for write in code.writes} | {action.table for action in done}
        if touched & {"", table, known_as(case, table)}:
            return True
    return not found


def writes_no_null(case: Case, table: str, column: str) -> bool:
    """Whether the running release is known to leave a column NULL in no row that it makes.

    Because an earlier pending migration took NULL away already, which is said there; because the database refuses it
    now, or fills a column that running code does not know; or because the serving model's field has a default.
    """
    history = case.history
    if history.is_new(table) or (table, column) in history.null_refused:
        return True
    table_now, column_now = history.table_now(table), history.column_now(table, column)
    if table_now is None or column_now is None:
        return (table, column) not in history.columns_unset
    if case.facts.refuses_null(table_now, column_now).value:
        return True
    named = Named(case.migration.app, None, table_now, None, column_now)
    return case.serving is not None and fills(case.serving, named)


def row_count(case: Case, table: str) -> int | None:
    """How many rows a table has before the release; 0 for one that a pending migration makes, None: unknown."""
    now = case.history.table_now(table)
    return 0 if now is None else case.facts.rows(now).value


def rows_say(
    case: Case,
    table: str,
    columns: Sequence[str],
    ask: Callable[[str, list[str]], Answer[Count]],
    of_nulls: Said = Said.HELD,
) -> Rows:
    """What the rows say about a condition.

    Args:
        case: At which moment.
        table: Whose rows, by its name at that moment.
        columns: The columns that the condition is about, by their names at that moment.
        ask: The question, given the names in the database.
        of_nulls: The answer where an earlier pending migration makes the columns and nothing fills them.
    """
    now = case.history.table_now(table)
    if now is None:
        return Rows(Said.HELD, ())
    rows = case.facts.rows(now)
    if rows.value == 0:
        return Rows(Said.HELD, (rows.evidence,))
    columns_now = [case.history.column_now(table, column) for column in columns]
    made = [(table, column) for column, name in zip(columns, columns_now, strict=True) if name is None]
    if made:
        unfilled = case.history.columns_empty.issuperset(made) and not writers(case, table)
        said = of_nulls if unfilled and (rows.value or of_nulls is Said.HELD) else _unknown(rows)
        return Rows(said, (f"{table}.{made[0][1]} is made by an earlier pending migration",))
    answer = ask(now, [name for name in columns_now if name is not None])
    if answer.value is None:
        return Rows(_unknown(answer), (answer.evidence,))
    return _as_it_will_be(case, table, answer.value, answer.evidence)


def _as_it_will_be(case: Case, table: str, found: Count, evidence: str) -> Rows:
    """What the rows will say when the operation runs: an earlier migration may mend them."""
    if found.count == 0:
        return Rows(Said.OPEN if found.sampled else Said.HELD, (evidence,))
    if before := writers(case, table):
        return Rows(Said.OPEN, (evidence, f"{', '.join(before)} may change that before: the rehearsal decides"))
    return Rows(Said.BROKEN, (evidence,))


def _unknown(answer: Answer[Any]) -> Said:
    # Nobody meant to ask: that the question is open is no news then.
    return Said.NOT_ASKED if answer.value is None and THROW_AWAY in answer.evidence else Said.OPEN


def field_path(case: Case) -> str:
    """`model.field`, as the migration says it."""
    told = case.operation["fields"]
    model = str(case.operation["model"] or "").lower()
    return f"{model}.{told[0]['name']}" if told else model
