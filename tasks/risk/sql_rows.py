"""What a statement that reads or writes rows does, from its syntax tree."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tasks.risk.sql_text import Statement, without_placeholders

# Functions with an effect that is known, and small.
KNOWN_FUNCTIONS = frozenset({"setval", "nextval", "currval", "lastval", "pg_get_serial_sequence", "set_config"})
# A session's limits can be set by a function too.
SETTER = "set_config"
_GROWING = (
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.Pow, exp.DPipe, exp.Concat, exp.ConcatWs, exp.Substring,
    exp.Repeat, exp.MD5, exp.SHA, exp.SHA2, exp.Anonymous,
)  # fmt: skip
_KEYS = frozenset({"id", "pk", "ctid", "uuid"})

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of every statement that it keeps as text


@dataclass(frozen=True)
class RowAction:
    """One table that a statement reads or writes."""

    kind: str  # "update", "delete", "insert", "read" or "unknown"
    table: str = ""
    name: str = ""
    text: str = ""
    marks: frozenset[str] = frozenset()  # "limited": at most a number of rows that does not grow with the table
    columns: tuple[str, ...] = ()  # that are written


def row_actions(statement: Statement) -> Iterator[RowAction]:
    """What a SELECT, INSERT, UPDATE, DELETE or MERGE does, the ones in its WITH clauses too."""
    try:
        [tree] = sqlglot.parse(without_placeholders(statement), dialect="postgres")
    except (SqlglotError, ValueError, RecursionError) as error:
        yield RowAction("unknown", text=f"it could not be parsed ({type(error).__name__})")
        return
    if tree is None or isinstance(tree, exp.Command):
        yield RowAction("unknown", text="it could not be parsed")
        return
    nodes = tree.find_all(exp.Update, exp.Delete, exp.Insert, exp.Merge)
    writes = [_write(node) for node in nodes if not node.find_ancestor(exp.Merge)]
    yield from writes
    for call in tree.find_all(exp.Anonymous):
        name = str(call.name).lower()
        if name == SETTER and len(call.expressions) > 1:
            setting, value = call.expressions[0].name, call.expressions[1].name
            yield RowAction("set", name=setting.lower(), text=value)
        elif name not in KNOWN_FUNCTIONS and not writes:
            yield RowAction("unknown", name=name, text=f"what the function {name}() does is not known")
            return
    if not writes:
        yield RowAction("read")


def _write(node: exp.Expression) -> RowAction:
    target = node.this.this if isinstance(node.this, exp.Schema) else node.this
    table = _name(target)
    if isinstance(node, exp.Insert):
        return RowAction("insert", table, marks=frozenset({"on conflict"} if node.args.get("conflict") else ()))
    if isinstance(node, exp.Delete):
        return RowAction("delete", table, marks=_limits(node))
    if isinstance(node, exp.Merge):
        return RowAction("update", table, marks=frozenset())
    sets = [each for each in node.expressions if isinstance(each, exp.EQ)]
    condition = node.args.get("where")
    asked = {column.name for column in condition.find_all(exp.Column)} if condition else set()
    moves = not asked.isdisjoint(each.this.name for each in sets)  # what is done is not chosen again
    grows = not moves and any(_grows(each.this.name, each.expression) for each in sets)
    marks = _limits(node) | (frozenset({"own value"}) if grows else frozenset())
    return RowAction(
        "update", table, text=condition.this.sql("postgres") if condition else "", marks=marks,
        columns=tuple(each.this.name for each in sets),
    )  # fmt: skip


def _grows(column: str, value: exp.Expression) -> bool:
    """Whether a value that is computed from the column's own differs each time; `upper(name)` does not."""
    return any(each.name == column for growing in value.find_all(*_GROWING) for each in growing.find_all(exp.Column))


def _name(table: exp.Expression | None) -> str:
    if not isinstance(table, exp.Table):
        return ""
    return f'{table.db}"."{table.name}' if table.db and table.db != "public" else str(table.name)


def _limits(node: exp.Expression) -> frozenset[str]:
    """Whether a number or a range of keys limits how many rows are touched; else what only NULL says."""
    condition = node.args.get("where")
    if condition is None:
        return frozenset()
    parts = list(condition.this.flatten()) if isinstance(condition.this, exp.And) else [condition.this]
    if list(node.find_all(exp.Limit, exp.Fetch)):
        return frozenset({"limited"})
    below = {type(part) for part in parts if _is_key(part) and isinstance(part, (exp.LT, exp.LTE, exp.GT, exp.GTE))}
    ranged = bool(below & {exp.LT, exp.LTE}) and bool(below & {exp.GT, exp.GTE})
    if ranged or any(_is_key(part) and _is_fixed(part) for part in parts):
        return frozenset({"limited"})
    nulls = [part.this.name for part in parts if isinstance(part, exp.Is) and isinstance(part.expression, exp.Null)]
    return frozenset(f"null:{name}" for name in nulls if name)


def _is_key(part: exp.Expr) -> bool:
    column = part.this
    return isinstance(column, exp.Column) and (column.name.lower() in _KEYS)


def _is_fixed(part: exp.Expr) -> bool:
    """Whether a condition on a key names the values."""
    if isinstance(part, exp.EQ):
        return not list(part.expression.find_all(exp.Column, exp.Query))
    if isinstance(part, exp.In):
        return not part.args.get("query") and bool(part.expressions)
    return isinstance(part, exp.Between)
