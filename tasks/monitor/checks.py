"""Deterministic checks: what a migration leaves behind in the catalogue that no statistics are needed for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tasks.database.connection import connect, explained
from tasks.release.environment import Environment
from tasks.release.plan import Plan
from tasks.release.watch import Finding

STATEMENT_TIMEOUT_S = 20.0
ANALYZE_TIMEOUT_S = 600.0
NEAR_END = 0.8  # of a sequence's values
LARGE_ROWS = 10_000  # a sequential scan of fewer rows is often the better plan
MANY_SCANS = 10  # sequential scans since the migration that are no accident

_INVALID: LiteralString = """
SELECT format('%%I.%%I', n.nspname, c.relname), t.relname
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE t.relname = ANY(%s) AND n.nspname !~ '^(pg_|information_schema)' AND NOT i.indisvalid AND c.relkind = 'i'
AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
"""
_UNVALIDATED: LiteralString = """
SELECT format('%%I.%%I', n.nspname, t.relname), k.conname
FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE t.relname = ANY(%s) AND n.nspname !~ '^(pg_|information_schema)' AND NOT k.convalidated
"""
_UNKNOWN_COLUMNS: LiteralString = """
SELECT n.nspname, t.relname, a.attname
FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE t.relname = ANY(%s) AND n.nspname !~ '^(pg_|information_schema)' AND t.relkind = 'r' AND a.attnum > 0
AND NOT a.attisdropped AND a.attstattarget IS DISTINCT FROM 0 AND pg_relation_size(t.oid) > 0
AND has_column_privilege(t.oid, a.attnum, 'SELECT')
AND NOT EXISTS (SELECT FROM pg_stats s
    WHERE s.schemaname = n.nspname AND s.tablename = t.relname AND s.attname = a.attname)
ORDER BY 1, 2, 3
"""
_SCANS: LiteralString = """
SELECT format('%%I.%%I', n.nspname, t.relname), pg_relation_filenode(t.oid)::bigint, coalesce(u.idx_scan, 0),
    coalesce(u.seq_scan, 0), greatest(t.reltuples, u.n_live_tup)::bigint
FROM pg_class t JOIN pg_stat_user_tables u ON u.relid = t.oid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE t.relname = ANY(%s) AND t.relkind = 'r'
"""
# The column's own type ends before its sequence where a serial column was widened by half, or never.
_SEQUENCES: LiteralString = """
SELECT format('%I.%I', s.schemaname, s.sequencename), s.last_value, least(s.max_value, CASE a.atttypid
    WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE s.max_value END)
FROM pg_sequences s
JOIN pg_class c ON c.relname = s.sequencename JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = s.schemaname
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
LEFT JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE s.last_value IS NOT NULL AND NOT s.cycle AND s.increment_by > 0
"""
Scans = Mapping[str, tuple[int, int, int]]


def look(
    environment: Environment, plan: Plan, first: Scans, indexed: Collection[str], *, analyze: bool = True
) -> tuple[tuple[Finding, ...], dict[str, tuple[int, int, int]]]:
    """Look into the catalogue after a migration; columns without statistics are analysed.

    Args:
        environment: Whose database.
        plan: The release's.
        first: What this function returned first, after the migrations: counters are compared with it, since the
            statements of a migration scan tables themselves. A table with another file than then is begun anew.
        indexed: Tables of which indexes were used before the release.
        analyze: Whether a lack of statistics is mended.

    Returns:
        The findings, and the scans of each touched table: its file, index scans, sequential scans.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    tables = sorted(plan.tables)
    made = " ".join(statement for migration in plan.pending for statement in migration.sql.forward.statements or ())
    try:
        with connect(
            environment.database, "watch", statement_timeout_s=STATEMENT_TIMEOUT_S, autocommit=True
        ) as connection:
            findings = [
                *_invalid(connection, tables),
                *_unvalidated(connection, tables, made),
                *_near_their_end(connection),
            ]
            missing = connection.execute(_UNKNOWN_COLUMNS, [tables]).fetchall()
            rows = connection.execute(_SCANS, [tables]).fetchall()
        findings += _without_statistics(environment, missing, analyze=analyze)
    except psycopg.Error as error:
        raise explained(error, f"cannot look into the catalogue of {environment.name}") from None
    scans = {
        table: first[table] if table in first and first[table][0] == file else (file, indexed, sequential)
        for table, file, indexed, sequential, _ in rows
    }
    findings += _scans_gone(rows, scans, indexed)
    return tuple(findings), scans


def _invalid(connection: psycopg.Connection[Any], tables: Collection[str]) -> Iterator[Finding]:
    for index, table in connection.execute(_INVALID, [tables]).fetchall():
        yield Finding(
            rule="invalid-index",
            subject=index,
            what=f"the index {index} of {table} is INVALID: it costs every write and serves no query",
            remedy=f"REINDEX INDEX CONCURRENTLY {index}",
        )


def _unvalidated(connection: psycopg.Connection[Any], tables: Collection[str], made: str) -> Iterator[Finding]:
    for table, name in connection.execute(_UNVALIDATED, [tables]).fetchall():
        if name in made:  # others were there before
            constraint = sql.Identifier(name).as_string(None)
            yield Finding(
                rule="unvalidated",
                subject=name,
                what=f"the constraint {name} of {table} is not validated: older rows may break it",
                remedy=f"ALTER TABLE {table} VALIDATE CONSTRAINT {constraint}",
            )


def _near_their_end(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    for name, last, most in connection.execute(_SEQUENCES).fetchall():
        if last >= NEAR_END * most:
            yield Finding(
                rule="sequence-end",
                subject=name,
                what=f"the sequence {name} has used {last / most:.0%} of its values",
                remedy="make its column a bigint",
            )


def _without_statistics(
    environment: Environment, missing: list[tuple[Any, ...]], *, analyze: bool
) -> Iterator[Finding]:
    mended: dict[tuple[str, str], bool] = {}
    for schema, table, column in missing:
        name = sql.SQL(".").join([sql.Identifier(schema), sql.Identifier(table)])
        statement = sql.SQL("ANALYZE {}").format(name)
        if analyze and (schema, table) not in mended:
            mended[schema, table] = _analyze(environment, statement)
        yield Finding(
            rule="no-statistics",
            subject=f"{schema}.{table}.{column}",
            what=f"the planner has no statistics of {table}.{column}",
            remedy=statement.as_string(None),
            mended=mended.get((schema, table), False),
        )


def _analyze(environment: Environment, statement: sql.Composed) -> bool:
    with connect(
        environment.database, "watch: analyze", statement_timeout_s=ANALYZE_TIMEOUT_S, autocommit=True
    ) as connection:
        try:
            connection.execute(statement)
        except psycopg.Error:
            return False  # another's table, or it took too long: the remedy stands in the finding
        # To whom a table does not belong, PostgreSQL gives a warning and does nothing.
        return True


def _scans_gone(rows: list[tuple[Any, ...]], scans: Scans, indexed: Collection[str]) -> Iterator[Finding]:
    for table, _, by_index, sequential, size in rows:
        _, by_index_first, sequential_first = scans[table]
        scanned = sequential - sequential_first
        if table in indexed and size >= LARGE_ROWS and by_index == by_index_first and scanned >= MANY_SCANS:
            yield Finding(
                rule="index-scans-gone",
                subject=table,
                what=f"no index of {table} was used since the migration, which read all of its {size:,} rows"
                f" {scanned:,} times instead",
                remedy="bring the index back that the queries used, or roll back",
                convicts=True,
            )
