"""What is to be unique, from the statement that sees to it: columns, expressions, a condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.risk.sql_reader import Reader
from tasks.risk.sql_text import Token, split


@dataclass(frozen=True)
class Unique:
    """What no two rows may have in common."""

    columns: tuple[str, ...]  # as PostgreSQL stores their names
    expressions: tuple[str, ...] = ()  # as SQL
    condition: str = ""  # as SQL: only rows that meet it; "" for all
    nulls_equal: bool = False  # NULLS NOT DISTINCT

    def __str__(self) -> str:
        where = f" where {' '.join(self.condition.split())}" if self.condition else ""
        return ", ".join((*self.columns, *self.expressions)) + where


def unique_of(sql: str | None) -> Unique | None:
    """What a CREATE UNIQUE INDEX or a constraint's clause, `CONSTRAINT "x" UNIQUE (...)`, makes unique.

    None where it is another statement, or of a form that is not understood.
    """
    statements = split((sql or "").replace("%%", "%"))
    if not statements or statements[0].broken:
        return None
    reader = Reader(statements[0].tokens, statements[0].text)
    if reader.accept("CREATE", "UNIQUE", "INDEX"):
        reader.accept("CONCURRENTLY")
        if reader.next_word != "ON":
            reader.name()
        if not reader.accept("ON") or not reader.name():
            return None
        if reader.accept("USING"):
            reader.name()
    else:
        while reader.rest() and not (reader.accept("UNIQUE") or reader.accept("PRIMARY", "KEY")):
            reader.place += 1
    equal = reader.accept("NULLS", "NOT", "DISTINCT")
    keys = [_key(part) for part in Reader(reader.inside(), reader.text).parts()]
    if not keys or None in keys:
        return None
    equal = reader.has("NULLS", "NOT", "DISTINCT") or equal
    condition = _after_where(reader)
    told = [key for key in keys if key is not None]
    return Unique(
        tuple(text for is_column, text in told if is_column),
        tuple(text for is_column, text in told if not is_column),
        condition,
        equal,
    )


def _key(part: Reader) -> tuple[bool, str] | None:
    """Whether one key of an index is a column, and its name or expression; None: it has no such form."""
    tokens = part.rest()
    if not tokens:
        return None
    called = len(tokens) > 1 and tokens[1].upper == "("
    if tokens[0].kind in ("word", "quoted") and not called:
        return (True, tokens[0].name)  # what follows is a collation, an operator class, an order
    ends = [place for place in _outermost(tokens) if tokens[place].upper == ")"]
    if not ends:
        return None
    return (False, part.written(tokens[: ends[0] + 1]))


def _outermost(tokens: Sequence[Token]) -> list[int]:
    """The places that stand in no parenthesis; of a parenthesis its end."""
    depth, found = 0, []
    for place, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token.upper, 0)
        if depth == 0:
            found.append(place)
    return found


def _after_where(reader: Reader) -> str:
    tokens = reader.rest()
    for place in _outermost(tokens):
        if tokens[place].upper == "WHERE":
            return reader.written(tokens[place + 1 :])
    return ""
