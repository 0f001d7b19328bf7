"""Facts of a live database: read-only, bounded in time, and unknown where the server does not say."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from tasks.release.environment import Database
from tasks.risk import data, statistics, structure
from tasks.risk.duplicates import duplicates
from tasks.risk.facts import Answer, Column, Count, Traffic, Usage
from tasks.risk.relation import Relation, required
from tasks.risk.session import Session, UnknownError
from tasks.risk.unique_index import Unique

Value = TypeVar("Value")
THROW_AWAY = "not asked: rows and use of a throw-away database say nothing of a real one"


class LiveFacts:
    """The facts of one database, each asked once.

    No question raises: what the server does not tell, or not in time, is an answer without a value.

    Args:
        database: Where to and as whom.
        schema: Where the application finds its tables first; None: the role's own search_path only.
        dbname: Another database of the same server.
        statement_timeout_s: The longest that one statement may take.
        total_s: The longest that all of them may take together; what is asked later is unknown.
        data: Whether rows and statistics mean anything; not so in a throw-away database, whose catalogue alone counts.
    """

    def __init__(
        self,
        database: Database,
        schema: str | None,
        *,
        dbname: str | None = None,
        statement_timeout_s: float = 5,
        total_s: float = 60,
        data: bool = True,
    ) -> None:
        self._session = Session(database, schema, dbname, statement_timeout_s, total_s)
        self._data = data
        self._statistics: statistics.Statistics | UnknownError = UnknownError(THROW_AWAY)
        self._answers: dict[Hashable, Answer[Any]] = {}
        self._relations: dict[str, Relation] = {}

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            DatabaseError: The server cannot be reached or refuses.
        """
        self._session.open()
        if self._data:
            try:
                self._statistics = statistics.read(self._session)
            except UnknownError as error:
                self._statistics = error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.close()

    def exists(self, table: str) -> Answer[bool]:
        """Whether there is such a relation."""
        return self._answer(f"whether there is a table {table}", lambda: structure.exists(self._session, table))

    def rows(self, table: str) -> Answer[int]:
        """How many rows a table has: counted up to 100,000, else estimated; unknown for "", a table not there yet."""
        if not table:
            return Answer(None, "no table is named")
        return self._answer(
            f"the number of rows of {table}", lambda: data.rows(self._session, self._relation(table)), of_data=True
        )

    def size_bytes(self, table: str) -> Answer[int]:
        """What a table takes on disk."""
        return self._answer(
            f"the size of {table}", lambda: statistics.size_bytes(self._session, self._relation(table)), of_data=True
        )

    def traffic(self, table: str) -> Answer[Traffic]:
        """How much it is read and written."""
        return self._answer(
            f"the traffic on {table}",
            lambda: statistics.traffic(self._session, self._relation(table), self._counted()),
            of_data=True,
        )

    def usage(self, table: str, column: str | None = None) -> Answer[Usage]:
        """Whether a table or a column was used since statistics began."""
        return self._answer(
            f"whether {_name(table, column)} was used",
            lambda: statistics.usage(self._session, self._relation(table), column, self._counted()),
            of_data=True,
        )

    def column(self, table: str, column: str) -> Answer[Column]:
        """A column's type, nullability, default and indexes."""
        return self._answer(
            f"the column {table}.{column}", lambda: structure.column(self._session, self._relation(table), column)
        )

    def nulls(self, table: str, column: str) -> Answer[Count]:
        """Rows that have NULL there."""
        return self._answer(
            f"rows of {table} with NULL in {column}",
            lambda: data.nulls(self._session, self._relation(table), column, lambda: self._size(table)),
        )

    def duplicates(
        self,
        table: str,
        columns: Sequence[str],
        *,
        expressions: Sequence[str] = (),
        where: str = "",
        nulls_equal: bool = False,
    ) -> Answer[Count]:
        """Rows that another row equals in these columns and expressions, among those that meet a condition."""
        unique = Unique(tuple(columns), tuple(expressions), where, nulls_equal)
        return self._answer(
            f"rows of {table} that another row equals in {unique}" + (", NULLs being equal" if nulls_equal else ""),
            lambda: duplicates(self._session, self._relation(table), unique, lambda: self._size(table)),
        )

    def has_value(self, table: str, column: str, value: str) -> Answer[bool]:
        """Whether a row has a value there, given as SQL."""
        return self._answer(
            f"whether a row of {table} has {value} as {column}",
            lambda: data.has_value(self._session, self._relation(table), column, value),
            of_data=True,
        )

    def orphans(
        self, table: str, columns: tuple[str, ...], to_table: str, to_columns: tuple[str, ...]
    ) -> Answer[Count]:
        """Rows whose values no row of the other table has."""
        key = ", ".join(to_columns) or "its primary key"
        return self._answer(
            f"rows of {table} whose {', '.join(columns)} no row of {to_table} has as {key}",
            lambda: data.orphans(
                self._session,
                self._relation(table),
                columns,
                self._relation(to_table),
                to_columns,
                lambda: self._size(table),
            ),
        )

    def misfits(self, table: str, column: str, new_type: str) -> Answer[Count]:
        """Rows whose value a cast to another type would refuse or change."""
        return self._answer(
            f"rows of {table} whose {column} does not fit {new_type}",
            lambda: data.misfits(self._session, self._relation(table), column, new_type, lambda: self._size(table)),
        )

    def violators(self, table: str, check: str) -> Answer[Count]:
        """Rows for which a CHECK is false, given as an expression or as a constraint's clause."""
        return self._answer(
            f"rows of {table} that violate {check}",
            lambda: data.violators(self._session, self._relation(table), check, lambda: self._size(table)),
        )

    def checked_not_null(self, table: str, column: str) -> Answer[bool]:
        """Whether the server knows already that no row has NULL there, which makes SET NOT NULL cheap."""
        return self._answer(
            f"whether a CHECK proves {table}.{column} NOT NULL",
            lambda: structure.checked_not_null(self._session, self._relation(table), column),
        )

    def refuses_null(self, table: str, column: str) -> Answer[bool]:
        """Whether NULL cannot be written there now."""
        return self._answer(
            f"whether {table}.{column} refuses NULL",
            lambda: structure.refuses_null(self._session, self._relation(table), column),
        )

    def index(self, name: str) -> Answer[str]:
        """The definition of an index or constraint; "" when there is none; says INVALID and not validated."""
        return self._answer(f"the index or constraint {name}", lambda: structure.index(self._session, name))

    def dependents(self, table: str, column: str | None = None) -> Answer[tuple[str, ...]]:
        """Views, materialized views, functions, policies and triggers that use a table or a column."""
        return self._answer(
            f"what uses {_name(table, column)}",
            lambda: structure.dependents(self._session, self._relation(table), column),
        )

    def referenced_by(self, table: str) -> Answer[tuple[str, ...]]:
        """Foreign keys of other tables that point at a table."""
        return self._answer(
            f"foreign keys that point at {table}",
            lambda: structure.referenced_by(self._session, self._relation(table)),
        )

    def partitions(self, table: str) -> Answer[tuple[str, ...]]:
        """Partitions and inheriting tables."""
        return self._answer(
            f"partitions of {table}", lambda: structure.partitions(self._session, self._relation(table))
        )

    def replicas(self, table: str) -> Answer[tuple[str, ...]]:
        """Standbys, and publications with subscribers, that follow a table."""
        return self._answer(
            f"standbys and subscribers that follow {table}",
            lambda: statistics.replicas(self._session, self._relation(table)),
            of_data=True,
        )

    def longest_transaction(self) -> Answer[float]:
        """Age in seconds of the oldest transaction that is open now in this database."""
        return self._answer(
            "the oldest open transaction", lambda: statistics.longest_transaction(self._session), of_data=True
        )

    def asked(self) -> tuple[str, ...]:
        """Every sentence that was answered, in order, once."""
        return tuple(dict.fromkeys(answer.evidence for answer in self._answers.values()))

    def _answer(self, what: str, ask: Callable[[], Answer[Value]], *, of_data: bool = False) -> Answer[Value]:
        """Ask once; `what` names the question, and stands in the sentence when there is no answer."""
        known = self._answers.get(what)
        if known is None:
            try:
                if of_data and not self._data:
                    raise UnknownError(THROW_AWAY)  # noqa: TRY301 -- one place makes answers of what is unknown
                known = ask()
            except UnknownError as error:
                known = Answer(None, f"{what}: unknown, {error}")
            self._answers[what] = known
        return known

    def _relation(self, table: str) -> Relation:
        if table not in self._relations:
            self._relations[table] = required(self._session, table)
        return self._relations[table]

    def _size(self, table: str) -> int | None:
        if not self._data:
            raise UnknownError(THROW_AWAY)
        return self.rows(table).value

    def _counted(self) -> statistics.Statistics:
        if isinstance(self._statistics, UnknownError):
            raise self._statistics
        return self._statistics


def _name(table: str, column: str | None) -> str:
    return f"{table}.{column}" if column else table
