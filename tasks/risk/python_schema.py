"""What the schema editor's methods do when the Python of a migration calls them, as the SQL that Django makes of it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tasks.risk.model_tables import table_of
from tasks.risk.rendered import quoted
from tasks.risk.rule import Case
from tasks.risk.values import OTHER, Value
from tasks.risk.vocabulary import words

if TYPE_CHECKING:
    from tasks.risk.python_calls import Calls

_CHANGING = ("alter_", "add_", "create_", "delete_", "remove_", "rename_")
# Brief, and without an effect on what running code reads and writes.
_HARMLESS = words("remove_index rename_index remove_constraint alter_db_table_comment add_procedure remove_procedure")


def change_schema(calls: Calls, call: ast.Call, method: str, arguments: list[Value]) -> None:
    """Note what a method of the schema editor does: the SQL that it makes, or that it is not known."""
    if method in _HARMLESS or not method.startswith(_CHANGING):
        return
    reading, model = calls.reading, arguments[0].model if arguments else ""
    statement = _statement(reading.case, method, call, table_of(reading.case, model), arguments)
    if statement:
        reading.sql(statement, call)
    else:
        of = f" of {model}" if model else ""
        text = f"schema_editor.{method}(){of} changes the schema, and what it makes of it is decided when it runs"
        reading.mark(reading.code.unknown, text, call)


def _statement(case: Case, method: str, call: ast.Call, table: str, arguments: list[Value]) -> str | None:  # noqa: PLR0911
    """The statement behind a call; None where it is not known."""
    first, second, third = [*arguments, OTHER, OTHER, OTHER][:3]
    alter = f"ALTER TABLE {quoted(table)}"
    match method:
        case "alter_db_table" if second.text and third.text:
            return f"ALTER TABLE {quoted(second.text)} RENAME TO {quoted(third.text)}"
        case _ if not first.model:
            return None
        case "create_model":
            return f"CREATE TABLE {quoted(table)} ()"
        case "delete_model":
            return f"DROP TABLE {quoted(table)} CASCADE"
        case "remove_field" if second.text:
            return f"{alter} DROP COLUMN {quoted(_column(case, table, second.text))} CASCADE"
        case "alter_db_tablespace":
            return f"{alter} SET TABLESPACE another"
        case "add_index" | "add_constraint" if len(call.args) > 1:
            return _declared(method, call, table)
    return None


def _column(case: Case, table: str, field: str) -> str:
    """The column of a field: a foreign key's has another name."""
    now = case.history.table_now(table)
    if now is None or case.facts.column(now, field).value is not None:
        return field
    return f"{field}_id" if case.facts.column(now, f"{field}_id").value is not None else field


def _declared(method: str, call: ast.Call, table: str) -> str | None:
    """The statement that makes an index or a constraint which is written where it is added."""
    made = call.args[1]
    written = {each.arg: each.value for each in made.keywords} if isinstance(made, ast.Call) else {}
    name = quoted(str(getattr(written.get("name"), "value", "an_index")))
    fields = [each.value for each in getattr(written.get("fields"), "elts", []) if isinstance(each, ast.Constant)]
    columns = ", ".join(quoted(str(field).lstrip("-")) for field in fields)
    if method == "add_index":
        concurrently = any(each.arg == "concurrently" and ast.unparse(each.value) == "True" for each in call.keywords)
        how = "CONCURRENTLY " if concurrently else ""
        return f"CREATE INDEX {how}{name} ON {quoted(table)} ({columns or 'an_expression'})"
    kind = getattr(made.func, "attr", getattr(made.func, "id", "")) if isinstance(made, ast.Call) else ""
    if kind == "UniqueConstraint" and columns and "condition" not in written:
        return f"ALTER TABLE {quoted(table)} ADD CONSTRAINT {name} UNIQUE ({columns})"
    return None
