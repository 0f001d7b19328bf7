"""What the server's statistics say of the use of a table, and what else runs on the server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import LiteralString

from psycopg import sql

from tasks.risk.facts import Answer, Traffic, Usage
from tasks.risk.relation import FAMILY, FOREIGN, VIEW, Relation
from tasks.risk.session import MARK, Session, UnknownError
from tasks.risk.structure import attribute, word_pattern

YOUNGEST_S = 300.0  # statistics of less time say nothing
_WHEN = "%Y-%m-%d %H:%M UTC"
# Of the table, its partitions and heirs. Scans for a foreign key check are index scans like any other.
_COUNTERS: LiteralString = (
    "coalesce(sum(s.seq_scan), 0)::int8, coalesce(sum(s.idx_scan), 0)::int8,"
    " coalesce(sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del), 0)::int8"
)
_MAY_READ_STATISTICS: LiteralString = "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')"


@dataclass(frozen=True)
class Counters:
    """How often a table was scanned and changed since statistics began."""

    sequential: int
    by_index: int
    changes: int


@dataclass(frozen=True)
class Statistics:
    """The server's counters at a moment: before questions of our own, which scan tables too."""

    since: datetime
    at_start: bool  # no reset is recorded: since the server's start at least, and what was counted before is included
    read_at: datetime
    of: dict[int, tuple[int, int, int]]  # by oid

    @property
    def age_s(self) -> float:
        """For how long was counted."""
        return (self.read_at - self.since).total_seconds()

    @property
    def beginning(self) -> str:
        """When it was, for a sentence."""
        note = " (the server's start; what was counted before it is included)" if self.at_start else ""
        return f"{_time(self.since)}{note}"


def read(session: Session) -> Statistics:
    """Read every table's counters.

    Raises:
        UnknownError: The server does not count, or has begun too lately.
    """
    counts, since, at_start, now = session.one(
        # A crash resets without a record of it, so counting is only sure since the last start.
        "SELECT current_setting('track_counts')::bool, coalesce(d.stats_reset, pg_postmaster_start_time()),"
        " d.stats_reset IS NULL, now()"
        " FROM pg_stat_database d WHERE d.datname = current_database()"
    )
    if not counts:
        raise UnknownError("the server keeps no statistics (track_counts is off)")
    if (now - since).total_seconds() < YOUNGEST_S:
        raise UnknownError(f"statistics began at {_time(since)}, less than {YOUNGEST_S / 60:.0f} minutes ago")
    found = session.ask(
        "SELECT s.relid, {counters} FROM pg_stat_all_tables s GROUP BY s.relid", counters=sql.SQL(_COUNTERS)
    )
    return Statistics(
        since, at_start, now, {relid: (scans, lookups, changes) for relid, scans, lookups, changes in found}
    )


def traffic(session: Session, relation: Relation, statistics: Statistics) -> Answer[Traffic]:
    """Scans and changed rows per second since statistics began."""
    counters = _counters(session, relation, statistics)
    reads = (counters.sequential + counters.by_index) / statistics.age_s
    writes = counters.changes / statistics.age_s
    return Answer(
        Traffic(reads, writes, statistics.since),
        f"{relation.label}: {reads:.3g} scans and {writes:.3g} changed rows a second since {statistics.beginning}",
    )


def usage(session: Session, relation: Relation, name: str | None, statistics: Statistics) -> Answer[Usage]:
    """Whether a table or a column was used since statistics began."""
    counters = _counters(session, relation, statistics)
    since = statistics.beginning
    if not (counters.sequential or counters.by_index or counters.changes):
        what = f"{relation.label}.{name}" if name else relation.label
        if name:
            attribute(session, relation, name)
        return Answer(Usage(False, statistics.since), f"{what} was not used since {since}: no scan, no row changed")
    if name:
        return _column_usage(session, relation, name)
    last = _last_scan(session, relation)
    return Answer(
        Usage(True, statistics.since),
        f"{relation.label} was used since {since}: {counters.sequential:,} sequential and {counters.by_index:,} index"
        f" scans{last}, {counters.changes:,} rows changed (dumps and foreign key checks scan too)",
    )


def _counters(session: Session, relation: Relation, statistics: Statistics) -> Counters:
    if relation.kind in (VIEW, FOREIGN):
        raise UnknownError("the server keeps no statistics of views and foreign tables")
    family = session.ask("{family} SELECT oid FROM family", family=_family(relation))
    rows = [statistics.of.get(oid, (0, 0, 0)) for (oid,) in family]
    return Counters(*(sum(column) for column in zip(*rows, strict=True)))


def _family(relation: Relation) -> sql.Composed:
    return sql.SQL(FAMILY).format(oid=sql.Literal(relation.oid))


def _last_scan(session: Session, relation: Relation) -> str:
    """When the last scan was; PostgreSQL 16 and newer know. Scans of our own may be among them."""
    if session.server_version < 160000:
        return ""
    (last,) = session.one(
        "{family} SELECT max(greatest(s.last_seq_scan, s.last_idx_scan)) FROM family f"
        " JOIN pg_stat_all_tables s ON s.relid = f.oid",
        family=_family(relation),
    )
    return f" (the last at {_time(last)})" if last else ""


def _column_usage(session: Session, relation: Relation, name: str) -> Answer[Usage]:
    """Whether a statement that the server remembers names the column."""
    what = f"{relation.label}.{name}"
    _, called = attribute(session, relation, name)
    found = session.ask(
        "SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'pg_stat_statements'"
    )
    if not found:
        raise UnknownError(
            "the table was used, and pg_stat_statements, which knows by which statements, is not installed"
        )
    schema = found[0][0]
    lost, since, now = session.one(
        "SELECT dealloc, stats_reset, now() FROM {view}", view=sql.Identifier(schema, "pg_stat_statements_info")
    )
    calls, hidden, whole_rows = session.one(
        # Neither our own questions nor changes of the schema nor dumps are the application's use.
        "WITH texts AS (SELECT s.query, s.calls FROM {view} s JOIN pg_database d ON d.oid = s.dbid"
        "  WHERE d.datname = current_database() AND strpos(s.query, {mark}) = 0"
        r"  AND s.query !~* '^\s*(create|alter|drop|comment|grant|copy|analyze|vacuum|begin|set)\M')"
        " SELECT coalesce(sum(calls) FILTER (WHERE query ~* {table} AND query ~* {column}), 0)::int8,"
        "  count(*) FILTER (WHERE query = '<insufficient privilege>'),"
        r"  count(*) FILTER (WHERE query ~* {table} AND query ~ '(select|returning|,)\s+(\w+\.)?\*')"
        " FROM texts",
        view=sql.Identifier(schema, "pg_stat_statements"),
        mark=MARK,
        table=word_pattern(relation.name),
        column=word_pattern(called),
    )
    if calls:
        return Answer(
            Usage(True, since), f"{what} is named in statements that ran {calls:,} times since {_time(since)}"
        )
    if hidden:
        raise UnknownError("pg_stat_statements shows this role only its own statements (grant it pg_read_all_stats)")
    if whole_rows:
        raise UnknownError("statements read whole rows of the table (*), this column among the rest")
    if lost:
        raise UnknownError(
            f"no statement that names it is remembered, but pg_stat_statements has dropped some ({lost} times)"
        )
    if (now - since).total_seconds() < YOUNGEST_S:
        raise UnknownError(f"pg_stat_statements began at {_time(since)}, less than {YOUNGEST_S / 60:.0f} minutes ago")
    return Answer(Usage(False, since), f"{what} is named in no statement since {_time(since)} (pg_stat_statements)")


def size_bytes(session: Session, relation: Relation) -> Answer[int]:
    """What a table takes on disk, with indexes, TOAST, partitions and heirs."""
    (size,) = session.one(
        "{family} SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::int8 FROM family", family=_family(relation)
    )
    return Answer(size, f"{relation.label} takes {_human(size)} with its indexes")


def replicas(session: Session, relation: Relation) -> Answer[tuple[str, ...]]:
    """Standbys of the server, and subscribers of publications that hold the table."""
    ((may_read,),) = session.ask(_MAY_READ_STATISTICS)
    if not may_read:
        raise UnknownError("this role does not see who replicates (grant it pg_monitor)")
    found = session.ask(
        "{family}, above(oid) AS (SELECT {oid}::oid UNION SELECT i.inhparent FROM above a"
        "  JOIN pg_inherits i ON i.inhrelid = a.oid),"
        " published AS (SELECT DISTINCT p.pubname FROM pg_publication_tables p JOIN pg_namespace n"
        "  ON n.nspname = p.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename"
        "  WHERE c.oid IN (SELECT oid FROM family UNION SELECT oid FROM above)),"
        " slots AS (SELECT s.*, CASE WHEN s.active THEN '' ELSE ', away now' END AS away FROM pg_replication_slots s"
        "  WHERE s.slot_type = 'physical' OR s.database = current_database())"
        # pg_basebackup is in this view too, for as long as it lasts.
        " SELECT 'standby ' || r.application_name FROM pg_stat_replication r WHERE r.state IN ('streaming', 'catchup')"
        "  AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')"
        " UNION SELECT 'standby with slot ' || slot_name || away FROM slots WHERE slot_type = 'physical' AND NOT active"
        " UNION SELECT 'publication ' || p.pubname || ' (slot ' || s.slot_name || s.away || ')' FROM published p"
        "  CROSS JOIN slots s WHERE s.slot_type = 'logical' AND s.plugin = 'pgoutput'"
        # Other plugins decode every table.
        " UNION SELECT 'logical slot ' || slot_name || ' (' || plugin || ')' || away FROM slots"
        "  WHERE slot_type = 'logical' AND plugin <> 'pgoutput' ORDER BY 1",
        family=_family(relation),
        oid=relation.oid,
    )
    listed = tuple(row[0] for row in found)
    return Answer(listed, f"standbys and subscribers that follow {relation.label}: {', '.join(listed) or 'none'}")


def longest_transaction(session: Session) -> Answer[float]:
    """Age in seconds of the oldest transaction that is open in this database."""
    ((may_read,),) = session.ask(_MAY_READ_STATISTICS)
    if not may_read:
        raise UnknownError("this role does not see the transactions of others (grant it pg_monitor)")
    found = session.ask(
        # What it is at is not told: a statement may hold rows, or a password.
        "SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age, application_name, state,"
        "  'process ' || pid FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL"
        "  AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        " UNION ALL SELECT extract(epoch FROM clock_timestamp() - prepared)::float8, 'a prepared transaction',"
        "  'prepared', 'gid ' || gid FROM pg_prepared_xacts WHERE database = current_database()"
        " ORDER BY age DESC LIMIT 1"
    )
    if not found:
        return Answer(0.0, "no other transaction is open")
    age, application, state, process = found[0]
    return Answer(
        max(age, 0.0), f"the oldest open transaction is {age:.1f} s old: {application or 'unnamed'}, {state}, {process}"
    )


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime(_WHEN)


def _human(size: int) -> str:
    value, unit = float(size), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < 1024 or unit == "TB":
            break
        value /= 1024
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
