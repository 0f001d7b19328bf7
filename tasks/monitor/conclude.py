"""Conclude: the end of a watch, written into the record and the bucket."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime

from tasks.monitor.picture import picture
from tasks.monitor.replay import last_placebo
from tasks.monitor.state import WatchState
from tasks.monitor.verdict import verdict_of
from tasks.monitor.watch import Watch
from tasks.release.environment import Environment
from tasks.release.errors import ConflictError, RunbookError
from tasks.release.release import Release
from tasks.release.watch import Verdict
from tasks.store.ledger import Ledger

Drawn = dict[str, list[tuple[float, float, float, float]]]


def conclude(watch: Watch, ledger: Ledger, ended: str, now: datetime) -> Verdict:
    """Write the verdict of a watch into the record, once: whoever comes again is given the one that stands there.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    if watch.release.verdict:
        return watch.release.verdict
    bucket = ledger.bucket
    verdict = verdict_of(watch, ended, now, placebo=last_placebo(bucket))
    if watch.state.series:
        key = bucket.storage.key("watches", f"{watch.release.id}.png")
        names = [one.metric for one in verdict.watched]
        drawing = picture(names, drawn(watch.state), 1 / watch.environment.monitor.false_alarm_rate)
        with suppress(ConflictError):  # an attempt that died drew it before
            bucket.write(key, drawing, content_type="image/png")
        verdict = verdict.model_copy(update={"pictures": (key,)})

    def judged(record: Release) -> Release:
        return record if record.verdict else record.judged(verdict, now)

    written = ledger.update(watch.release.id, judged).verdict
    return written or verdict


def superseded(ledger: Ledger, release_id: str) -> bool:
    """Whether a newer release changes what is watched.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    for newer in ledger.ids():
        if newer <= release_id:
            return False
        with suppress(RunbookError):  # one that cannot be read is no reason to stop watching
            stages = ledger.load(newer).stages
            if "code" in stages or "applied" in stages:
                return True
    return False


def drawn(state: WatchState) -> Drawn:
    """What was seen of each metric: minutes since the beginning, seen and tolerated percent, power of the evidence."""
    begin_s = state.began_at.timestamp()
    return {
        name: [
            (
                (point.at_s - begin_s) / 60,
                100 * point.bad / point.total if point.total else 0.0,
                100 * point.tolerated / point.total if point.total else 0.0,
                math.log10(max(point.evidence, 1e-3)),
            )
            for point in points
        ]
        for name, points in state.series.items()
    }


def picture_url(environment: Environment, verdict: Verdict) -> str:
    """Where the picture lies, for whoever may read the bucket."""
    storage = environment.storage
    host = storage.endpoint or f"https://s3.{storage.region}.amazonaws.com"
    return f"{host}/{storage.bucket}/{verdict.pictures[0]}" if verdict.pictures else ""
