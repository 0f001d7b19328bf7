"""Applied migrations, as django_migrations has them."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from tasks.database.connection import connect, explained
from tasks.release.environment import Database


def applied_of(database: Database, schema: str | None, labels: Sequence[str]) -> set[str]:
    """Which migrations of a list stand applied.

    Args:
        database: The application's.
        schema: Where django_migrations lies; None: where the search path finds it.
        labels: The migrations that are asked for, as `app.name`.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    table = sql.Identifier(*([schema] if schema else []), "django_migrations")
    with connect(database, "look for applied migrations") as connection:
        try:
            rows = connection.execute(
                sql.SQL("SELECT app || '.' || name AS label FROM {} WHERE app || '.' || name = ANY(%s)").format(table),
                [list(labels)],
            ).fetchall()
        except psycopg.errors.UndefinedTable:
            return set()
        except psycopg.Error as error:
            raise explained(error, "cannot look for applied migrations") from None
    return {label for (label,) in rows}
