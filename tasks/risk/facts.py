"""The facts that a rule may ask for, and what is said when nobody knows.

Every question has one answer: a value, or None for "unknown", and always a sentence that says where it is from. Tables
are named as Django names them (`db_table`), columns as the database does; both as they are before the first pending
migration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Answer(Generic[Value]):
    """What is known about one question."""

    value: Value | None  # None: unknown
    evidence: str  # "shop_order has 50,000 rows (counted)"; for an unknown one, why it is


@dataclass(frozen=True)
class Count:
    """How many rows have a property."""

    count: int  # of those looked at
    of: int  # how many were looked at
    sampled: bool  # not all rows were looked at
    examples: tuple[str, ...] = ()  # masked: the form of a value, never the value


@dataclass(frozen=True)
class Traffic:
    """How much a table is used."""

    reads_per_s: float  # scans
    writes_per_s: float  # rows inserted, updated, deleted
    since: datetime


@dataclass(frozen=True)
class Usage:
    """Whether something was used since statistics began."""

    used: bool
    since: datetime | None  # None: the server does not say


@dataclass(frozen=True)
class Column:
    """A column as the database has it."""

    type: str  # format_type(): "character varying(50)", "numeric(10,2)", the name of a domain or enum
    base_type: str  # of a domain the type below it; else the same
    not_null: bool
    has_default: bool  # of the database; identity and generated columns count
    indexed: tuple[str, ...]  # names of the indexes that hold it


class Facts(Protocol):
    """Questions about the target database, each answered within a limited time."""

    def exists(self, table: str) -> Answer[bool]:
        """Whether there is such a relation."""

    def rows(self, table: str) -> Answer[int]:
        """How many rows a table has: counted where it is small, else the server's estimate."""

    def size_bytes(self, table: str) -> Answer[int]:
        """What a table takes on disk, indexes and TOAST included, partitions and children too."""

    def traffic(self, table: str) -> Answer[Traffic]:
        """How much it is read and written."""

    def usage(self, table: str, column: str | None = None) -> Answer[Usage]:
        """Whether a table (or a column: by pg_stat_statements, where it is) was used since statistics began."""

    def column(self, table: str, column: str) -> Answer[Column]:
        """A column's type, nullability, default and indexes."""

    def nulls(self, table: str, column: str) -> Answer[Count]:
        """Rows that have NULL there."""

    def duplicates(
        self,
        table: str,
        columns: Sequence[str],
        *,
        expressions: Sequence[str] = (),
        where: str = "",
        nulls_equal: bool = False,
    ) -> Answer[Count]:
        """Rows that another row equals in these columns and expressions.

        Args:
            table: Whose rows.
            columns: By their names.
            expressions: As SQL.
            where: A condition, as SQL: only rows that meet it count; "" for all.
            nulls_equal: Whether NULL equals NULL; else they are different from each other.
        """

    def has_value(self, table: str, column: str, value: str) -> Answer[bool]:
        """Whether a row has a value there, given as SQL."""

    def orphans(
        self, table: str, columns: tuple[str, ...], to_table: str, to_columns: tuple[str, ...]
    ) -> Answer[Count]:
        """Rows whose values, none of them NULL, no row of the other table has; `()` for its primary key."""

    def misfits(self, table: str, column: str, new_type: str) -> Answer[Count]:
        """Rows whose value a cast to another type would refuse or change (too long, out of range, rounded)."""

    def violators(self, table: str, check: str) -> Answer[Count]:
        """Rows for which a CHECK's expression, as SQL, is false."""

    def checked_not_null(self, table: str, column: str) -> Answer[bool]:
        """Whether a validated CHECK (column IS NOT NULL) is there, which makes SET NOT NULL cheap."""

    def refuses_null(self, table: str, column: str) -> Answer[bool]:
        """Whether NULL cannot be written there now: it is NOT NULL, or a CHECK says so, validated or not."""

    def index(self, name: str) -> Answer[str]:
        """The definition of an index or constraint by its name; "" when there is none; says if it is INVALID."""

    def dependents(self, table: str, column: str | None = None) -> Answer[tuple[str, ...]]:
        """Views, materialized views, functions, policies and triggers that use a table or a column."""

    def referenced_by(self, table: str) -> Answer[tuple[str, ...]]:
        """Foreign keys of other tables that point at a table, "shop_item.order_id"."""

    def partitions(self, table: str) -> Answer[tuple[str, ...]]:
        """Partitions and inheriting tables; an operation locks them all."""

    def replicas(self, table: str) -> Answer[tuple[str, ...]]:
        """Standbys, and publications with subscribers, that will feel it."""

    def longest_transaction(self) -> Answer[float]:
        """Age in seconds of the oldest transaction that is open now; the sentence names it."""

    def asked(self) -> tuple[str, ...]:
        """Every sentence that was answered, in order, once."""
