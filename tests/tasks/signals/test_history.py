"""The history keeps every sample once, whoever dies while it is merged."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import SecretStr

from tasks.release.environment import Storage
from tasks.signals.history import append, compact, expire, first_day_kept, read
from tasks.signals.sample import Sample, binned
from tasks.store.bucket import Bucket
from tests.fix_s3 import S3Server

DAY = datetime(2026, 3, 2, tzinfo=UTC)
NEXT = DAY + timedelta(days=1)
LONG = timedelta(days=400)


@pytest.fixture
def bucket(s3: S3Server) -> Bucket:
    storage = Storage(
        endpoint=s3.endpoint,
        bucket=s3.create_bucket(),
        prefix="shop",
        access_key=SecretStr(s3.access_key),
        secret_key=SecretStr(s3.secret_key),
    )
    return Bucket(storage)


def minute(number: int, day: datetime = DAY) -> list[Sample]:
    at = day + timedelta(minutes=number)
    bins = binned([0.01, 0.02, 0.02])
    return [
        Sample("log.errors", "events", at, 60, bad=number % 2, total=10),
        Sample("log.latency", "latency", at, 60, total=3, bins=bins),
        Sample("database.connections", "gauge", at, 60, value=7.0),
    ]


def keys(bucket: Bucket) -> list[str]:
    return sorted(bucket.keys("shop/baseline/"))


def test_what_was_written_is_read_back_by_time_and_metric(bucket: Bucket) -> None:
    append(bucket, [*minute(1), *minute(0), *minute(0, NEXT)], NEXT)
    frame = read(bucket, DAY, DAY + LONG)
    assert list(frame.columns) == ["metric", "kind", "at", "interval_s", "bad", "total", "value", "bins"]
    assert list(zip(frame["metric"], frame["at"], strict=True)) == sorted(
        zip(frame["metric"], frame["at"], strict=True)
    )
    latency = frame[frame["metric"] == "log.latency"].iloc[0]
    assert latency["bins"] == binned([0.01, 0.02, 0.02])
    assert latency["at"].to_pydatetime() == DAY
    assert frame[frame["kind"] != "latency"]["bins"].map(len).eq(0).all()
    assert frame[frame["metric"] == "log.errors"]["value"].isna().all()
    errors = read(bucket, DAY + timedelta(minutes=1), NEXT, ["log.errors"])
    assert [(row.bad, row.total) for row in errors.itertuples()] == [(1, 10)], "until is not included"
    assert read(bucket, DAY - LONG, DAY).empty


def test_a_finished_day_becomes_one_file_and_the_present_one_stays(bucket: Bucket) -> None:
    for number in range(3):
        append(bucket, minute(number) + minute(number, NEXT), NEXT)
    before = read(bucket, DAY, DAY + LONG)
    assert compact(bucket, NEXT.date()) == 3
    assert [key for key in keys(bucket) if "2026-03-02" in key] == ["shop/baseline/2026-03-02.parquet"]
    assert len([key for key in keys(bucket) if "2026-03-03/" in key]) == 3
    assert read(bucket, DAY, DAY + LONG).equals(before)
    append(bucket, minute(5), NEXT)  # what a log told later
    assert compact(bucket, NEXT.date()) == 1
    assert len(read(bucket, DAY, NEXT)) == 12


def test_death_between_merging_and_deleting_loses_nothing_and_doubles_nothing(bucket: Bucket) -> None:
    parts = append(bucket, minute(0), NEXT) + append(bucket, minute(1), NEXT)
    bodies = {key: stored.body for key in parts if (stored := bucket.read(key))}
    compact(bucket, NEXT.date())
    for key, body in bodies.items():  # as if the process had died before it deleted them
        bucket.write(key, body)
    assert len(read(bucket, DAY, NEXT)) == 6
    assert compact(bucket, NEXT.date()) == 2
    assert keys(bucket) == ["shop/baseline/2026-03-02.parquet"]
    assert len(read(bucket, DAY, NEXT)) == 6


def test_only_whole_days_beyond_the_kept_ones_go(bucket: Bucket) -> None:
    for days in range(4):
        append(bucket, minute(0, DAY + timedelta(days=days)), NEXT)
    bucket.write("shop/baseline/notes.txt", b"not ours")
    now = DAY + timedelta(days=3, hours=12)
    assert first_day_kept(now, 2) == date(2026, 3, 3)
    assert expire(bucket, first_day_kept(now, 2)) == 1
    assert read(bucket, DAY, DAY + LONG)["at"].min().to_pydatetime() == NEXT
    assert "shop/baseline/notes.txt" in keys(bucket)


def test_the_size_of_a_typical_day(bucket: Bucket) -> None:
    """The size that docs/baseline.md promises: 20 routes at 600 requests a minute, a day of parts merged."""
    chance = random.Random(1)
    samples = []
    for number in range(1440):
        at = DAY + timedelta(minutes=number)
        for route in range(20):
            bins = binned(chance.lognormvariate(-3, 0.6) for _ in range(30))
            samples.append(
                Sample(f"log.errors:/api/{route}", "events", at, 60, bad=int(chance.random() < 0.03), total=30)
            )
            samples.append(Sample(f"log.latency:/api/{route}", "latency", at, 60, total=30, bins=bins))
    append(bucket, samples, NEXT)
    compact(bucket, NEXT.date())
    [stored] = [bucket.read(key) for key in keys(bucket)]
    assert stored is not None
    print(f"{len(samples)} samples: {len(stored.body)} bytes")
    assert len(stored.body) < 2.5 * 2**20
