"""The manifest: where it lies, how it is read, and what a release remembers of it."""

from __future__ import annotations

import hashlib
import re

from pydantic import ValidationError

from tasks.release.backup import Backup, Manifest
from tasks.release.environment import Storage
from tasks.release.errors import BackupError, VerificationError
from tasks.store.bucket import Bucket


def place_of(storage: Storage, backup_id: str) -> str:
    """The prefix of everything that belongs to a backup, with a slash at its end.

    Raises:
        BackupError: The id is not one.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", backup_id):
        raise BackupError(f"{backup_id!r} is no backup id", hint="letters, digits, dots, dashes and underscores")
    return storage.key("backups", backup_id) + "/"


def key_of(storage: Storage, backup_id: str) -> str:
    """The key of a backup's manifest."""
    return place_of(storage, backup_id) + "manifest.json"


def load(bucket: Bucket, backup_id: str) -> Manifest | None:
    """Read the manifest of a backup; None when there is no such backup.

    Raises:
        StoreError: The bucket refuses or is lost.
        VerificationError: The object is not a manifest.
    """
    key = key_of(bucket.storage, backup_id)
    stored = bucket.read(key)
    return parse(stored.body, key) if stored else None


def find(bucket: Bucket, backup_id: str) -> Backup | None:
    """What a release remembers of a backup that exists; None when there is no such backup.

    Raises:
        StoreError: The bucket refuses or is lost.
        VerificationError: The object is not a manifest.
    """
    key = key_of(bucket.storage, backup_id)
    stored = bucket.read(key)
    return summarise(parse(stored.body, key), stored.body, bucket.storage) if stored else None


def parse(body: bytes, key: str) -> Manifest:
    """Read a manifest from its bytes.

    Raises:
        VerificationError: They are none.
    """
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as error:
        raise VerificationError(
            f"{key} is not a manifest: {error.error_count()} mistakes", subject=key, hint="make a new backup"
        ) from None


def encode(manifest: Manifest) -> bytes:
    """The bytes of a manifest; equal manifests have equal bytes."""
    return manifest.model_dump_json(indent=1).encode()


def summarise(manifest: Manifest, body: bytes, storage: Storage) -> Backup:
    """What a release remembers of a backup whose manifest was written as `body`, maybe by another version."""
    return Backup(
        id=manifest.id,
        manifest_key=key_of(storage, manifest.id),
        manifest_sha256=hashlib.sha256(body).hexdigest(),
        source=manifest.source,
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        bytes=sum(stored.bytes for stored in manifest.objects),
        source_bytes=manifest.source_bytes,
        tables=len(manifest.tables),
        rows=sum(table.rows for table in manifest.tables),
        objects=manifest.objects,
        findings=manifest.findings,
    )
