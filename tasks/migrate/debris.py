"""What a concurrent index build that was cut off leaves behind: an INVALID index, over which the next build fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import psycopg
from psycopg import sql

from tasks.database.connection import connect, explained
from tasks.release.environment import Database
from tasks.release.plan import Migration

CONCURRENTLY = "AddIndexConcurrently"  # Django's operation; it builds outside a transaction
# What may be run again after it was cut off, once debris is gone: Django drops with IF EXISTS.
REPEATABLE = frozenset({CONCURRENTLY, "RemoveIndexConcurrently"})
TIMEOUT_S = 600  # DROP INDEX CONCURRENTLY waits for the transactions that may use the index

# A build in flight looks exactly like debris, but for its line in pg_stat_progress_create_index.
_INVALID = """
select n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname)
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
  join pg_class t on t.oid = i.indrelid
where not i.indisvalid and c.relname = %s and t.relname = %s
  and not exists (select from pg_stat_progress_create_index p where p.relid = i.indrelid)
"""

_VALID = """
select format('%%I.%%I', n.nspname, c.relname)
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
  join pg_class t on t.oid = i.indrelid
where i.indisvalid and c.relname = %s and t.relname = %s
"""


def is_concurrent(migration: Migration) -> bool:
    """Whether a migration does nothing but build or drop indexes beside the application's work."""
    return not migration.atomic and all(operation["kind"] in REPEATABLE for operation in migration.operations)


def standing(database: Database, migration: Migration, catalogue: Mapping[str, str]) -> tuple[str, ...]:
    """The indexes that a concurrent migration has built already though it failed: over them it would fail again.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    with connect(database, "look for built indexes", autocommit=True) as connection:
        try:
            found = [
                label
                for name, table in _built([migration])
                for (label,) in connection.execute(_VALID, [name, table]).fetchall()
            ]
        except psycopg.Error as error:
            raise explained(error, f"cannot look for the indexes of {migration.label}") from None
    return tuple(label for label in found if f"index {label}" not in catalogue)


def _built(migrations: Iterable[Migration]) -> list[tuple[str, str]]:
    """The indexes that are built concurrently, by name and table."""
    return [
        (operation["index"]["name"], operation["table"])
        for migration in migrations
        for operation in migration.operations
        if operation["kind"] == CONCURRENTLY and operation["index"]
    ]


def drop_debris(
    database: Database, pending: Iterable[Migration], catalogue: Mapping[str, str], report: Callable[[str], None]
) -> tuple[str, ...]:
    """Drop invalid indexes that an earlier attempt at these migrations has left, and nothing else.

    An index is ours when a pending migration builds it concurrently by that name on that table, when it was not there
    under the backup's snapshot, and when nobody builds an index on the table now. The caller holds the migrate lock.

    Args:
        database: The application's.
        pending: The migrations that are about to be applied.
        catalogue: Of the release's backup; knows every index that was there before, invalid ones too.
        report: Takes a line for the log.

    Returns:
        The indexes that were dropped, with their schemas.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    built = _built(pending)
    if not built:
        return ()
    dropped = []
    with connect(database, "drop invalid indexes", statement_timeout_s=TIMEOUT_S, autocommit=True) as connection:
        for name, table in built:
            try:
                for schema, index, label in connection.execute(_INVALID, [name, table]).fetchall():
                    if f"index {label}" in catalogue:
                        continue
                    connection.execute(
                        sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(schema, index))
                    )
                    report(f"the index {label} was left invalid by an earlier attempt: dropped, to be built anew")
                    dropped.append(label)
            except psycopg.Error as error:
                raise explained(error, f"cannot drop the invalid index {name} of {table}") from None
    return tuple(dropped)
