"""Memory: what the sweeps of an environment have found and done so far, so that nobody is told twice."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime

from pydantic import Field, ValidationError

from tasks.release.record import Record
from tasks.store.bucket import Bucket

NAME = "sweep.json"


class Entry(Record):
    """One thing that was wrong when a sweep looked last."""

    since: datetime  # when a sweep found it first
    acted_at: datetime | None = None  # the last try to put it right or to tell it
    done: bool = False  # nothing is left to do about it
    times: int = 0  # tries
    run: str = ""  # the flow run that the last try started


class Memory(Record):
    """The entries by what they are about."""

    format: int = 1
    entries: Mapping[str, Entry] = Field({})
    by: str = ""  # the write: two sweeps that know the same must not be taken for one whose answer was lost


def recall(bucket: Bucket) -> tuple[Memory, str | None]:
    """What earlier sweeps knew, and the ETag that a change of it is conditional on.

    What cannot be understood counts as forgotten: people are told again rather than never.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    stored = bucket.read(bucket.storage.key(NAME))
    if stored is None:
        return Memory(), None
    try:
        return Memory.model_validate_json(stored.body), stored.etag
    except ValidationError:
        return Memory(), stored.etag


def remember(bucket: Bucket, memory: Memory, etag: str | None) -> str:
    """Write down what is known now; the new ETag.

    Raises:
        ConflictError: Another sweep was faster.
        StoreError: The bucket refuses or is lost.
    """
    signed = memory.model_copy(update={"by": uuid.uuid4().hex})
    return bucket.write(bucket.storage.key(NAME), signed.model_dump_json(indent=1).encode(), etag=etag)
