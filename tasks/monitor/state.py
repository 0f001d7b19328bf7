"""State: how far the watch of a release is, in the bucket after every interval, so that another process can go on."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from tasks.release.errors import ConflictError, ReleaseInProgressError, StoreError
from tasks.release.record import Record
from tasks.release.watch import Finding
from tasks.signals.sample import Sample
from tasks.store.bucket import Bucket

MOST_POINTS = 120  # of a metric's series; with more, neighbours become one


class Point(NamedTuple):
    """One metric in one judged interval or in several, for charts and for the search for the beginning."""

    at_s: float  # beginning, in seconds of the epoch
    bad: float
    total: float
    tolerated: float  # events
    evidence: float  # against the release, after these intervals


def added(series: tuple[Point, ...], point: Point) -> tuple[Point, ...]:
    """A series with one point more; one that grows too long is halved."""
    longer = (*series, point)
    if len(longer) <= MOST_POINTS:
        return longer
    pairs = zip(longer[::2], longer[1::2], strict=False)
    halved = [
        Point(one.at_s, one.bad + two.bad, one.total + two.total, one.tolerated + two.tolerated, two.evidence)
        for one, two in pairs
    ]
    return (*halved, *longer[len(halved) * 2 :])


class WatchState(Record):
    """Everything that the next interval needs to know.

    Attributes:
        began_at: The beginning of the first interval.
        next_at: The beginning of the first interval that is not judged yet.
        until: When the watch ends if nothing ends it before; it moves when nothing was to be seen.
        reading: What the collectors need to go on where they stopped.
        pending: Samples of intervals that are not judged yet.
        held: The judge's state, of what is held against the release: what the release does not touch is compared.
        plain: The same without that comparison, which tells a general trouble.
        series: What was seen of each metric.
        recent: Samples of the last judged intervals, by which the control group is known.
        shut: Times, not judged to their end yet, in which the application was or may have been in maintenance mode.
        is_shut: Whether it was when it was last looked at, which was at `looked_at`.
        maintained: Judged intervals that are left out because of that.
        peak: The highest share of the day's busiest time that an interval reached.
    """

    format: int = 1
    release_id: str
    began_at: datetime
    next_at: datetime
    until: datetime
    judged: int = 0
    silent: int = 0
    reading: dict[str, Any] = Field({})
    pending: tuple[Sample, ...] = ()
    held: dict[str, Any] | None = None
    plain: dict[str, Any] | None = None
    series: dict[str, tuple[Point, ...]] = Field({})
    recent: tuple[Sample, ...] = ()
    peak: float = 0
    findings: tuple[Finding, ...] = ()
    shut: tuple[tuple[datetime, datetime], ...] = ()
    is_shut: bool = False
    looked_at: datetime | None = None
    maintained: int = 0
    scans: dict[str, tuple[int, int, int]] = Field({})  # table to its file, index scans and sequential scans at first
    problems: tuple[str, ...] = ()  # sources that failed, a sentence each

    def changed(self, **changes: object) -> WatchState:
        """With some things changed."""
        return self.model_copy(update=changes)


class Watchbook:
    """The state of one release's watch in the bucket; who wrote it last may write it again.

    Args:
        bucket: The environment's bucket.
        release_id: The release.
    """

    def __init__(self, bucket: Bucket, release_id: str) -> None:
        self.bucket = bucket
        self.key = bucket.storage.key("watches", f"{release_id}.json")
        self.release_id = release_id
        self._etag: str | None = None

    def load(self) -> WatchState | None:
        """The state as it was written last; None: the watch has not begun.

        Raises:
            StoreError: The bucket refuses or is lost, or what lies there is not of this version.
        """
        stored = self.bucket.read(self.key)
        if stored is None:
            return None
        self._etag = stored.etag
        try:
            return WatchState.model_validate_json(stored.body)
        except ValidationError as error:
            raise StoreError(
                f"{self.key} is no watch of this version: {error.error_count()} mistakes",
                key=self.key,
                hint="delete it to begin the watch anew",
            ) from None

    def write(self, state: WatchState) -> None:
        """Write the state down.

        Raises:
            ReleaseInProgressError: Somebody else watches this release by now: leave it to them.
            StoreError: The bucket refuses or is lost.
        """
        try:
            self._etag = self.bucket.write(self.key, state.model_dump_json().encode(), etag=self._etag)
        except ConflictError:
            raise ReleaseInProgressError(
                f"release {self.release_id} is watched by another run by now", hint="leave it to that run"
            ) from None
