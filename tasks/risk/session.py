"""A connection that only reads, on which every question is a transaction of its own and none takes long."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, LiteralString

import psycopg
from psycopg import errors, sql

from tasks.database.connection import connect
from tasks.release.environment import Database
from tasks.release.errors import DatabaseError

LOCK_TIMEOUT_S = 2.0  # who waits behind somebody's ACCESS EXCLUSIVE lock learns nothing by waiting longer
WORK_MEM = "64MB"  # of one connection, so that some million values are compared in memory
USED_UP = "not asked: the time for facts is used up"
# In every statement, so that what was asked here is not taken for the application's own use.
MARK: LiteralString = " /* runbook facts */"
# A permission that is missing, a name or an operator that is not there: what the server says of these names objects,
# never rows. Messages of other classes may quote a value.
TOLD_CLASSES = ("42", "0A", "55")


class UnknownError(Exception):
    """A question has no answer; the message says why."""


class OutOfTimeError(UnknownError):
    """The server had no answer within the statement timeout."""


class Session:
    """One connection for questions, opened anew when it was lost.

    Args:
        database: Where to and as whom.
        schema: Searched before the role's own search_path; None: only that.
        dbname: Another database of the same server.
        statement_timeout_s: The longest that a statement may take.
        total_s: The longest that all statements together may take; what is asked later is unknown.
    """

    def __init__(
        self, database: Database, schema: str | None, dbname: str | None, statement_timeout_s: float, total_s: float
    ) -> None:
        self.schema = schema
        self.statement_timeout_s = statement_timeout_s
        self._database = database
        self._dbname = dbname
        self._left_s = total_s
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def open(self) -> None:
        """Connect.

        Raises:
            DatabaseError: The server cannot be reached or refuses.
        """
        connection = connect(
            self._database,
            "facts",
            dbname=self._dbname,
            statement_timeout_s=self.statement_timeout_s,
            autocommit=True,
        )
        connection.prepare_threshold = None
        try:
            connection.execute(
                # Row security is off: to be refused is better than to count only the rows that a policy shows.
                "SELECT set_config('default_transaction_read_only', 'on', false), set_config('row_security', 'off',"
                " false), set_config('TimeZone', 'UTC', false), set_config('jit', 'off', false),"
                f" set_config('work_mem', '{WORK_MEM}', false),"
                " set_config('lock_timeout', %s, false),"
                " set_config('search_path', concat_ws(', ', quote_ident(%s),"
                " nullif(current_setting('search_path'), '')), false)",
                [f"{int(LOCK_TIMEOUT_S * 1000)}ms", self.schema],
            )
        except psycopg.Error as error:
            connection.close()
            raise DatabaseError(f"cannot prepare the connection for facts: {error}") from None
        connection.read_only = True
        self._connection = connection

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()

    @property
    def server_version(self) -> int:
        """As server_version_num: 170004."""
        return self._connection.info.server_version if self._connection else 0

    def ask(self, template: LiteralString, **parts: object) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own, which is rolled back, and return its rows.

        Args:
            template: The statement with named placeholders, `{table}`.
            parts: What they stand for: SQL as it is, all else as a literal.

        Raises:
            OutOfTimeError: It took longer than a statement may.
            UnknownError: All else that goes wrong, and every question after the total is used up.
        """
        if self._left_s <= 0:
            raise UnknownError(USED_UP)
        began = time.monotonic()
        try:
            return self._run(template, parts)
        except errors.QueryCanceled:
            raise OutOfTimeError(f"no answer within {self._limit_s:.2g} s") from None
        except errors.LockNotAvailable:
            raise UnknownError(f"locked by somebody else for more than {LOCK_TIMEOUT_S:.2g} s") from None
        except DatabaseError as error:
            raise UnknownError(str(error)) from None
        except (psycopg.Error, UnicodeError) as error:
            raise UnknownError(_explained(error)) from None
        finally:
            self._left_s -= time.monotonic() - began

    def one(self, template: LiteralString, **parts: object) -> tuple[Any, ...]:
        """The one row of a statement that has one.

        Raises:
            UnknownError: As `ask` does.
        """
        return self.ask(template, **parts)[0]

    @property
    def left_s(self) -> float:
        """How long all that is still asked may take."""
        return self._left_s

    @property
    def _limit_s(self) -> float:
        return max(min(self.statement_timeout_s, self._left_s), 0.001)

    def _run(self, template: LiteralString, parts: dict[str, object]) -> list[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            self.open()
        connection = self._connection
        assert connection is not None  # noqa: S101 -- open() sets it or raises
        composed = {
            name: part if isinstance(part, sql.Composable) else sql.Literal(part) for name, part in parts.items()
        }
        # Parameters would make every per cent sign in a name or a CHECK a placeholder, so values are literals.
        text = sql.SQL(template).format(**composed).as_string(connection) + MARK
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(f"SET LOCAL statement_timeout = {max(int(self._limit_s * 1000), 1)}")
                # Binary results make libpq use the extended protocol, in which a second statement is an error.
                return connection.execute(text, binary=True).fetchall()
        except psycopg.OperationalError:
            if connection.broken:
                with suppress(psycopg.Error):
                    connection.close()
            raise


def _explained(error: Exception) -> str:
    """Why there is no answer, without the server's words where they may quote a row."""
    if not isinstance(error, psycopg.Error):
        return "the database holds text that is not in its encoding"
    words = error.diag.message_primary
    if words and (error.sqlstate or "").startswith(TOLD_CLASSES):
        return words
    if error.sqlstate is None:
        return "the connection to the server was lost" if isinstance(error, psycopg.OperationalError) else str(error)
    return f"the server refused with SQLSTATE {error.sqlstate} ({type(error).__name__})"
