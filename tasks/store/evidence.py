"""Evidence in the bucket, under the hash of the migration set it is about."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError

from tasks.release.errors import ConflictError, StoreError
from tasks.release.evidence import Evidence
from tasks.store.bucket import Bucket


def keep(bucket: Bucket, evidence: Evidence) -> str:
    """Write evidence down; the key it lies under. Evidence of the same release and set is there only once.

    Raises:
        StoreError: The bucket refuses or is lost.
    """
    key = _key(bucket, evidence.migration_set, f"{evidence.release_id}.json")
    with suppress(ConflictError):  # a release rehearses its set once; a later attempt meets what an earlier one wrote
        bucket.write(key, evidence.model_dump_json(indent=1).encode())
    return key


def newest(bucket: Bucket, migration_set: str) -> Evidence | None:
    """The newest evidence about a set of migrations; None: there is none.

    Raises:
        StoreError: The bucket refuses or is lost, or what lies there is no evidence.
    """
    keys = [key for key in bucket.keys(_key(bucket, migration_set) + "/") if key.endswith(".json")]
    found: list[Evidence] = []
    for key in keys:
        stored = bucket.read(key)
        try:
            found += [Evidence.model_validate_json(stored.body)] if stored else []
        except ValidationError:
            raise StoreError(f"{key} is no evidence of this version", key=key, hint="who wrote it?") from None
    return max(found, key=lambda evidence: evidence.kept_at, default=None)


def _key(bucket: Bucket, migration_set: str, *parts: str) -> str:
    return bucket.storage.key("evidence", migration_set, *parts)
