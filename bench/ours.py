"""Our own ways, called as the flow's tasks call them."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from bench.place import Place
from tasks.backup.create import create, stream_dump
from tasks.backup.manifest import load
from tasks.backup.restore import restore as restore_into
from tasks.release.environment import Environment
from tasks.store.bucket import Bucket

BACKUP_ID = "stage"


def stream(place: Place) -> None:
    """The dump on its way into the bucket, and nothing else: what the peers do."""
    environment = _environment(place)
    stream_dump(environment, Bucket(environment.storage), "stream", _silent)


def stage(place: Place) -> None:
    """The backup that a release relies on: dump, SHA-256, counts and fingerprints, manifest."""
    environment = _environment(place)
    create(environment, Bucket(environment.storage), BACKUP_ID, _silent)


def restore(place: Place) -> None:
    """Back into an empty database; nothing reaches it before its SHA-256 was compared."""
    environment = _environment(place)
    bucket = Bucket(environment.storage)
    manifest = load(bucket, BACKUP_ID)
    if manifest is None:
        raise RuntimeError("there is no backup to restore")
    restore_into(environment, bucket, manifest, place.target, _silent)


def _silent(_sentence: str) -> None:
    """The figures are what counts here."""


def _environment(place: Place) -> Environment:
    return Environment.model_validate(
        {
            "name": "bench",
            "kind": "staging",
            "app": {"directory": "app", "branch": "main", "reload": []},
            "database": {
                "host": place.host,
                "port": place.port,
                "name": place.source,
                "user": place.user,
                "password": SecretStr(place.password),
            },
            "storage": {
                "endpoint": place.endpoint,
                "region": place.region,
                "bucket": place.bucket,
                "prefix": place.prefix,
                "access_key": SecretStr(place.access_key),
                "secret_key": SecretStr(place.secret_key),
            },
            "backup": {"client": place.bin},
            "smoke": {"base_url": "http://127.0.0.1", "endpoints": [{"path": "/"}]},
        },
        context={"directory": Path()},
    )
