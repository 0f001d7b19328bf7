"""A stream becomes an object: the same bytes, in parts, or nothing at all."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks.release.backup import BackupObject
from tasks.release.environment import Storage
from tasks.release.errors import ConflictError, StoreError, VerificationError
from tasks.store.bucket import Bucket
from tasks.store.download import RANGE_BYTES, check_stored, read_back
from tasks.store.upload import abort_unfinished, fill, upload

MEBIBYTE = 2**20
PART = 5 * MEBIBYTE


@pytest.fixture
def store(s3: Any, bucket: str) -> Bucket:
    return Bucket(
        Storage(
            endpoint=s3.endpoint,
            bucket=bucket,
            access_key=SecretStr(s3.access_key),
            secret_key=SecretStr(s3.secret_key),
        )
    )


class Pipe:
    """Gives what it holds in chunks of its own choice, as a pipe does."""

    def __init__(self, content: bytes, chunks: Iterator[int]) -> None:
        self._content = io.BytesIO(content)
        self._chunks = chunks

    def readinto(self, buffer: memoryview) -> int:
        return self._content.readinto(buffer[: next(self._chunks)])


def nothing() -> None:
    """The producer ended well."""


def stored_of(store: Bucket, uploaded: Any) -> BackupObject:
    return BackupObject(dump="database", **uploaded._asdict())


def unfinished(store: Bucket) -> list[str]:
    return [entry["Key"] for entry in store.client.list_multipart_uploads(Bucket=store.name).get("Uploads", [])]


@given(content=st.binary(max_size=600), part=st.integers(1, 200), data=st.data())
def test_any_chunks_fill_the_same_parts(content: bytes, part: int, data: st.DataObject) -> None:
    chunks = data.draw(st.lists(st.integers(1, 250), min_size=1))
    source = Pipe(content, itertools.cycle(chunks))
    buffer = bytearray(part)
    parts = []
    while filled := fill(source, buffer):
        parts.append(bytes(buffer[:filled]))
    assert parts == [content[at : at + part] for at in range(0, len(content), part)]


@pytest.mark.parametrize(
    ("size", "per_object"), [(1, 1), (PART, 1), (PART + 1, 1), (2 * PART, 100), (2 * PART + 1, 2), (3 * PART - 1, 2)]
)
def test_the_same_bytes_in_one_object_or_several(store: Bucket, size: int, per_object: int) -> None:
    chance = random.Random(size)
    content = chance.randbytes(size)
    chunks = (chance.randint(4096, 2**20) for _ in iter(int, 1))
    key = "stream"
    told: list[int] = []

    objects = upload(
        store,
        key,
        Pipe(content, chunks),
        confirm=nothing,
        part_bytes=PART,
        progress=told.append,
        parts_per_object=per_object,
    )

    parts = -(-size // PART)
    assert [uploaded.key for uploaded in objects] == [
        key if number == 1 else f"{key}.{number}" for number in range(1, -(-parts // per_object) + 1)
    ]
    offset = 0
    for uploaded in objects:
        expected = content[offset : offset + per_object * PART]
        digests = [hashlib.sha256(expected[at : at + PART]).digest() for at in range(0, len(expected), PART)]
        composite = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode()
        assert store.client.get_object(Bucket=store.name, Key=uploaded.key)["Body"].read() == expected
        assert uploaded.bytes == len(expected)
        assert uploaded.sha256 == hashlib.sha256(expected).hexdigest()
        assert uploaded.checksum == f"{composite}-{len(digests)}"
        check_stored(store, stored_of(store, uploaded))
        read_back(store, stored_of(store, uploaded))
        offset += len(expected)
    assert offset == size == told[-1]


def test_read_back_into_a_file(store: Bucket, tmp_path: Any) -> None:
    content = random.Random(3).randbytes(2 * RANGE_BYTES + 12345)
    [uploaded] = upload(store, "k", io.BytesIO(content), confirm=nothing, part_bytes=PART)
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"before")
        file.flush()
        read_back(store, stored_of(store, uploaded), file=file.fileno(), offset=6)
        file.seek(0)
        assert file.read() == b"before" + content


def test_what_the_producer_does_not_confirm_does_not_exist(store: Bucket) -> None:
    def died() -> None:
        # Everything was sent, nothing was completed.
        assert unfinished(store) == ["k", "k.2"]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        upload(store, "k", io.BytesIO(b"x" * (PART + 1)), confirm=died, part_bytes=PART, parts_per_object=1)
    assert unfinished(store) == list(store.keys("")) == []


def test_a_source_that_breaks(store: Bucket) -> None:
    class Broken(io.BytesIO):
        def readinto(self, buffer: Any) -> int:
            if self.tell() >= PART:
                raise OSError("the pipe broke")
            return super().readinto(buffer)

    with pytest.raises(OSError, match="the pipe broke"):
        upload(store, "k", Broken(b"x" * 2 * PART), confirm=nothing, part_bytes=PART)
    assert unfinished(store) == list(store.keys("")) == []


def test_an_empty_stream_is_no_object(store: Bucket) -> None:
    with pytest.raises(StoreError, match="nothing to store in k"):
        upload(store, "k", io.BytesIO(), confirm=nothing, part_bytes=PART)
    assert unfinished(store) == list(store.keys("")) == []


def test_an_object_is_not_written_over(store: Bucket) -> None:
    store.write("k", b"of somebody else")
    with pytest.raises(StoreError, match="k: PreconditionFailed") as caught:
        upload(store, "k", io.BytesIO(b"mine"), confirm=nothing, part_bytes=PART)
    assert caught.value.key == "k"
    stored = store.read("k")
    assert stored
    assert stored.body == b"of somebody else"
    assert unfinished(store) == []


def test_the_first_of_two_wins(store: Bucket) -> None:
    def meanwhile() -> None:
        upload(store, "k", io.BytesIO(b"first"), confirm=nothing, part_bytes=PART)

    with pytest.raises(ConflictError):
        upload(store, "k", io.BytesIO(b"second"), confirm=meanwhile, part_bytes=PART)
    stored = store.read("k")
    assert stored
    assert stored.body == b"first"


def test_a_completion_whose_answer_was_lost(store: Bucket) -> None:
    """It is sent again and refused, because the first one had succeeded."""
    complete = store.client.complete_multipart_upload

    def twice(**arguments: Any) -> Any:
        complete(**arguments)
        return complete(**arguments)

    store.client.complete_multipart_upload = twice  # type: ignore[method-assign]
    [uploaded] = upload(store, "k", io.BytesIO(b"content"), confirm=nothing, part_bytes=PART)
    read_back(store, stored_of(store, uploaded))


def test_unfinished_uploads_below_a_prefix(store: Bucket) -> None:
    for key in ("a/1", "a/2", "b/1"):
        store.client.create_multipart_upload(Bucket=store.name, Key=key)
    assert abort_unfinished(store, "a/") == 2
    assert unfinished(store) == ["b/1"]


def test_a_shorter_object_under_the_same_etag(store: Bucket) -> None:
    [uploaded] = upload(store, "k", io.BytesIO(b"content"), confirm=nothing, part_bytes=PART)
    longer = stored_of(store, uploaded).model_copy(update={"bytes": 8})
    with pytest.raises(VerificationError, match="7 bytes"):
        check_stored(store, longer)
    with pytest.raises(StoreError, match="ends before its 8 bytes"):
        read_back(store, longer)
