"""A bucket: whole small objects with conditional writes, and errors in our own words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnectionError

from tasks.release.environment import Storage
from tasks.release.errors import ConflictError, StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PRECONDITION_FAILED = ("PreconditionFailed", "412")
FORBIDDEN = ("AccessDenied", "403", "ObjectLocked", "ObjectLockedByBucketPolicy")
MISSING = ("NoSuchKey", "404", "NotFound", "NoSuchVersion")
LOST = (NoConnectionError, HTTPClientError, IncompleteReadError)  # the way to the server, not what was asked of it
PASSING = ("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "500", "502", "503", "504")
# AWS, when two writes meet: which of them comes first is not decided, and both may come again.
UNDECIDED = "ConditionalRequestConflict"
TRIES = 3  # of a small object whose write met another one

CHECK_STORAGE = "check bucket, credentials and policy in [storage] of the environment file"
CHECK_PERMISSIONS = f"{CHECK_STORAGE}; docs/backups.md names the permissions that are needed"
READS = ("GetObject", "HeadObject")


class Stored(NamedTuple):
    """A whole object as it was read."""

    body: bytes
    etag: str


class Bucket:
    """The bucket of an environment.

    Args:
        storage: Where it is and with which credentials.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.name = storage.bucket
        self.client: S3Client = boto3.client(
            "s3",
            endpoint_url=storage.endpoint,
            region_name=storage.region,
            aws_access_key_id=storage.access_key.get_secret_value() if storage.access_key else None,
            aws_secret_access_key=storage.secret_key.get_secret_value() if storage.secret_key else None,
            config=Config(
                connect_timeout=10,
                read_timeout=120,
                max_pool_connections=64,  # parts and ranges travel side by side
                retries={"mode": "standard", "total_max_attempts": 5},
                s3={
                    "addressing_style": "path" if storage.endpoint else "auto",
                    # Every write carries a SHA-256 of its own, in a header that is signed: a second one over the same
                    # bytes would only cost time.
                    "payload_signing_enabled": False,
                },
            ),
        )

    def read(self, key: str) -> Stored | None:
        """A whole object; None when there is none.

        Raises:
            StoreError: The bucket refuses or is lost.
        """
        try:
            with explained(f"cannot read {key}", key):
                answer = self.client.get_object(Bucket=self.name, Key=key)
                return Stored(answer["Body"].read(), answer["ETag"])
        except MissingObjectError:
            return None

    def write(self, key: str, body: bytes, *, content_type: str = "application/json", etag: str | None = None) -> str:
        """Write a whole object if nobody else did.

        Args:
            key: The object's key.
            body: Its content.
            content_type: Its media type.
            etag: The ETag that the object must have now; None: it must not exist.

        Returns:
            The new ETag.

        Raises:
            ConflictError: The object exists, or is no longer the one that was read.
            StoreError: The bucket refuses or is lost.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        try:
            for left in reversed(range(TRIES)):
                try:
                    with explained(f"cannot write {key}", key):
                        answer = self.client.put_object(
                            Bucket=self.name,
                            Key=key,
                            Body=body,
                            ContentType=content_type,
                            ChecksumAlgorithm="SHA256",
                            **self.encryption(),  # type: ignore[arg-type]
                            **condition,  # type: ignore[arg-type]
                        )
                    break
                except UndecidedError:
                    if not left:
                        raise
        except ConflictError:
            # A write whose answer was lost is sent again by boto3 and then meets itself.
            there = self.read(key)
            if there is None or there.body != body:
                raise
            return there.etag
        return answer["ETag"]

    def written_at(self, key: str) -> datetime | None:
        """When an object was written last, by the bucket's clock; None when there is none.

        Raises:
            StoreError: The bucket refuses or is lost.
        """
        try:
            with explained(f"cannot look at {key}", key):
                return self.client.head_object(Bucket=self.name, Key=key)["LastModified"]
        except MissingObjectError:
            return None

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys below a prefix, in order.

        Raises:
            StoreError: The bucket refuses or is lost.
        """
        with explained(f"cannot list {prefix}", prefix):
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                for entry in page.get("Contents", []):
                    yield entry["Key"]

    def encryption(self) -> dict[str, str]:
        """Arguments of a write that ask for the environment's server-side encryption."""
        if self.storage.encryption == "none":
            return {}
        arguments = {"ServerSideEncryption": self.storage.encryption}
        return arguments | ({"SSEKMSKeyId": self.storage.kms_key} if self.storage.kms_key else {})


class MissingObjectError(StoreError):
    """There is no such object."""


class ForbiddenError(StoreError):
    """The credentials do not allow it, or a lock on the object does not."""


class UndecidedError(StoreError):
    """A conditional write met another write; neither was refused for good."""


@contextmanager
def explained(what: str, key: str) -> Iterator[None]:
    """Turn boto3's errors into ours.

    Raises:
        MissingObjectError: The object is not there.
        ConflictError: A condition of the write does not hold.
        UndecidedError: It met another write, and may be tried again.
        ForbiddenError: The credentials do not allow it, or a lock on the object does not.
        StoreError: Anything else; retryable when it may pass.
    """
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        message = f"{what}: {code} {error.response.get('Error', {}).get('Message', '')}".strip()
        if code in PRECONDITION_FAILED:
            raise ConflictError(message, key=key, hint="somebody else wrote it; look at it before you go on") from None
        if code in MISSING:
            raise MissingObjectError(message, key=key) from None
        if code == UNDECIDED:
            raise UndecidedError(message, key=key, retryable=True) from None
        if code in FORBIDDEN:
            missing = "without s3:ListBucket a missing object is answered like this; "
            hint = (missing if error.operation_name in READS else "") + CHECK_PERMISSIONS
            raise ForbiddenError(message, key=key, hint=hint) from None
        hint = "" if code in PASSING else CHECK_STORAGE
        raise StoreError(message, key=key, hint=hint, retryable=code in PASSING) from None
    except LOST as error:
        hint = "is the S3 server up? `runbook up s3` starts the embedded one"
        raise StoreError(f"{what}: {error}", key=key, hint=hint, retryable=True) from None
    except BotoCoreError as error:
        raise StoreError(f"{what}: {error}", key=key, hint=CHECK_STORAGE) from None
