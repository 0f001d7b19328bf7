"""Compared: what a watch is compared with, learned once and kept for whoever goes on with the watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from tasks.monitor.control import Touch, touch_of
from tasks.monitor.learn import learn
from tasks.monitor.normal import Normal, blind
from tasks.release.environment import Environment
from tasks.release.release import Release
from tasks.signals import history
from tasks.signals.statistics import take_snapshot
from tasks.store.bucket import Bucket


def normal_of(environment: Environment, release: Release, bucket: Bucket, began_at: datetime) -> Normal:
    """What was usual before a release, from the history; without measures where there is none.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    stored = bucket.read(_key(bucket, release))
    if stored is not None:
        return Normal.model_validate_json(stored.body)
    settings = environment.monitor
    past = history.read(bucket, began_at - timedelta(days=settings.history_days), began_at)
    return _kept(bucket, release, learn(past, began_at, settings, _touch(environment, release, began_at)))


def without_history(
    environment: Environment, release: Release, bucket: Bucket, began_at: datetime, metrics: Iterable[str]
) -> Normal:
    """What is tolerated of the metrics that there are, where nothing is known of them.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    touch = _touch(environment, release, began_at)
    return _kept(bucket, release, blind(sorted(set(metrics)), began_at, environment.monitor, touch))


def _touch(environment: Environment, release: Release, at: datetime) -> Callable[[str], tuple[Touch, str]]:
    tables = release.plan.tables if release.plan else frozenset()
    snapshot, _ = take_snapshot(environment.database, at.timestamp())
    known = {name.rpartition(".")[2] for name in snapshot.series if name.startswith("table:")}
    routes = release.tried.routes if release.tried else {}
    return lambda metric: touch_of(metric, tables, snapshot.texts, routes, known - tables)


def _kept(bucket: Bucket, release: Release, normal: Normal) -> Normal:
    if normal.measures:
        bucket.write(_key(bucket, release), normal.model_dump_json().encode())
    return normal


def _key(bucket: Bucket, release: Release) -> str:
    return bucket.storage.key("watches", f"{release.id}-normal.json")
