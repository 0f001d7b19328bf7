"""Fingerprints of all tables, on several connections side by side."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

import psycopg

from tasks.backup.contents import Table, content_of
from tasks.backup.snapshot import Connection, join, reading
from tasks.database.connection import explained
from tasks.release.backup import TableContent
from tasks.release.environment import Database
from tasks.release.errors import BackupError

CONNECTIONS = 2  # a hash costs about what pg_dump's reading costs; more would slow the application
CANCEL_TIMEOUT_S = 5


class Fingerprinter:
    """Works off the tables of a database, the largest first.

    Args:
        database: Where they are.
        tables: Which.
        dbname: Another database of the same server.
        snapshot: An exported snapshot's id; None where nothing changes.
    """

    def __init__(
        self, database: Database, tables: Iterable[Table], *, dbname: str | None = None, snapshot: str | None = None
    ) -> None:
        self.database = database
        self.dbname = dbname
        self.snapshot = snapshot
        self._left: queue.SimpleQueue[Table] = queue.SimpleQueue()
        for table in tables:
            self._left.put(table)
        self._connections: list[Connection] = []
        self._stopped = threading.Event()

    def jobs(self) -> list[Callable[[], list[TableContent]]]:
        """What to run side by side; together they return every table once."""
        return [self._work] * CONNECTIONS

    def _work(self) -> list[TableContent]:
        found: list[TableContent] = []
        with reading(self.database, "fingerprints", dbname=self.dbname, snapshot=self.snapshot) as connection:
            self._connections.append(connection)
            while True:
                if self._stopped.is_set():
                    raise BackupError("stopped because another part of the backup failed")
                try:
                    table = self._left.get_nowait()
                except queue.Empty:
                    return found
                found.append(content_of(connection, table))
                # Not all tables in one transaction: its locks, those of every index too, would fill the server's table
                # of locks, which the application needs.
                try:
                    connection.rollback()
                    join(connection, self.snapshot)
                except psycopg.Error as error:
                    raise explained(error, f"cannot go on reading after {table}") from None

    def stop(self) -> None:
        """Make the jobs end soon."""
        self._stopped.set()
        for connection in list(self._connections):
            # Where the server is gone, there is nothing to cancel.
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_TIMEOUT_S)
