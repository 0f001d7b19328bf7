"""Is the bucket fit for backups? What is amiss is told, and only what would lose a backup stops it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.store.bucket import Bucket, explained

EVERYBODY = (
    "http://acs.amazonaws.com/groups/global/AllUsers",
    "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
)


def check_bucket(bucket: Bucket) -> tuple[str, ...]:
    """What is amiss with a bucket, one sentence each. What a store does not implement is not held against it.

    Raises:
        StoreError: The bucket does not exist, or nothing may be written below the prefix.
    """
    name, client = bucket.name, bucket.client
    key = bucket.storage.key("backups", "write-test")
    with explained(f"the bucket {name} cannot be reached", key):
        client.head_bucket(Bucket=name)
    with explained(f"nothing can be written below {bucket.storage.key('backups')}/ of the bucket {name}", key):
        # An upload that is begun and given up leaves nothing behind, not even where nothing may be deleted.
        begun = client.create_multipart_upload(Bucket=name, Key=key, **bucket.encryption())  # type: ignore[arg-type]
        client.abort_multipart_upload(Bucket=name, Key=key, UploadId=begun["UploadId"])
    found = []
    versioning = _answer(lambda: client.get_bucket_versioning(Bucket=name))
    if versioning is not None and versioning.get("Status") != "Enabled":
        found.append(f"bucket {name}: versioning is off, so that whoever may write can destroy a backup")
    status = _answer(lambda: client.get_bucket_policy_status(Bucket=name))
    grants = (_answer(lambda: client.get_bucket_acl(Bucket=name)) or {}).get("Grants", [])
    if (status or {}).get("PolicyStatus", {}).get("IsPublic") or any(
        grant["Grantee"].get("URI") in EVERYBODY for grant in grants
    ):
        found.append(f"bucket {name}: it is public, and with it every row of the database")
    encryption = _answer(lambda: client.get_bucket_encryption(Bucket=name))
    if not encryption and bucket.storage.encryption == "none":
        found.append(f"bucket {name}: no encryption at rest is configured, neither there nor in [storage]")
    return tuple(found)


def _answer(ask: Callable[[], Any]) -> Any:
    """What the store answers; None when it refuses, does not know the call or has nothing configured."""
    try:
        return ask()
    except (ClientError, BotoCoreError):
        return None
