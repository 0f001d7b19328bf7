"""Replay: the past judged as if a migration had happened then, by the same judge and the history before that moment."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from tasks.monitor.evidence import ASK, BROKEN, CONVICTED, VERDICTS, Rules, State, step
from tasks.monitor.learn import learn
from tasks.monitor.observe import POOLED, Interval, is_broken
from tasks.release.environment import Environment
from tasks.release.errors import ConflictError
from tasks.release.watch import Placebo
from tasks.signals import history
from tasks.signals.sample import Sample
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger

PLACEBO_DAYS = 14
LEARNED_DAYS = 28
ALARMS = (CONVICTED, BROKEN, ASK)


@dataclass(frozen=True)
class Replayed:
    """What the judge says of a stretch of the past.

    Attributes:
        verdict: Of `tasks.monitor.evidence.VERDICTS`; "inconclusive" where nothing is stored.
        alarmed_at: Beginning of the interval in which it would have convicted; None: it would not.
        metric: Which weighed most then, or at the end; "": nothing was watched.
        evidence: Against the release; 1 / false_alarm_rate convicts.
        intervals: That were judged.
        days: Of history before.
    """

    verdict: str
    alarmed_at: datetime | None
    metric: str
    evidence: float
    intervals: int
    days: float


def replay(environment: Environment, at: datetime, frame: pd.DataFrame | None = None) -> Replayed:
    """Judge the watch that would have followed a moment.

    Args:
        environment: Whose history.
        at: The moment.
        frame: The history around it; None: it is read.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    settings = environment.monitor
    watch_s = settings.watch_s or 2 * 3600.0
    until = at + timedelta(seconds=watch_s)
    if frame is None:
        frame = history.read(Bucket(environment.storage), at - timedelta(days=LEARNED_DAYS), until)
    past = frame[(frame["at"] >= at - timedelta(days=LEARNED_DAYS)) & (frame["at"] < at)]
    normal = learn(past, at, settings, lambda _: ("unknown", ""))
    intervals = max(1, round(watch_s / settings.interval_s))
    if not normal.measures:
        return Replayed("inconclusive", None, "", 1.0, 0, normal.days)
    rules = Rules.of(
        len(normal.measures),
        intervals,
        alpha=settings.false_alarm_rate,
        weights=normal.weights(),
        lower=[one.quality == "traffic" for one in normal.measures],
        dispersion=[one.dispersion for one in normal.measures],
        certain=normal.certain,
    )
    state = State.start(len(normal.measures))
    recent: list[list[Sample]] = []
    alarmed_at = None
    for begin, samples in _intervals(frame, at, intervals, settings.interval_s):
        recent = [*recent[1 - POOLED :], samples]
        pooled = [sample for of_interval in recent for sample in of_interval]
        interval = Interval(normal, begin, samples, pooled, settings.interval_s)
        state = step(state, rules, interval.observed(compared=True, broken=is_broken(samples, settings)))
        if int(state.verdict) in ALARMS:
            alarmed_at = begin
            break
    parts = state.evidence * rules.weights
    return Replayed(
        VERDICTS[int(state.verdict)],
        alarmed_at,
        normal.measures[int(np.argmax(parts))].name,
        float(parts.sum()),
        state.interval,
        normal.days,
    )


def placebo(environment: Environment, now: datetime) -> Placebo:
    """Replay at this time of day on each of the last days on which nothing was released, and keep the count.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    bucket = Bucket(environment.storage)
    watch = timedelta(seconds=environment.monitor.watch_s or 2 * 3600.0)
    since = now - watch - timedelta(days=PLACEBO_DAYS)
    frame = history.read(bucket, since - timedelta(days=LEARNED_DAYS), now)
    released = [release.created_at for release in Ledger(bucket, environment.name).newest()]
    replays = alarms = 0
    for days in range(PLACEBO_DAYS):
        at = now - watch - timedelta(days=days)
        # A watch that a release lies in, or shortly before, is no placebo.
        if any(at - timedelta(hours=2) <= moment <= at + watch for moment in released):
            continue
        replayed = replay(environment, at, frame)
        if replayed.intervals and replayed.days >= 1:
            replays += 1
            alarms += replayed.alarmed_at is not None
    found = Placebo(replays=replays, false_alarms=alarms, since=since, until=now)
    key = _key(bucket)
    before = bucket.read(key)
    with suppress(ConflictError):  # another run of the same night was faster, and found the same
        bucket.write(key, found.model_dump_json().encode(), etag=before.etag if before else None)
    return found


def last_placebo(bucket: Bucket) -> Placebo | None:
    """What the last placebo replays found; None: there were none.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    stored = bucket.read(_key(bucket))
    try:
        return Placebo.model_validate_json(stored.body) if stored else None
    except ValidationError:
        return None  # of another version: the next night's replaces it


def _key(bucket: Bucket) -> str:
    return bucket.storage.key("watches", "placebo.json")


def _intervals(
    frame: pd.DataFrame, at: datetime, intervals: int, interval_s: float
) -> Iterator[tuple[datetime, list[Sample]]]:
    """The stored samples of each interval from a moment on, silent ones included."""
    after = frame[(frame["at"] >= at) & (frame["at"] < at + timedelta(seconds=intervals * interval_s))]
    cells = ((after["at"] - at).dt.total_seconds() // interval_s).astype(int)
    grouped = {int(str(cell)): rows for cell, rows in after.groupby(cells)}
    for number in range(intervals):
        rows = grouped.get(number)
        samples = [] if rows is None else [_sample(row) for row in rows.to_dict("records")]
        yield at + timedelta(seconds=number * interval_s), samples


def _sample(row: Mapping[Hashable, Any]) -> Sample:
    value = None if pd.isna(row["value"]) else float(row["value"])
    return Sample(
        metric=row["metric"],
        kind=row["kind"],
        at=row["at"],
        interval_s=row["interval_s"],
        bad=int(row["bad"]),
        total=int(row["total"]),
        value=value,
        bins=row["bins"],
    )
