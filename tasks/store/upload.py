"""A stream of unknown length into the bucket: bounded memory, a checksum on every part, one SHA-256 over everything.

boto3's own `upload_fileobj` reads a whole unbuffered pipe into memory, and completes an object whose producer died.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from tasks.release.errors import StoreError
from tasks.store.bucket import Bucket, explained

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PARTS_PER_OBJECT = 10_000  # S3's limit; a longer stream goes on in a next object
BUFFERS = 6  # one is filled while five are on their way: the distance to S3 is hidden, and the end is short

log = logging.getLogger(__name__)


class Source(Protocol):
    """What is uploaded: a pipe or a file."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill at most the buffer; 0 at the end."""


class Uploaded(NamedTuple):
    """A completed object."""

    key: str
    bytes: int
    sha256: str  # hex, of the whole object
    etag: str
    checksum: str | None  # as the store keeps it: the SHA-256 of the parts' SHA-256s and their number
    version_id: str | None


def upload(
    bucket: Bucket,
    key: str,
    source: Source,
    *,
    confirm: Callable[[], None],
    part_bytes: int,
    progress: Callable[[int], None] = lambda _bytes: None,
    parts_per_object: int = PARTS_PER_OBJECT,
) -> tuple[Uploaded, ...]:
    """Store a stream; nothing of it exists in the bucket unless everything succeeded.

    Memory is `BUFFERS` parts, whatever the length. A stream of more than `parts_per_object` parts becomes several
    objects, whose contents follow each other: `key`, `key.2`, `key.3`.

    Args:
        bucket: Where to.
        key: The object's key; it must not exist.
        source: Read until its end.
        confirm: Called at the end of the stream and before anything is completed; it raises when the stream is not
            whole, for example because the producer's exit code is not 0.
        part_bytes: Size of a part.
        progress: Called with the number of bytes that were read so far.
        parts_per_object: How many parts an object has at most.

    Raises:
        ConflictError: The object exists.
        StoreError: The bucket refuses or is lost.
    """
    objects: list[_Object] = []
    buffers = deque(bytearray(part_bytes) for _ in range(BUFFERS))
    total = 0
    with ThreadPoolExecutor(BUFFERS - 1, thread_name_prefix="upload") as pool:
        flying: deque[tuple[Future[None], bytearray]] = deque()
        try:
            ended = False
            while not ended:
                if not buffers:
                    future, landed = flying.popleft()
                    future.result()
                    buffers.append(landed)
                buffer = buffers.popleft()
                filled = fill(source, buffer)
                ended = filled < part_bytes
                if not filled:
                    break
                if not objects or len(objects[-1].digests) == parts_per_object:
                    objects.append(_Object(bucket, key if not objects else f"{key}.{len(objects) + 1}"))
                # The short last part is copied: botocore takes no memoryview.
                body = buffer if filled == part_bytes else bytes(memoryview(buffer)[:filled])
                flying.append((pool.submit(objects[-1].send, objects[-1].next_part(filled), body), buffer))
                objects[-1].whole.update(body)
                total += filled
                progress(total)
            for future, _ in flying:
                future.result()
            confirm()
            return _complete(objects, key)
        except BaseException:
            for future, _ in flying:
                future.cancel()
            pool.shutdown()
            for part in objects:
                part.abort()
            raise


def abort_unfinished(bucket: Bucket, prefix: str) -> int:
    """Abort the uploads below a prefix that a died process left; their parts cost money and are nobody's.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    aborted = 0
    with explained(f"cannot abort unfinished uploads below {prefix}", prefix):
        for page in bucket.client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name, Prefix=prefix):
            for entry in page.get("Uploads", []):
                bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=entry["Key"], UploadId=entry["UploadId"])
                aborted += 1
    return aborted


def _complete(objects: list[_Object], key: str) -> tuple[Uploaded, ...]:
    if not objects:
        raise StoreError(f"there is nothing to store in {key}: the stream is empty", key=key)
    return tuple(part.complete() for part in objects)


def fill(source: Source, buffer: bytearray) -> int:
    """Fill the buffer as far as the source reaches: a pipe gives less than it is asked for."""
    view = memoryview(buffer)
    filled = 0
    while filled < len(buffer) and (count := source.readinto(view[filled:])):
        filled += count
    return filled


class _Object:
    """One multipart upload."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket = bucket
        self.key = key
        self.whole = hashlib.sha256()
        self.bytes = 0
        self.digests: list[bytes] = []
        self.parts: list[CompletedPartTypeDef] = []
        with explained(f"cannot begin the upload of {key}", key):
            self.id = bucket.client.create_multipart_upload(
                Bucket=bucket.name,
                Key=key,
                ContentType="application/octet-stream",
                ChecksumAlgorithm="SHA256",
                **bucket.encryption(),  # type: ignore[arg-type]
            )["UploadId"]

    def next_part(self, size: int) -> int:
        self.bytes += size
        self.digests.append(b"")
        return len(self.digests)

    def send(self, number: int, body: bytes | bytearray) -> None:
        digest = hashlib.sha256(body).digest()
        checksum = base64.b64encode(digest).decode()
        with explained(f"cannot upload part {number} of {self.key}", self.key):
            answer = self.bucket.client.upload_part(
                Bucket=self.bucket.name,
                Key=self.key,
                UploadId=self.id,
                PartNumber=number,
                Body=body,  # type: ignore[arg-type]  # botocore takes a bytearray, its stubs do not
                ChecksumSHA256=checksum,
            )
        self.digests[number - 1] = digest
        self.parts.append({"PartNumber": number, "ETag": answer["ETag"], "ChecksumSHA256": checksum})

    def complete(self) -> Uploaded:
        """Make the object of its parts, if there is none of that name yet."""
        expected = f"{base64.b64encode(hashlib.sha256(b''.join(self.digests)).digest()).decode()}-{len(self.digests)}"
        parts = sorted(self.parts, key=lambda part: part["PartNumber"])
        try:
            with explained(f"cannot complete {self.key}", self.key):
                try:
                    self._complete(parts, {"IfNoneMatch": "*"})
                except ClientError as error:
                    # Stores that know no conditional completion say so; the manifest's condition still holds.
                    if error.response.get("Error", {}).get("Code") != "NotImplemented":
                        raise
                    self._complete(parts, {})
        except StoreError:
            # A completion whose answer was lost is sent again by boto3, and refused because it had succeeded.
            if self._stored_checksum() != expected:
                raise
        with explained(f"cannot look at {self.key}", self.key):
            head = self.bucket.client.head_object(Bucket=self.bucket.name, Key=self.key, ChecksumMode="ENABLED")
        kept = head.get("ChecksumSHA256")
        if head["ContentLength"] != self.bytes or kept not in {None, expected}:
            raise StoreError(
                f"{self.key} is not what was uploaded: {head['ContentLength']} bytes with checksum {kept},"
                f" not {self.bytes} with {expected}",
                key=self.key,
                hint="does another program write below this prefix?",
            )
        return Uploaded(self.key, self.bytes, self.whole.hexdigest(), head["ETag"], kept, head.get("VersionId"))

    def _complete(self, parts: list[CompletedPartTypeDef], condition: dict[str, str]) -> None:
        self.bucket.client.complete_multipart_upload(
            Bucket=self.bucket.name,
            Key=self.key,
            UploadId=self.id,
            MultipartUpload={"Parts": parts},
            **condition,  # type: ignore[arg-type]
        )

    def _stored_checksum(self) -> str | None:
        try:
            head = self.bucket.client.head_object(Bucket=self.bucket.name, Key=self.key, ChecksumMode="ENABLED")
        except (ClientError, BotoCoreError):
            return None
        return head.get("ChecksumSHA256")

    def abort(self) -> None:
        """Give the parts up; what made it fail matters more than whether this works."""
        try:
            self.bucket.client.abort_multipart_upload(Bucket=self.bucket.name, Key=self.key, UploadId=self.id)
        except (ClientError, BotoCoreError) as error:
            log.warning("the unfinished upload of %s could not be aborted: %s", self.key, error)
