"""pg_dump into the bucket as it is produced: one dump of everything, or several over one snapshot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from tasks.backup.client import Program, late_hint, may_pass
from tasks.backup.contents import Table
from tasks.database.binaries import Client
from tasks.database.connection import conninfo_of
from tasks.release.backup import BackupObject
from tasks.release.environment import Database
from tasks.release.errors import BackupError, CommandError
from tasks.store.bucket import Bucket
from tasks.store.upload import BUFFERS, upload

EVERYTHING = "database"
ZSTD = 16  # the first major whose pg_dump compresses with it; gzip before
LOCK_WAIT_S = 60  # longer than a statement of the application, shorter than a migration
BUFFER_BYTES = 120 * 2**20  # of all dumps together
SMALLEST_PART = 5 * 2**20  # of S3
# A group names its tables one by one in pg_dump's arguments; the small ones gain nothing from being named.
TABLES_PER_GROUP = 200


class Dump(NamedTuple):
    """One pg_dump: its name, and the arguments that choose what it holds."""

    name: str
    selection: tuple[str, ...]


def plan(tables: tuple[Table, ...], groups: int, encoding: str) -> tuple[Dump, ...]:
    """Share the rows of the largest tables among dumps that run side by side.

    The first holds the schema and everything that is in no other, so that no dump has to know what it is that
    the others do not hold.
    """
    others: list[list[Table]] = [[] for _ in range(groups - 1)]
    # The names are arguments in the encoding of the database, which is UTF-8 or has to be avoided.
    named = [table for table in tables if encoding == "UTF8" or f"{table}".isascii()]
    named = [table for table in named if table.bytes and not table.condition][: TABLES_PER_GROUP * len(others)]
    chosen = {table.oid for table in named}
    sizes = [sum(table.bytes for table in tables if table.oid not in chosen), *(0 for _ in others)]
    for table in named:
        least = min(range(groups), key=sizes.__getitem__)
        sizes[least] += table.bytes
        if least:
            others[least - 1].append(table)
    dumps = [Dump(EVERYTHING, tuple(f"--exclude-table-data={_pattern(table)}" for group in others for table in group))]
    for number, group in enumerate(others, 1):
        if group:
            names = tuple(f"--table={_pattern(table)}" for table in group)
            dumps.append(Dump(f"tables-{number}", ("--data-only", "--strict-names", *names)))
    return tuple(dumps)


def part_bytes(configured: int, dumps: int) -> int:
    """The size of a part such that all dumps together keep to `BUFFER_BYTES`."""
    return max(SMALLEST_PART, min(configured, BUFFER_BYTES // (dumps * BUFFERS)))


class Dumper:
    """Runs dumps over one snapshot.

    Args:
        client: Whose pg_dump.
        database: What is dumped.
        snapshot: An exported snapshot's id; None for one of its own.
        bucket: Where to.
        place: The prefix of the objects.
        part_bytes: Size of a multipart part.
        timeout_s: After which dumps that still run are stopped, counted from now.
        progress: Called with a dump's name and the bytes it has produced so far.
    """

    def __init__(
        self,
        client: Client,
        database: Database,
        snapshot: str | None,
        bucket: Bucket,
        place: str,
        *,
        part_bytes: int,
        timeout_s: float,
        progress: Callable[[str, int], None] = lambda _name, _bytes: None,
    ) -> None:
        self.client = client
        self.database = database
        self.snapshot = snapshot
        self.bucket = bucket
        self.place = place
        self.part_bytes = part_bytes
        self.deadline = time.monotonic() + timeout_s
        self.progress = progress
        self.warnings: list[str] = []
        self._running: set[Program] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, dump: Dump) -> tuple[BackupObject, ...]:
        """Run one dump and store what it produces.

        Raises:
            BackupError: pg_dump failed.
            StoreError: The bucket refuses or is lost.
        """
        arguments = [
            "pg_dump",
            "--format=custom",
            f"--compress={'zstd:1' if self.client.major >= ZSTD else '1'}",
            f"--lock-wait-timeout={LOCK_WAIT_S * 1000}",
            *([f"--snapshot={self.snapshot}"] if self.snapshot else []),
            *dump.selection,
            f"--dbname={conninfo_of(self.database.name)}",
        ]
        key = f"{self.place}{dump.name}.dump"
        with Program(
            self.client,
            arguments,
            database=self.database,
            purpose="backup",
            deadline=self.deadline,
            on_words=self.warnings.append,
        ) as program:
            with self._lock:
                self._running.add(program)
                if self._stopped:
                    program.stop()

            def confirm() -> None:
                try:
                    program.confirm()
                except CommandError as error:
                    raise BackupError(
                        f"{key} could not be made: {error.message}", hint=_hint(error), retryable=may_pass(error)
                    ) from None

            stored = upload(
                self.bucket,
                key,
                program.stdout,  # type: ignore[arg-type]
                confirm=confirm,
                part_bytes=self.part_bytes,
                progress=lambda count: self.progress(dump.name, count),
            )
        return tuple(BackupObject(dump=dump.name, **part._asdict()) for part in stored)

    def stop(self) -> None:
        """End every dump that runs, and those that begin later."""
        with self._lock:
            self._stopped = True
            for program in self._running:
                program.stop()


def _pattern(table: Table) -> str:
    """A table's name as a pattern that matches it alone."""
    schema, name = (part.replace('"', '""') for part in (table.schema_name, table.name))
    return f'"{schema}"."{name}"'


def _hint(error: CommandError) -> str:
    if "lock timeout" in error.output:
        return f"something held a table for more than {LOCK_WAIT_S} s; look at pg_stat_activity"
    if "server version mismatch" in error.output:
        return "name a newer client in backup.client"
    return late_hint(error)
