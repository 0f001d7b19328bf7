"""Keep: collect what the sources told since the last run, and put it into the history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from tasks.release.environment import Environment
from tasks.release.errors import ConflictError
from tasks.signals.collect import State, collect
from tasks.signals.history import FOLDER, append, compact, delete, expire, first_day_kept
from tasks.store.bucket import Bucket

STATE = "state.json"


@dataclass(frozen=True)
class Kept:
    """What a run did.

    Attributes:
        samples: How many were written.
        merged: Parts of finished days that were merged.
        expired: Files that were older than `history_days`.
    """

    samples: int
    merged: int
    expired: int


def keep(environment: Environment, now: datetime, report: Callable[[str], None]) -> Kept:
    """Collect everything since the last run, write it down, merge the days that are over and delete what is too old.

    Samples are written before the state that says so: a run that is killed in between writes them again, and they
    count once. The state is written on condition that no other run did: of two at once, one takes back what it wrote.

    Args:
        environment: Whose history.
        now: This moment, UTC.
        report: Takes a line for the log.

    Raises:
        ConflictError: Another run was faster.
        StoreError: The bucket refuses or is lost.
    """
    bucket = Bucket(environment.storage)
    key = environment.storage.key(FOLDER, STATE)
    days = environment.monitor.history_days
    stored = bucket.read(key)
    state, etag = State(), stored.etag if stored else None
    if stored:
        try:
            state = State.restore(stored.body)
        except ValidationError:
            report(f"{key} is of another version; everything that the sources still tell is read again")
    count, more = 0, True
    while more:
        collected = collect(environment, state, now - timedelta(days=days), now)
        for problem in collected.problems:
            report(problem)
        keys: list[str] = []
        try:
            keys = append(bucket, collected.samples, now)
            etag = bucket.write(key, state.dump(), etag=etag)
        except ConflictError:
            delete(bucket, keys)
            raise ConflictError(
                f"another run collects the baseline of {environment.name}",
                key=key,
                hint="nothing is lost; leave it to that run",
            ) from None
        count, more = count + len(collected.samples), collected.more
    return Kept(count, compact(bucket, now.date()), expire(bucket, first_day_kept(now, days)))
