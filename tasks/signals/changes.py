"""Changes: samples of what PostgreSQL counted between two snapshots of its statistics."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tasks.signals.sample import Sample
from tasks.signals.statistics import Snapshot


def changes(before: Snapshot | None, after: Snapshot, interval_s: float) -> Iterator[Sample]:
    """Samples of the time between two snapshots.

    A counter has no sample where its series is another one (a rewrite gives a relation a new file, and its counters
    begin anew) or where it went down (statistics that were reset). A relation or statement that was never used has
    none either.

    Args:
        before: The earlier snapshot; None: only what needs none is told.
        after: The later one.
        interval_s: The length that intervals have: a sample's interval begins at a multiple of it.
    """
    last = _begin(after.at_s - interval_s, interval_s)
    for metric, value in after.gauges.items():
        yield Sample(metric, "gauge", last, interval_s, value=value)
    if before is None or after.at_s <= before.at_s:
        return
    span_s = after.at_s - before.at_s
    at = _begin(before.at_s, interval_s)
    for name, series in after.series.items():
        earlier = before.series.get(name)
        if earlier is None or earlier.identity != series.identity:
            continue
        grown = {key: value - earlier.counters.get(key, value) for key, value in series.counters.items()}
        if min(grown.values()) < 0 or not any(series.counters.values()):
            continue
        kind, _, subject = name.partition(":")
        if kind == "database":
            yield from _of_database(grown, at, span_s)
        elif kind == "statement":
            if grown["calls"]:
                mean_s = grown["seconds"] / grown["calls"]
                yield Sample(f"statement.mean_s:{subject}", "gauge", at, span_s, value=mean_s)
            yield Sample(f"statement.calls:{subject}", "gauge", at, span_s, value=grown["calls"] / span_s)
        else:
            for what, growth in grown.items():
                yield Sample(f"{kind}.{what}:{subject}", "gauge", at, span_s, value=growth / span_s)


def _of_database(grown: dict[str, float], at: datetime, span_s: float) -> Iterator[Sample]:
    transactions = int(grown["commits"] + grown["rollbacks"])
    for what in ("rollbacks", "deadlocks", "conflicts"):
        yield Sample(f"database.{what}", "events", at, span_s, bad=int(grown[what]), total=transactions)
    blocks = int(grown["hits"] + grown["reads"])
    yield Sample("database.cache_misses", "events", at, span_s, bad=int(grown["reads"]), total=blocks)
    yield Sample("database.transactions", "gauge", at, span_s, value=transactions / span_s)
    for what in ("temp_files", "temp_bytes"):
        yield Sample(f"database.{what}", "gauge", at, span_s, value=grown[what] / span_s)


def _begin(at_s: float, interval_s: float) -> datetime:
    """The nearest beginning of an interval: whoever looks once an interval is never exactly on time."""
    return datetime.fromtimestamp(round(at_s / interval_s) * interval_s, UTC)
