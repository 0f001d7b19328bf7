"""What the server tells of a migrating session: its locks, for whom it waits, who waits for it, how far an index is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from tasks.release.plan import HolderKind

TEXT_LIMIT = 500  # characters of a statement that are kept
FIRST_USER_OID = 16384  # PostgreSQL's FirstNormalObjectId: what is below is the server's own

_MIGRATING: LiteralString = (
    "SELECT pid, coalesce(state, ''), query_start, coalesce(query, '') FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = %s AND backend_type = 'client backend'"
)
_LOCKS: LiteralString = (
    "SELECT pid, mode, granted, CASE WHEN relation >= %(user_oid)s AND database = (SELECT oid FROM pg_database"
    " WHERE datname = current_database()) THEN relation::regclass::text ELSE '' END"
    " FROM pg_locks WHERE NOT granted OR (pid = ANY(%(pids)s) AND relation >= %(user_oid)s)"
)
_BLOCKERS: LiteralString = (
    "SELECT pid, pg_blocking_pids(pid), coalesce(query_start, backend_start), backend_type = 'client backend'"
    " FROM pg_stat_activity WHERE pid = ANY(%s)"
)
_WHO: LiteralString = (
    "SELECT pid, coalesce(backend_type, ''), coalesce(application_name, ''), coalesce(usename, ''),"
    " coalesce(state, ''), coalesce(xact_start, backend_start),"
    " extract(epoch FROM clock_timestamp() - state_change)::float8,"
    " coalesce(query, '') LIKE 'autovacuum:%%(to prevent wraparound)' FROM pg_stat_activity WHERE pid = ANY(%s)"
)
_INDEX: LiteralString = (
    "SELECT coalesce(relid::regclass::text, ''), phase, blocks_done, blocks_total"
    " FROM pg_stat_progress_create_index WHERE pid = ANY(%s)"
)
_LITERAL = re.compile(
    r"""[eE]'(?:[^'\\]|\\.|'')*(?:'|$) | '(?:[^']|'')*(?:'|$) | \$(\w*)\$.*?(?:\$\1\$|$) | \b\d+(?:\.\d+)?\b""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Who:
    """A session as pg_stat_activity shows it."""

    pid: int
    kind: HolderKind
    application_name: str
    user: str
    state: str
    since: datetime | None
    idle_s: float  # since its state changed last

    def named(self) -> str:
        """How it is called in messages."""
        since = f" since {self.since:%Y-%m-%d %H:%M:%S %Z}" if self.since else ""
        kind = f"{self.kind}: " if self.kind != "session" else ""
        user = f" of {self.user}" if self.user else ""
        return f"{kind}server process {self.pid} ({self.application_name or 'without a name'}){user}{since}"


@dataclass(frozen=True)
class Session:
    """A migrating session."""

    pid: int
    state: str
    statement: tuple[int, datetime | None]  # which one: it changes with every statement
    text: str


@dataclass(frozen=True)
class Look:
    """One look.

    Args:
        sessions: The migrating ones; there is one but for an application that opens more.
        locks: Of the migrating sessions, as "mode on relation".
        waits_for: What the migrating sessions wait for, by the process that holds it or is ahead in the queue.
        others: Sessions of clients that wait for a migrating one, straight or behind others; with their statement.
    """

    sessions: tuple[Session, ...]
    locks: frozenset[str] = frozenset()
    waits_for: Mapping[int, str] | None = None
    others: frozenset[tuple[int, datetime | None]] = frozenset()


def look(connection: psycopg.Connection[tuple[Any, ...]], name: str) -> Look:
    """Look at the sessions whose application_name is `name`; one query while nobody waits and nothing runs.

    Raises:
        psycopg.Error: The server is gone, or refuses.
    """
    rows = connection.execute(_MIGRATING, [name]).fetchall()
    sessions = tuple(Session(pid, state, (pid, at), without_literals(query)) for pid, state, at, query in rows)
    if not sessions:
        return Look(())
    pids = {session.pid for session in sessions}
    locks = connection.execute(_LOCKS, {"user_oid": FIRST_USER_OID, "pids": list(pids)}).fetchall()
    held = frozenset(f"{mode} on {relation}" for pid, mode, _, relation in locks if pid in pids and relation)
    waiting = {pid: relation for pid, _, granted, relation in locks if not granted}
    if not waiting:
        return Look(sessions, held)
    blockers = connection.execute(_BLOCKERS, [list(waiting)]).fetchall()
    edges = {pid: set(by) for pid, by, _, _ in blockers if by}
    behind = made_to_wait(edges, pids)
    return Look(
        sessions,
        held,
        {holder: waiting[pid] for pid in pids & edges.keys() for holder in edges[pid] - pids},
        frozenset((pid, at) for pid, _, at, client in blockers if pid in behind and client),
    )


def made_to_wait(edges: Mapping[int, Iterable[int]], by: Iterable[int]) -> set[int]:
    """The processes that wait for one of `by`, or for one that does; `edges` lead from each to whom it waits for."""
    reached = set(by)
    while more := {pid for pid, ahead in edges.items() if pid not in reached and reached.intersection(ahead)}:
        reached |= more
    return reached - set(by)


def who(connection: psycopg.Connection[tuple[Any, ...]], pids: Iterable[int]) -> dict[int, Who]:
    """What is known of some sessions; those that have ended are left out.

    Raises:
        psycopg.Error: The server is gone, or refuses.
    """
    found = {0: Who(0, "prepared transaction", "", "", "", None, 0)} if 0 in (wanted := set(pids)) else {}
    for pid, backend, application, user, state, since, idle_s, wraparound in connection.execute(_WHO, [list(wanted)]):
        kind: HolderKind = "session"
        if backend == "autovacuum worker":
            kind = "autovacuum to prevent wraparound" if wraparound else "autovacuum"
        elif state.startswith("idle in transaction"):
            kind = "idle in transaction"
        found[pid] = Who(pid, kind, application, user, state, since, idle_s or 0)
    return found


def index_progress(connection: psycopg.Connection[tuple[Any, ...]], pids: Iterable[int]) -> tuple[str, float] | None:
    """How far the building of an index is: its table with the phase, and the share of blocks; None: none is built.

    Raises:
        psycopg.Error: The server is gone, or refuses.
    """
    row = connection.execute(_INDEX, [list(pids)]).fetchone()
    if row is None:
        return None
    table, phase, done, total = row
    return f"index on {table}: {phase}", (done / total if total else 0.0)


def without_literals(query: str) -> str:
    """A statement with `?` for every value in it: strings, numbers, also a string that the server cut off."""
    return " ".join(_LITERAL.sub("?", query).split())[:TEXT_LIMIT]
