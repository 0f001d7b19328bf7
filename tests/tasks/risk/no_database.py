# ruff: noqa: ARG002 - no question is looked at
"""Facts of nothing: what the rules say by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tasks.risk.facts import Answer, Column, Count, Traffic, Usage
from tasks.risk.live import THROW_AWAY

Value = TypeVar("Value")


def _open(_kind: type[Value]) -> Answer[Value]:
    return Answer(None, THROW_AWAY)


class NoDatabase:
    """Every question is open, and nobody meant to ask it."""

    def exists(self, table: str) -> Answer[bool]:
        return _open(bool)

    def rows(self, table: str) -> Answer[int]:
        return _open(int)

    def size_bytes(self, table: str) -> Answer[int]:
        return _open(int)

    def traffic(self, table: str) -> Answer[Traffic]:
        return _open(Traffic)

    def usage(self, table: str, column: str | None = None) -> Answer[Usage]:
        return _open(Usage)

    def column(self, table: str, column: str) -> Answer[Column]:
        return _open(Column)

    def nulls(self, table: str, column: str) -> Answer[Count]:
        return _open(Count)

    def duplicates(
        self,
        table: str,
        columns: Sequence[str],
        *,
        expressions: Sequence[str] = (),
        where: str = "",
        nulls_equal: bool = False,
    ) -> Answer[Count]:
        return _open(Count)

    def has_value(self, table: str, column: str, value: str) -> Answer[bool]:
        return _open(bool)

    def orphans(
        self, table: str, columns: tuple[str, ...], to_table: str, to_columns: tuple[str, ...]
    ) -> Answer[Count]:
        return _open(Count)

    def misfits(self, table: str, column: str, new_type: str) -> Answer[Count]:
        return _open(Count)

    def violators(self, table: str, check: str) -> Answer[Count]:
        return _open(Count)

    def checked_not_null(self, table: str, column: str) -> Answer[bool]:
        return _open(bool)

    def refuses_null(self, table: str, column: str) -> Answer[bool]:
        return _open(bool)

    def index(self, name: str) -> Answer[str]:
        return _open(str)

    def dependents(self, table: str, column: str | None = None) -> Answer[tuple[str, ...]]:
        return Answer(None, THROW_AWAY)

    def referenced_by(self, table: str) -> Answer[tuple[str, ...]]:
        return Answer(None, THROW_AWAY)

    def partitions(self, table: str) -> Answer[tuple[str, ...]]:
        return Answer(None, THROW_AWAY)

    def replicas(self, table: str) -> Answer[tuple[str, ...]]:
        return Answer(None, THROW_AWAY)

    def longest_transaction(self) -> Answer[float]:
        return _open(float)

    def asked(self) -> tuple[str, ...]:
        return ()
