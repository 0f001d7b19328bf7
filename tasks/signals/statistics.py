"""Statistics: what PostgreSQL counts, read in one short connection; nothing is written and no table is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tasks.database.connection import connect
from tasks.release.environment import Database
from tasks.release.errors import DatabaseError

STATEMENT_TIMEOUT_S = 5.0  # of each question
MOST_TABLES = 500
MOST_INDEXES = 1000
MOST_STATEMENTS = 200  # those that took most time since the statistics began
TEXT_CHARACTERS = 500
MOST_OF_INTEGER = {"smallint": 2**15 - 1, "integer": 2**31 - 1}

DATABASE: LiteralString = """
    SELECT stats_reset::text, xact_commit, xact_rollback, deadlocks, conflicts, temp_files, temp_bytes, blks_hit,
           blks_read, numbackends
    FROM pg_stat_database WHERE datname = current_database()"""
SESSIONS: LiteralString = """
    SELECT (SELECT count(*) FROM pg_locks WHERE NOT granted
            AND database IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))),
           coalesce(extract(epoch FROM now() - min(xact_start)), 0)
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"""
MAY_SEE_SESSIONS: LiteralString = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"
REPLICATION: LiteralString = "SELECT max(coalesce(extract(epoch FROM replay_lag), 0)) FROM pg_stat_replication"
TABLES: LiteralString = """
    SELECT s.schemaname, s.relname, c.relfilenode, s.seq_scan, s.seq_tup_read, coalesce(s.idx_scan, 0),
           s.n_tup_ins + s.n_tup_upd + s.n_tup_del
    FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid WHERE c.relpersistence <> 't'
    ORDER BY s.seq_scan + coalesce(s.idx_scan, 0) DESC, s.relid LIMIT %s"""
INDEXES: LiteralString = """
    SELECT s.schemaname, s.indexrelname, c.relfilenode, s.idx_scan
    FROM pg_stat_user_indexes s JOIN pg_class c ON c.oid = s.indexrelid WHERE c.relpersistence <> 't'
    ORDER BY s.idx_scan DESC, s.indexrelid LIMIT %s"""
# The column that a sequence belongs to may end sooner than the sequence itself: serial of an older Django is an int.
SEQUENCES: LiteralString = """
    SELECT s.schemaname, s.sequencename, s.last_value, s.max_value, format_type(a.atttypid, NULL)
    FROM pg_sequences s
    JOIN pg_namespace n ON n.nspname = s.schemaname
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
        AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
    LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE s.last_value IS NOT NULL AND s.increment_by > 0"""
EXTENSION: LiteralString = """
    SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'pg_stat_statements'"""
RESET: LiteralString = "SELECT stats_reset::text FROM {}.pg_stat_statements_info"
# By text: DDL gives the same statement another queryid, and every role has one of its own.
STATEMENTS: LiteralString = """
    SELECT query, sum(calls)::bigint, sum(total_exec_time) / 1000 FROM {}.pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND query ~* '^\\s*(select|insert|update|delete|merge|with|/\\*)'
    GROUP BY query ORDER BY sum(total_exec_time) DESC LIMIT %s"""

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass
class Series:
    """Counters of one subject; of another `identity` they are those of another series, which began at nought."""

    identity: str
    counters: dict[str, float]


@dataclass
class Snapshot:
    """What the server's statistics said at one moment; small, and JSON.

    Attributes:
        at_s: The moment, in seconds of the epoch.
        series: Counters, by `database`, `table:<name>`, `index:<name>` and `statement:<digest>`.
        gauges: Metrics that need no earlier snapshot.
        texts: The texts of the statements, by their digests; parameters are not in them.
    """

    at_s: float
    series: dict[str, Series] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


def digest_of(statement: str) -> str:
    """The name of a statement in metrics: the same whatever its id, its layout and the role that runs it."""
    return hashlib.sha256(" ".join(statement.split()).encode()).hexdigest()[:16]


def take_snapshot(database: Database, at_s: float) -> tuple[Snapshot, list[str]]:
    """Read the statistics; a part that fails is a sentence, and does not keep the others from being read."""
    snapshot = Snapshot(at_s)
    problems = []
    try:
        with connect(database, "statistics", statement_timeout_s=STATEMENT_TIMEOUT_S, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = on")
            for name, part in PARTS.items():
                try:
                    problem = part(connection, snapshot)
                except psycopg.Error as error:
                    problem = str(error).partition("\n")[0]
                if problem:
                    problems.append(f"PostgreSQL: {name}: {problem}")
                if connection.closed:
                    break
    except DatabaseError as error:
        problems.append(f"PostgreSQL: {error.message}")
    except psycopg.Error as error:
        problems.append(f"PostgreSQL: {str(error).partition(chr(10))[0]}")
    return snapshot, problems


def _database(connection: Connection, snapshot: Snapshot) -> str:
    for reset, *counters, backends in connection.execute(DATABASE):
        names = (
            "commits", "rollbacks", "deadlocks", "conflicts", "temp_files", "temp_bytes", "hits", "reads"
        )  # fmt: skip
        snapshot.series["database"] = Series(str(reset), dict(zip(names, map(float, counters), strict=True)))
        snapshot.gauges["database.connections"] = float(backends)
    return ""


def _sessions(connection: Connection, snapshot: Snapshot) -> str:
    if connection.execute(MAY_SEE_SESSIONS).fetchone() != (True,):
        return "the role is no member of pg_read_all_stats and does not see when others' transactions began"
    for waiting, longest in connection.execute(SESSIONS):
        snapshot.gauges["database.waiting_locks"] = float(waiting)
        snapshot.gauges["database.longest_transaction_s"] = float(longest)
    return ""


def _replication(connection: Connection, snapshot: Snapshot) -> str:
    for (lag,) in connection.execute(REPLICATION):
        if lag is not None:  # no replica, or none that this role sees
            snapshot.gauges["database.replication_lag_s"] = float(lag)
    return ""


def _tables(connection: Connection, snapshot: Snapshot) -> str:
    for schema, name, node, *counters in connection.execute(TABLES, [MOST_TABLES]):
        names = ("seq_scans", "seq_rows", "index_scans", "writes")
        snapshot.series[f"table:{schema}.{name}"] = Series(
            str(node), dict(zip(names, map(float, counters), strict=True))
        )
    return ""


def _indexes(connection: Connection, snapshot: Snapshot) -> str:
    for schema, name, node, scans in connection.execute(INDEXES, [MOST_INDEXES]):
        snapshot.series[f"index:{schema}.{name}"] = Series(str(node), {"scans": float(scans)})
    return ""


def _sequences(connection: Connection, snapshot: Snapshot) -> str:
    for schema, name, last, most, kind in connection.execute(SEQUENCES):
        snapshot.gauges[f"sequence.used:{schema}.{name}"] = last / min(most, MOST_OF_INTEGER.get(kind, most))
    return ""


def _statements(connection: Connection, snapshot: Snapshot) -> str:
    found = connection.execute(EXTENSION).fetchone()
    if found is None:
        return ""  # many have none
    schema = sql.Identifier(found[0])
    reset = connection.execute(sql.SQL(RESET).format(schema)).fetchone()
    for text, calls, seconds in connection.execute(sql.SQL(STATEMENTS).format(schema), [MOST_STATEMENTS]):
        digest = digest_of(text)
        series = snapshot.series.setdefault(f"statement:{digest}", Series(str(reset), {"calls": 0.0, "seconds": 0.0}))
        series.counters["calls"] += calls
        series.counters["seconds"] += seconds
        snapshot.texts[digest] = text[:TEXT_CHARACTERS]
    return ""


PARTS: dict[str, Callable[[Connection, Snapshot], str]] = {
    "pg_stat_database": _database,
    "sessions and locks": _sessions,
    "replication": _replication,
    "pg_stat_user_tables": _tables,
    "pg_stat_user_indexes": _indexes,
    "sequences": _sequences,
    "pg_stat_statements": _statements,
}
