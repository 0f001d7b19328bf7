"""The guard: watches a migration from a second connection, and cancels it when others have waited for it too long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any

import psycopg

from tasks.database.connection import connect
from tasks.migrate.look import Look, Who, index_progress, look, who
from tasks.release.environment import Database
from tasks.release.errors import DatabaseError
from tasks.release.plan import Holder, SeenStatement

POLL_S = 0.05
GRACE_S = 0.1  # a cancelled session that is between two statements does not hear it: its transaction is ended then
ENDED_S = 2.0  # the longest that a statement takes to heed its cancelling, before the session is ended
BLIND_S = 10.0  # a guard that sees nothing for so long does not let the migration go on
STATEMENTS = 200  # kept per attempt, the longest; a loop over rows has any number
LONG_S = 10.0  # what takes longer is told every TELL_S
TELL_S = 5.0
INDEX_S = 1.0  # between two looks at how far an index is


@dataclass
class _Statement:
    text: str
    began: float
    seconds: float = 0
    waited_s: float = 0
    locks: set[str] = field(default_factory=set)


@dataclass
class Sight:
    """What the guard saw of one attempt, in seconds."""

    waited_s: float = 0
    blocked_others_s: float = 0
    blocked: set[int] = field(default_factory=set)
    cancelled: int = 0
    blind: bool = False
    holders: dict[int, tuple[Who, str, float]] = field(default_factory=dict)  # with relation and how long it was waited
    statements: dict[tuple[int, datetime | None], _Statement] = field(default_factory=dict)

    def told_holders(self) -> tuple[Holder, ...]:
        """The holders for the record."""
        return tuple(
            Holder(
                pid=one.pid,
                kind=one.kind,
                application_name=one.application_name,
                user=one.user,
                state=one.state,
                since=one.since,
                relation=relation,
                waited_s=waited_s,
            )
            for one, relation, waited_s in self.holders.values()
        )

    def told_statements(self) -> tuple[SeenStatement, ...]:
        """The longest statements for the record, in order."""
        longest = sorted(self.statements.values(), key=lambda one: -one.seconds)[:STATEMENTS]
        return tuple(
            SeenStatement(text=one.text, seconds=one.seconds, waited_s=one.waited_s, locks=tuple(sorted(one.locks)))
            for one in sorted(longest, key=lambda one: one.began)
        )


class Guard:
    """Watches the sessions of one attempt while its block runs, in a thread of its own.

    Args:
        database: The application's.
        name: The application_name of the migrating sessions.
        budget_s: The longest that others may be made to wait; None: as long as it takes.
        stop: Is set to kill the command where its session cannot be cancelled, or not be seen.
        tell: Takes how far the statement is (0 to 1; None: not known) and a line, from the guard's thread.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        budget_s: float | None,
        stop: threading.Event,
        tell: Callable[[float | None, str], None],
    ) -> None:
        self.database, self.name, self.budget_s = database, name, budget_s
        self.stop, self.tell = stop, tell
        self.sight = Sight()
        self._ended = threading.Event()
        self._waiting: dict[tuple[int, datetime | None], float] = {}  # since when each other session waits
        self._cancelled_at: float | None = None
        self._indexed_at = self._told_at = time.monotonic()
        self._before = time.monotonic()
        self._connection = self._connect()
        self._thread = threading.Thread(target=self._watched, name="guard", daemon=True)

    def __enter__(self) -> Guard:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return connect(self.database, "guard", statement_timeout_s=BLIND_S, autocommit=True)

    def _watched(self) -> None:
        try:
            self._watch()
        finally:
            if not self._ended.is_set():  # whatever it died of: nothing goes on unguarded
                self.sight.blind = True
                self.stop.set()

    def _watch(self) -> None:
        seen_at = self._before = time.monotonic()
        while True:
            try:
                if self._connection.closed:
                    self._connection = self._connect()
                self._take(look(self._connection, self.name))
                seen_at = time.monotonic()
            except (psycopg.Error, DatabaseError):
                self._connection.close()
                if time.monotonic() - seen_at > BLIND_S:
                    self.sight.blind = True
                    self.stop.set()
            if self._ended.wait(POLL_S):
                return

    def _take(self, seen: Look) -> None:
        now = time.monotonic()
        step_s, self._before = now - self._before, now
        self._waiting = {one: self._waiting.get(one, now) for one in seen.others}
        longest = max((now - since for since in self._waiting.values()), default=0.0)
        if self._waiting:
            self.sight.blocked |= {pid for pid, _ in self._waiting}
            self.sight.blocked_others_s = max(self.sight.blocked_others_s, longest)
        # First of all: whatever follows costs time.
        if self.budget_s is not None and longest > self.budget_s - POLL_S:
            self._cancel(seen, now)
        else:
            self._cancelled_at = None
        self._note(seen, step_s, now)
        self._tell(seen, now)

    def _cancel(self, seen: Look, now: float) -> None:
        """Cancel what the migrating sessions run; end those that do not heed it."""
        if self._cancelled_at is None:
            self._cancelled_at = now
            self.sight.cancelled += 1
        for session in seen.sessions:
            patience_s = ENDED_S if session.state == "active" else GRACE_S
            ends = now - self._cancelled_at > patience_s
            query = "SELECT pg_terminate_backend(%s)" if ends else "SELECT pg_cancel_backend(%s)"
            try:
                self._connection.execute(query.encode(), [session.pid])
            except psycopg.errors.InsufficientPrivilege:
                # The server notices that its client is gone (client_connection_check_interval), if later.
                self.stop.set()

    def _note(self, seen: Look, step_s: float, now: float) -> None:
        sight = self.sight
        if seen.waits_for:
            sight.waited_s += step_s
            unknown = seen.waits_for.keys() - sight.holders.keys()
            for pid, one in who(self._connection, unknown).items() if unknown else ():
                sight.holders[pid] = (one, seen.waits_for[pid], 0.0)
            for pid in seen.waits_for.keys() & sight.holders.keys():
                one, relation, waited_s = sight.holders[pid]
                sight.holders[pid] = (one, relation, waited_s + step_s)
        for session in seen.sessions:
            if session.state != "active":
                continue
            if session.statement not in sight.statements and len(sight.statements) >= 2 * STATEMENTS:
                shortest = min(sight.statements, key=lambda key: sight.statements[key].seconds)
                del sight.statements[shortest]
            statement = sight.statements.setdefault(session.statement, _Statement(session.text, now))
            statement.seconds = now - statement.began
            statement.waited_s += step_s if seen.waits_for else 0
            statement.locks |= seen.locks

    def _tell(self, seen: Look, now: float) -> None:
        active = [session for session in seen.sessions if session.state == "active"]
        if not active or now - self._indexed_at < INDEX_S:
            return
        self._indexed_at = now
        index = index_progress(self._connection, [session.pid for session in active])
        began = (
            self.sight.statements[active[0].statement].began if active[0].statement in self.sight.statements else now
        )
        long = now - began > LONG_S and now - self._told_at > TELL_S
        if long:
            self._told_at = now
        if index:
            self.tell(index[1], f"{index[0]}, {index[1]:.0%}" if long else "")
        elif long:
            waits = ", waiting for a lock" if seen.waits_for else ""
            self.tell(None, f"a statement runs for {now - began:.0f} s{waits}: {active[0].text[:100]}")
