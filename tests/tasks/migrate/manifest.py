"""A manifest in the bucket."""

from __future__ import annotations

import hashlib
import json
import secrets

from tasks.release.environment import Environment
from tasks.store.bucket import Bucket


def stored_manifest(environment: Environment, *catalogue: str) -> dict[str, str]:
    """A manifest in the bucket, with what the database had, and what a release remembers of it."""
    key = environment.storage.key("backups", secrets.token_hex(4), "manifest.json")
    body = json.dumps({"catalogue": dict.fromkeys(catalogue, "")}).encode()
    Bucket(environment.storage).write(key, body)
    return {"manifest_key": key, "manifest_sha256": hashlib.sha256(body).hexdigest()}
