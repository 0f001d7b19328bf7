"""Objects read back against their SHA-256: ranges side by side, hashed in order, with bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ReadTimeoutError, ResponseStreamingError

from tasks.release.backup import BackupObject
from tasks.release.errors import ConflictError, StoreError, VerificationError
from tasks.store.bucket import Bucket, MissingObjectError, explained

RANGE_BYTES = 4 * 2**20
RANGES = 8  # on their way at a time
ANEW = "make a new backup: `--release-id new`"
TRIES = 3  # of a range whose connection broke in the middle: boto3 tries requests again, not bodies


def check_stored(bucket: Bucket, stored: BackupObject) -> None:
    """Compare what the bucket says of an object with what was written, without reading it.

    Raises:
        VerificationError: It is missing, or another one.
        StoreError: The bucket refuses or is lost.
    """
    try:
        with explained(f"cannot look at {stored.key}", stored.key):
            head = bucket.client.head_object(
                Bucket=bucket.name,
                Key=stored.key,
                ChecksumMode="ENABLED",
                **_version(stored),  # type: ignore[arg-type]
            )
    except MissingObjectError:
        raise _missing(stored) from None
    if stored.version_id:
        _refuse_overwritten(bucket, stored)
    found = (head["ContentLength"], head["ETag"], head.get("ChecksumSHA256"))
    if found != (stored.bytes, stored.etag, stored.checksum):
        raise VerificationError(
            f"{stored.key} is not what was stored: {found[0]} bytes, ETag {found[1]}, checksum {found[2]};"
            f" the manifest says {stored.bytes} bytes, ETag {stored.etag}, checksum {stored.checksum}",
            subject=stored.key,
            hint=f"somebody wrote over it; {ANEW}",
        )


def _refuse_overwritten(bucket: Bucket, stored: BackupObject) -> None:
    """Where the bucket keeps versions, ours is still there: yet whoever restores by hand would get the newest one."""
    try:
        with explained(f"cannot look at {stored.key}", stored.key):
            newest = bucket.client.head_object(Bucket=bucket.name, Key=stored.key).get("VersionId")
    except MissingObjectError:
        newest = None
    if newest != stored.version_id:
        happened = f"written over: its newest version is {newest}" if newest else "removed: a delete marker hides it"
        raise VerificationError(
            f"{stored.key} was {happened}, the manifest says {stored.version_id}",
            subject=stored.key,
            hint=f"version {stored.version_id} is still there; find out who writes there, and {ANEW}",
        )


def read_back(
    bucket: Bucket,
    stored: BackupObject,
    *,
    file: int | None = None,
    offset: int = 0,
    progress: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Read a whole object against its SHA-256.

    Args:
        bucket: Where it lies.
        stored: What it has to be.
        file: A descriptor that it is written to; None: it is only hashed. Nothing in the file counts before this
            function has returned.
        offset: Where in the file it begins.
        progress: Called with the number of bytes that were hashed so far.

    Raises:
        VerificationError: A byte is not the one that was written, or the object is missing.
        StoreError: The bucket refuses or is lost.
    """
    whole = hashlib.sha256()
    buffers = deque(bytearray(min(RANGE_BYTES, stored.bytes)) for _ in range(RANGES))
    starts = iter(range(0, stored.bytes, RANGE_BYTES))
    flying: deque[tuple[Future[memoryview], bytearray]] = deque()
    done = 0
    with ThreadPoolExecutor(RANGES, thread_name_prefix="download") as pool:
        try:
            while True:
                while buffers and (start := next(starts, None)) is not None:
                    buffer = buffers.popleft()
                    flying.append((pool.submit(_fetch, bucket, stored, start, buffer, file, offset), buffer))
                if not flying:
                    break
                future, buffer = flying.popleft()
                content = future.result()
                whole.update(content)
                done += len(content)
                buffers.append(buffer)
                progress(done)
        except BaseException:
            for future, _ in flying:
                future.cancel()
            raise
    if whole.hexdigest() != stored.sha256:
        raise VerificationError(
            f"{stored.key} was read back with SHA-256 {whole.hexdigest()}; the manifest says {stored.sha256}",
            subject=stored.key,
            hint=f"it is damaged and must not be restored; {ANEW}",
        )


def _fetch(
    bucket: Bucket, stored: BackupObject, start: int, buffer: bytearray, file: int | None, offset: int
) -> memoryview:
    """One range, in the buffer and in the file."""
    size = min(len(buffer), stored.bytes - start)
    view = memoryview(buffer)[:size]
    for attempt in range(1, TRIES + 1):
        try:
            with explained(f"cannot read {stored.key}", stored.key):
                answer = bucket.client.get_object(
                    Bucket=bucket.name,
                    Key=stored.key,
                    Range=f"bytes={start}-{start + size - 1}",
                    IfMatch=stored.etag,
                    **_version(stored),  # type: ignore[arg-type]
                )
                try:
                    filled = _fill(answer["Body"], view)
                except (ReadTimeoutError, ResponseStreamingError):
                    if attempt == TRIES:
                        raise
                    continue
        except MissingObjectError:
            raise _missing(stored) from None
        except ConflictError:
            raise VerificationError(
                f"{stored.key} is no longer the object that was stored",
                subject=stored.key,
                hint=f"somebody wrote over it; {ANEW}",
            ) from None
        break
    if filled != size:
        raise StoreError(f"{stored.key} ends before its {stored.bytes} bytes", key=stored.key, retryable=True)
    if file is not None:
        written = 0
        while written < size:
            written += os.pwrite(file, view[written:], offset + start + written)
    return view


def _fill(body: Any, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (count := body.readinto(view[filled:])):
        filled += count
    return filled


def _version(stored: BackupObject) -> dict[str, str]:
    return {"VersionId": stored.version_id} if stored.version_id else {}


def _missing(stored: BackupObject) -> VerificationError:
    return VerificationError(
        f"{stored.key} is not in the bucket",
        subject=stored.key,
        hint=f"somebody removed it; {ANEW}",
    )
