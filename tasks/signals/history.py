"""History: the samples of an environment in its bucket, a Parquet file for each day.

`baseline/<YYYY-MM-DD>.parquet` is a whole day. A day that is not over yet, or that was added to later, has parts,
`baseline/<YYYY-MM-DD>/<HHMM>-<random>.parquet`; `compact` merges them. A sample is known by metric and interval, so
that one which was written twice counts once.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from tasks.release.errors import ConflictError, StoreError
from tasks.signals.sample import Sample
from tasks.store.bucket import Bucket, explained

FOLDER = "baseline"
CONTENT_TYPE = "application/vnd.apache.parquet"
READERS = 8  # files that are fetched side by side
NAME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.parquet|/\d{4}-[0-9a-f]+\.parquet)")
SCHEMA = pa.schema(
    [
        ("metric", pa.dictionary(pa.int32(), pa.string())),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("at", pa.timestamp("ms", tz="UTC")),
        ("interval_s", pa.float64()),
        ("bad", pa.int64()),
        ("total", pa.int64()),
        ("value", pa.float64()),
        ("bin", pa.list_(pa.int32())),
        ("count", pa.list_(pa.int64())),
    ]
)
PLAIN = pa.schema([field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in SCHEMA])


def append(bucket: Bucket, samples: Sequence[Sample], now: datetime) -> list[str]:
    """Write samples, as a new part of each day that they are of; the keys of the parts.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    keys = []
    for day, of_day in groupby(sorted(samples, key=lambda sample: sample.at), key=lambda sample: sample.at.date()):
        key = bucket.storage.key(FOLDER, str(day), f"{now:%H%M}-{secrets.token_hex(6)}.parquet")
        bucket.write(key, _bytes(_table(list(of_day))), content_type=CONTENT_TYPE)
        keys.append(key)
    return keys


def read(bucket: Bucket, since: datetime, until: datetime, metrics: Collection[str] | None = None) -> pd.DataFrame:
    """The samples of the intervals that begin in [since, until), ordered by metric and time.

    Args:
        bucket: The environment's.
        since: From when on, in UTC.
        until: Up to when.
        metrics: Only these; None: all.

    Returns:
        A row for each sample, with the columns `metric` and `kind` (text), `at` (UTC), `interval_s`, `bad`, `total`,
        `value` (NaN unless a gauge) and `bins` (a dict from bin to count, empty unless a latency), as in `Sample`.

    Raises:
        StoreError: The bucket refuses or is lost, or a file is no Parquet.
    """
    keys = [key for key, day in _files(bucket) if since.date() <= day <= until.date()]

    def wanted(table: pa.Table) -> pa.Table:
        mask = pc.and_(pc.greater_equal(table["at"], _scalar(since)), pc.less(table["at"], _scalar(until)))
        if metrics is not None:
            mask = pc.and_(mask, pc.is_in(table["metric"], pa.array(list(metrics), pa.string())))
        return table.filter(mask)

    frame = _unique(_tables(bucket, keys, wanted))
    numbers, counts = frame.pop("bin"), frame.pop("count")
    bins = [dict(zip(of_bins, count, strict=True)) for of_bins, count in zip(numbers, counts, strict=True)]
    frame["bins"] = pd.Series(bins, dtype=object)
    return frame


def compact(bucket: Bucket, today: date) -> int:
    """Merge the parts of days that are over into their files; how many parts there were.

    The merged file is written before its parts are deleted: whoever is killed in between leaves samples that are there
    twice, which count once and are merged again.

    Raises:
        StoreError: The bucket refuses or is lost, or a file is no Parquet.
    """
    merged = 0
    for day, named in groupby(sorted(_files(bucket), key=lambda one: one[1]), key=lambda one: one[1]):
        whole = bucket.storage.key(FOLDER, f"{day}.parquet")
        parts = [key for key, _ in named if key != whole]
        if day >= today or not parts:
            continue
        before = bucket.read(whole)
        frame = _unique([*([_parsed(before.body, whole)] if before else []), *_tables(bucket, parts, lambda one: one)])
        table = pa.Table.from_pandas(frame, schema=PLAIN, preserve_index=False)
        try:
            bucket.write(whole, _bytes(table), content_type=CONTENT_TYPE, etag=before.etag if before else None)
        except ConflictError:
            continue  # somebody else merges this day; the parts are theirs to delete
        delete(bucket, parts)
        merged += len(parts)
    return merged


def expire(bucket: Bucket, before: date) -> int:
    """Delete everything of the days before a day; how many files there were.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    keys = [key for key, day in _files(bucket) if day < before]
    delete(bucket, keys)
    return len(keys)


def delete(bucket: Bucket, keys: Iterable[str]) -> None:
    """Delete files of the history.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    for key in keys:
        with explained(f"cannot delete {key}", key):
            bucket.client.delete_object(Bucket=bucket.name, Key=key)


def _files(bucket: Bucket) -> Iterator[tuple[str, date]]:
    """The keys of the history, and the day that each is of; what others put there is left alone."""
    prefix = bucket.storage.key(FOLDER) + "/"
    for key in bucket.keys(prefix):
        match = NAME.fullmatch(key.removeprefix(prefix))
        if match:
            with suppress(ValueError):
                yield key, date.fromisoformat(match[1])


def _tables(bucket: Bucket, keys: Iterable[str], wanted: Callable[[pa.Table], pa.Table]) -> list[pa.Table]:
    def fetch(key: str) -> pa.Table | None:
        stored = bucket.read(key)
        return wanted(_parsed(stored.body, key)) if stored else None  # merged or expired since they were listed

    with ThreadPoolExecutor(READERS) as pool:
        return [table for table in pool.map(fetch, keys) if table is not None]


def _parsed(body: bytes, key: str) -> pa.Table:
    try:
        return pq.read_table(io.BytesIO(body)).cast(PLAIN)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{key} is no file of samples: {error}", key=key, hint="delete it, or restore it") from None


def _unique(tables: Sequence[pa.Table]) -> pd.DataFrame:
    frame: pd.DataFrame = (pa.concat_tables(tables) if tables else PLAIN.empty_table()).to_pandas()
    frame = frame.sort_values(["metric", "at"], kind="stable").drop_duplicates(["metric", "at"])
    return frame.reset_index(drop=True)


def _table(samples: Sequence[Sample]) -> pa.Table:
    rows = {
        "metric": [sample.metric for sample in samples],
        "kind": [sample.kind for sample in samples],
        "at": [sample.at for sample in samples],
        "interval_s": [sample.interval_s for sample in samples],
        "bad": [sample.bad for sample in samples],
        "total": [sample.total for sample in samples],
        "value": [sample.value for sample in samples],
        "bin": [list(sample.bins) for sample in samples],
        "count": [list(sample.bins.values()) for sample in samples],
    }
    return pa.table(rows, schema=PLAIN)


def _bytes(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table.sort_by([("metric", "ascending"), ("at", "ascending")]).cast(SCHEMA), file, compression="zstd")
    return file.getvalue()


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment.astimezone(UTC), pa.timestamp("ms", tz="UTC"))


def first_day_kept(now: datetime, days: int) -> date:
    """The oldest day that is kept, of so many days and the one that is not over yet."""
    return (now - timedelta(days=days)).date()
