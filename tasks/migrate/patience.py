"""Between two attempts: whoever held the lock is waited for without queueing, and ended only where that is allowed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable

import psycopg

from tasks.database.connection import connect, explained
from tasks.migrate.look import Who, who
from tasks.release.environment import Environment
from tasks.release.plan import Attempt, Holder

FIRST_S, LONGEST_S, FACTOR = 0.5, 10.0, 2.0  # back-off: doubled from the first pause to the longest
POLL_S = 0.25
HOLDER_S = 60.0  # the longest that a known holder keeps off the next attempt: it may have let go of what is needed
DRAIN_S = 5.0  # the longest that those who still queue for a table are waited for
_QUEUE = (
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE NOT granted AND locktype = 'relation' AND datname = current_database()"
)


def wait(environment: Environment, last: Attempt, number: int, until: float, report: Callable[[str], None]) -> None:
    """Wait before the next attempt: for the queue to drain, a jittered pause, and the holders' transactions to end.

    Args:
        environment: Says who may be ended.
        last: The attempt that failed.
        number: How many have failed.
        until: When patience ends, on the monotonic clock.
        report: Takes a line for the log.

    Raises:
        DatabaseError: The server cannot be reached.
    """
    pause_s = min(FIRST_S * FACTOR ** (number - 1), LONGEST_S) * random.uniform(0.5, 1)  # noqa: S311 - no secret
    now = time.monotonic()
    paused, kept_off, drained = now + pause_s, now + HOLDER_S, now + DRAIN_S
    with connect(environment.database, "wait for locks", autocommit=True) as connection:
        while (now := time.monotonic()) < until:
            try:
                there = _still_there(connection, last.holders)
                for holder in there:
                    _end(environment, connection, holder, report)
                queued = connection.execute(_QUEUE).fetchone() != (0,)
            except psycopg.Error as error:
                raise explained(error, "cannot look who holds the locks") from None
            if now >= paused and not (there and now < kept_off) and not (queued and now < drained):
                return
            time.sleep(POLL_S)


def _still_there(connection: psycopg.Connection[tuple[object, ...]], holders: Iterable[Holder]) -> list[Who]:
    """The holders whose transaction has not ended; an ordinary autovacuum gives way to whoever waits, so never it."""
    known = {holder.pid: holder.since for holder in holders if holder.since and holder.kind != "autovacuum"}
    if not known:
        return []
    return [one for pid, one in who(connection, known).items() if one.since == known[pid] and one.state != "idle"]


def _end(
    environment: Environment,
    connection: psycopg.Connection[tuple[object, ...]],
    holder: Who,
    report: Callable[[str], None],
) -> None:
    """End a holder, if the environment names its kind."""
    if holder.kind not in environment.migrate.end_holders:
        return
    if holder.kind == "idle in transaction" and holder.idle_s < environment.migrate.idle_holder_s:
        return
    try:
        connection.execute("SELECT pg_terminate_backend(%s)", [holder.pid])
        report(f"ended, as end_holders allows: {holder.named()}")
    except psycopg.errors.InsufficientPrivilege as error:
        report(f"end_holders allows it, the server does not: {holder.named()}: {error}")
