"""Scratch databases: made like the source, named after the backup, marked, and dropped whatever happens."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tasks.backup.progress import Report
from tasks.database.connection import connect, explained, name_of
from tasks.release.backup import Manifest
from tasks.release.environment import Database, Environment
from tasks.release.errors import DatabaseError

PREFIX = "rb_scratch_"
LONGEST_NAME = 63  # bytes, of PostgreSQL
DIGEST = 10  # hexadecimal digits
CREATE_TIMEOUT_S = 300  # CREATE DATABASE waits for a checkpoint
COPY_TIMEOUT_S = 4 * 3600  # a copy of a database takes about 3 s per GB
LOGGED_BYTES = 256 * 2**20  # a copy up to here costs less in the write-ahead log than two checkpoints

_Connection = psycopg.Connection[tuple[Any, ...]]


def server_of(environment: Environment) -> Database:
    """Where restores are made."""
    return environment.backup.scratch_server or environment.database


def scratch_name(environment: str, backup_id: str) -> str:
    """The name of the scratch database of an environment's backup: readable, and another for every other backup."""
    readable = PREFIX + re.sub(r"[^a-z0-9_]", "_", backup_id.lower())
    digest = hashlib.sha256(f"{environment}/{backup_id}".encode()).hexdigest()[:DIGEST]
    return f"{readable[: LONGEST_NAME - DIGEST - 1]}_{digest}"


@contextmanager
def scratch(environment: Environment, manifest: Manifest, report: Report) -> Iterator[str]:
    """A scratch database for a backup, empty; a leftover of the same backup is dropped first.

    When it cannot be dropped at the end, that is reported and changes nothing about what was found out in it:
    `drop_leftover_scratch` finds it later.

    Raises:
        DatabaseError: The server cannot be reached or refuses, or somebody else's database has that name.
    """
    name = scratch_name(environment.name, manifest.id)
    server = server_of(environment)
    with _marked(environment, manifest, name, report) as comment:
        create_database(server, manifest, name, comment)
        yield name


@contextmanager
def clone(environment: Environment, manifest: Manifest, of: str, report: Report) -> Iterator[str]:
    """A copy of a scratch database, with all that is in it, to work on; a leftover of the same backup is dropped first.

    Whoever is in the one that is copied is sent away: PostgreSQL copies a database only while nobody is in it.

    Args:
        environment: Whose.
        manifest: The backup that the scratch database was restored from.
        of: The scratch database.
        report: Told when the copy is left behind.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    name = scratch_name(environment.name, f"{manifest.id} clone")
    server = server_of(environment)
    with _marked(environment, manifest, name, report) as comment:
        copy_database(server, of, name, comment)
        yield name


@contextmanager
def _marked(environment: Environment, manifest: Manifest, name: str, report: Report) -> Iterator[str]:
    """The comment of a database that the block makes under a name, and that is dropped after it."""
    server = server_of(environment)
    ours = {"runbook": "scratch", "backup": manifest.id, "environment": environment.name}
    _drop_leftover(server, name, ours)
    comment = json.dumps(ours | {"made_at": datetime.now(UTC).isoformat()})
    try:
        yield comment
    finally:
        try:
            # Another run may have dropped it meanwhile and made its own.
            if _comments(server).get(name) == comment:
                drop_database(server, name)
        except DatabaseError as error:
            report(f"the scratch database {name} is left behind: {error.message}")


def create_database(server: Database, manifest: Manifest, dbname: str, comment: str) -> None:
    """Make an empty database with the encoding, the locale and, where it exists there, the owner of the source.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    with _maintenance(server) as connection:
        version = connection.info.server_version
        owner = manifest.owner if _may_become(connection, manifest.owner) else server.user
        locale = manifest.locale
        options = [
            ("OWNER", sql.Identifier(owner)),
            ("TEMPLATE", sql.SQL("template0")),
            ("ALLOW_CONNECTIONS", sql.SQL("false")),
            ("ENCODING", sql.Literal(locale.encoding)),
            ("LC_COLLATE", sql.Literal(locale.collate)),
            ("LC_CTYPE", sql.Literal(locale.ctype)),
        ]
        if version >= 150000:
            options.append(("LOCALE_PROVIDER", sql.SQL(locale.provider)))
        if locale.provider == "icu":
            options.append(("ICU_LOCALE", sql.Literal(locale.locale)))
        if locale.provider == "builtin":
            options.append(("BUILTIN_LOCALE", sql.Literal(locale.locale)))
        if locale.rules:
            options.append(("ICU_RULES", sql.Literal(locale.rules)))
        statement = sql.SQL("CREATE DATABASE {} {}").format(
            sql.Identifier(dbname),
            sql.SQL(" ").join(sql.SQL("{} = {}").format(sql.SQL(word), value) for word, value in options),
        )
        _create(connection, server, dbname, statement, comment)


def refuse_foreign(server: Database, dbname: str) -> None:
    """Refuse a database that no restore of ours has made, whatever name a mistake has put here.

    Raises:
        DatabaseError: It bears no mark of ours, or the server cannot be reached.
    """
    if not _mark_of(_comments(server).get(dbname)):
        raise DatabaseError(f"{name_of(server, dbname)} is no scratch database of ours: nothing is done to it")


def copy_database(server: Database, of: str, dbname: str, comment: str) -> None:
    """Make a copy of a scratch database, with the same owner, encoding and locale; whoever is in it is sent away.

    Raises:
        DatabaseError: It is no scratch database, or the server cannot be reached or refuses.
    """
    refuse_foreign(server, of)
    original = sql.Identifier(of)
    with _maintenance(server, COPY_TIMEOUT_S) as connection:
        try:
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(original))
            # Those of superusers, and autovacuum's, are not ours to end; PostgreSQL waits some seconds for them.
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity a join pg_roles r on r.oid = a.usesysid"
                " where datname = %s and not rolsuper"
                " and (pg_has_role('pg_signal_backend', 'USAGE') or pg_has_role(r.oid, 'USAGE'))",
                [of],
            )
            row: Any = connection.execute(
                "select pg_get_userbyid(datdba), pg_database_size(oid) from pg_database where datname = %s", [of]
            ).fetchone()
        except psycopg.Error as error:
            raise explained(error, f"cannot copy {name_of(server, of)}") from None
        owner, size = row
        # All of a large copy would go through the write-ahead log; before 15 it never does.
        by_file = sql.SQL(
            " STRATEGY file_copy" if size > LOGGED_BYTES and connection.info.server_version >= 150000 else ""
        )
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} ALLOW_CONNECTIONS false{}").format(
            sql.Identifier(dbname), sql.Identifier(owner), original, by_file
        )
        try:
            _create(connection, server, dbname, statement, comment)
        except DatabaseError as error:
            if error.sqlstate == "55006":  # PostgreSQL has waited five seconds for it
                error.retryable, error.hint = True, f"a superuser is connected to {of}: end that session"
            raise
        finally:
            with suppress(psycopg.Error):  # the error that ended it is the one to tell
                connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(original))


def _create(connection: _Connection, server: Database, dbname: str, statement: sql.Composed, comment: str) -> None:
    """Create a database by a statement that leaves it shut, and open it once it bears its mark.

    PostgreSQL cannot do both at once: whoever dies in between leaves one that nobody has ever been in.
    """
    try:
        connection.execute(statement)
    except psycopg.Error as error:
        raise explained(error, f"cannot create {name_of(server, dbname)}") from None
    try:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(dbname), sql.Literal(comment)))
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(dbname)))
    except psycopg.Error as error:
        with suppress(DatabaseError):
            drop_database(server, dbname)
        raise explained(error, f"cannot mark {name_of(server, dbname)} as ours") from None


def drop_database(server: Database, dbname: str) -> None:
    """Drop a database and end whoever is in it; it need not exist.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    with _maintenance(server) as connection:
        try:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(dbname)))
        except psycopg.Error as error:
            refused = explained(error, f"cannot drop {name_of(server, dbname)}")
            if error.sqlstate == "42501":
                refused.hint = "is a superuser connected to it? end that session: only a superuser can"
            raise refused from None


def drop_leftover_scratch(environment: Environment, older_than: timedelta) -> tuple[str, ...]:
    """Drop the scratch databases of this environment that a process that died has left.

    Args:
        environment: Whose.
        older_than: How old they are at least; one that is being used is not older than a verification takes.

    Returns:
        The names of those that were dropped.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    server = server_of(environment)
    before = datetime.now(UTC) - older_than
    dropped = []
    for name, comment in _comments(server).items():
        mark = _mark_of(comment)
        if mark.get("environment") == environment.name and _made_at(mark) <= before:
            drop_database(server, name)
            dropped.append(name)
    return tuple(dropped)


def shut_scratch(environment: Environment) -> tuple[str, ...]:
    """Databases with the name of a scratch database that bear no mark and were never opened: a run died making them.

    The next backup of the same name drops them; whose they are and how old they are, PostgreSQL does not tell.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    server = server_of(environment)
    unmarked = [name for name, comment in _comments(server).items() if not _mark_of(comment)]
    return tuple(name for name in unmarked if not _is_open(server, name))


def _drop_leftover(server: Database, dbname: str, ours: dict[str, str]) -> None:
    """Drop what a run that died has left under our name: it bears our mark, or it was not opened yet."""
    comments = _comments(server)
    if dbname not in comments:
        return
    if not ours.items() <= _mark_of(comments[dbname]).items() and _is_open(server, dbname):
        raise DatabaseError(
            f"{name_of(server, dbname)} was not made for {ours['backup']}",
            hint="look whose it is, then rename or drop it",
        )
    drop_database(server, dbname)


def _comments(server: Database) -> dict[str, str | None]:
    """Every database with the name of a scratch database, and its comment."""
    with _maintenance(server) as connection:
        try:
            rows = connection.execute(
                "select datname, shobj_description(oid, 'pg_database') from pg_database where starts_with(datname, %s)",
                [PREFIX],
            ).fetchall()
        except psycopg.Error as error:
            raise explained(error, "cannot list scratch databases") from None
    return dict(rows)


def _is_open(server: Database, dbname: str) -> bool:
    with _maintenance(server) as connection:
        try:
            row = connection.execute("select datallowconn from pg_database where datname = %s", [dbname]).fetchone()
        except psycopg.Error as error:
            raise explained(error, f"cannot look at {name_of(server, dbname)}") from None
    return row != (False,)


def _made_at(mark: dict[str, str]) -> datetime:
    """When a scratch database was made; now, where its mark does not tell."""
    try:
        return datetime.fromisoformat(mark["made_at"])
    except (KeyError, ValueError):
        return datetime.now(UTC)


def _mark_of(comment: str | None) -> dict[str, str]:
    try:
        mark = json.loads(comment or "")
    except json.JSONDecodeError:
        return {}
    return mark if isinstance(mark, dict) and mark.get("runbook") == "scratch" else {}


def _maintenance(server: Database, timeout_s: float = CREATE_TIMEOUT_S) -> _Connection:
    return connect(
        server,
        "scratch",
        dbname=server.maintenance_database,
        statement_timeout_s=timeout_s,
        autocommit=True,
    )


def becoming(connection: _Connection) -> LiteralString:
    """The privilege on a role, for pg_has_role, by which objects can be given to it."""
    # From PostgreSQL 16 on a membership can be granted WITH SET FALSE.
    return "SET" if connection.info.server_version >= 160000 else "MEMBER"


def _may_become(connection: _Connection, role: str) -> bool:
    """Whether objects can be given to a role: it exists, we may become it, and what is its is ours to drop."""
    try:
        row = connection.execute(
            "select pg_has_role(current_user, oid, %s) and pg_has_role(current_user, oid, 'USAGE')"
            " from pg_roles where rolname = %s",
            [becoming(connection), role],
        ).fetchone()
    except psycopg.Error as error:
        raise explained(error, "cannot ask for roles") from None
    return bool(row and row[0])
