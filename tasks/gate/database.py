"""Prerequisites of §4 that are asked of the database server: replicas, and whoever would keep a migration waiting."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from tasks.database.connection import connect, explained
from tasks.markdown.text import count, duration, moment
from tasks.release.decisions import Check
from tasks.release.environment import Environment
from tasks.release.plan import Plan

POLL_S = 0.1
MONITOR = "GRANT pg_monitor TO the role of [database]"
SHOWN = 5  # of several holders, in one sentence

# What follows this server, other than one that copies it (pg_basebackup), and whether it has come to a position.
_FOLLOWERS: LiteralString = (
    "SELECT application_name, coalesce(replay_lsn, flush_lsn, write_lsn) >= %s::pg_lsn FROM pg_stat_replication"
    " WHERE state IS DISTINCT FROM 'backup' ORDER BY 1"
)
_SLOTS: LiteralString = (
    "SELECT slot_name, coalesce(wal_status, '') FROM pg_replication_slots"
    " WHERE NOT temporary AND (NOT active OR wal_status = 'lost') ORDER BY 1"
)
_SUBSCRIPTIONS: LiteralString = (
    "SELECT pg_subscription.subname FROM pg_subscription JOIN pg_stat_subscription ON subid = oid"
    " WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " GROUP BY pg_subscription.subname, subenabled HAVING subenabled AND bool_and(pid IS NULL) ORDER BY 1"
)
_TRANSACTIONS: LiteralString = (
    "SELECT pid, coalesce(usename, '?'), application_name, state, extract(epoch FROM now() - xact_start)::float8"
    " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend' AND xact_start IS NOT NULL ORDER BY xact_start"
)
_PREPARED: LiteralString = "SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = current_database()"
_WRAPAROUND: LiteralString = (
    "SELECT DISTINCT relname FROM pg_stat_activity JOIN pg_locks USING (pid) JOIN pg_class ON pg_class.oid = relation"
    " WHERE backend_type = 'autovacuum worker' AND query LIKE '%%(to prevent wraparound)'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND mode = 'ShareUpdateExclusiveLock' AND relname = ANY(%s) ORDER BY 1"
)


def database_checks(environment: Environment, plan: Plan) -> tuple[Check, ...]:
    """Everything that is asked of the server, over one connection.

    Raises:
        DatabaseError: It cannot be reached or refuses.
    """
    with connect(environment.database, "gate", autocommit=True) as connection:
        try:
            return (
                replication(connection, environment.gate.replication_lag_s),
                _transactions(connection, environment.gate.longest_transaction_s),
                prepared(connection.execute(_PREPARED).fetchall()),
                wraparound([name for (name,) in connection.execute(_WRAPAROUND, [sorted(plan.tables)])]),
            )
        except psycopg.Error as error:
            raise explained(error, "the prerequisites could not be asked of the database") from None


def replication(connection: psycopg.Connection[tuple[Any, ...]], lag_s: float) -> Check:
    """Every replica reaches, within the allowed lag, the position at which the server is now.

    That is the lag, measured: what the server tells of it is empty while nothing is written, and stands still on a
    replica that stands still.
    """
    name = "replication"
    if connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,):
        return Check(name=name, tick="no", evidence="this server is a replica", mend="name the primary in [database]")
    if not _sees_others(connection):
        return Check(name=name, tick="unknown", evidence="this role is not shown the replicas", mend=MONITOR)
    if dead := [f"slot {slot} ({state})" for slot, state in connection.execute(_SLOTS)]:
        return Check(
            name=name,
            tick="no",
            evidence=f"nobody follows {', '.join(dead)}: what is written is kept for a replica that is away",
            mend="start the replica again; pg_drop_replication_slot removes a slot that nobody needs any more",
        )
    if stopped := [subscription for (subscription,) in connection.execute(_SUBSCRIPTIONS)]:
        evidence = f"nothing arrives through the subscription {', '.join(stopped)}"
        return Check(name=name, tick="no", evidence=evidence, mend="the server's log says why its worker ends")
    return _caught_up(connection, lag_s)


def _caught_up(connection: psycopg.Connection[tuple[Any, ...]], lag_s: float) -> Check:
    """Whether everybody who follows this server comes in time to where it is now."""
    name = "replication"
    row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    position = row[0] if row else "0/0"
    began = time.monotonic()
    while True:
        followers = connection.execute(_FOLLOWERS, [position]).fetchall()
        behind = [str(follower) for follower, there in followers if not there]
        if not behind:
            break
        if time.monotonic() - began > lag_s:
            evidence = f"{', '.join(behind)} did not come within {lag_s:g} s to where the server was"
            return Check(name=name, tick="no", evidence=evidence, mend="wait until it has caught up; does it replay?")
        time.sleep(POLL_S)
    if not followers:
        return Check(name=name, tick="yes", evidence="no replica")
    took = duration(time.monotonic() - began)
    return Check(name=name, tick="yes", evidence=f"{count(len(followers), 'replica')} caught up within {took}")


def _transactions(connection: psycopg.Connection[tuple[Any, ...]], longest_s: float) -> Check:
    if not _sees_others(connection):
        evidence = "this role is not shown what other roles do"
        return Check(name="longest transaction", tick="unknown", evidence=evidence, mend=MONITOR)
    return transactions(connection.execute(_TRANSACTIONS).fetchall(), longest_s)


def transactions(rows: Sequence[tuple[Any, ...]], longest_s: float) -> Check:
    """No transaction has been open for too long; rows are process, role, application, state and seconds."""
    name = "longest transaction"
    late = [
        f"process {pid} of {role} ({application or 'without a name'}, {state}) for {duration(seconds)}"
        for pid, role, application, state, seconds in rows
        if seconds > longest_s
    ]
    if late:
        more = f" and {len(late) - SHOWN} more" if len(late) > SHOWN else ""
        return Check(
            name=name,
            tick="no",
            evidence=f"open: {'; '.join(late[:SHOWN])}{more}; allowed are {duration(longest_s)}",
            mend="let it end, or end it by pg_terminate_backend: a migration would wait for what it holds",
        )
    oldest = duration(max(0.0, rows[0][4])) if rows else ""
    return Check(name=name, tick="yes", evidence=f"open for {oldest} at most" if rows else "none is open")


def prepared(rows: Sequence[tuple[str, str, datetime]]) -> Check:
    """No transaction is left prepared: it holds its locks without any session, across restarts."""
    name = "prepared transactions"
    if not rows:
        return Check(name=name, tick="yes", evidence="none")
    told = "; ".join(f"{gid!r} of {owner} since {moment(since)}" for gid, owner, since in rows[:SHOWN])
    mend = "COMMIT PREPARED or ROLLBACK PREPARED; its coordinator knows which"
    return Check(name=name, tick="no", evidence=f"{count(len(rows), 'transaction')}: {told}", mend=mend)


def wraparound(tables: Sequence[str]) -> Check:
    """No migrated table is being vacuumed against wraparound: such a vacuum does not give way to a migration."""
    name = "vacuum against wraparound"
    if not tables:
        return Check(name=name, tick="yes", evidence="none is at work on the migrated tables")
    mend = "let it end; pg_stat_progress_vacuum shows how far it is"
    return Check(name=name, tick="no", evidence=f"at work on {', '.join(tables)}", mend=mend)


def _sees_others(connection: psycopg.Connection[tuple[Any, ...]]) -> bool:
    return connection.execute("SELECT pg_has_role('pg_read_all_stats', 'USAGE')").fetchone() == (True,)
