"""Whatever happens to a stored backup is noticed before anything relies on it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest

from tasks.backup.create import clear, create
from tasks.backup.manifest import encode, load, summarise
from tasks.backup.restore import restore
from tasks.backup.scratch import create_database, drop_database, scratch_name
from tasks.backup.verify import Level, verify
from tasks.release.backup import Backup
from tasks.release.errors import ConflictError, VerificationError
from tasks.store.download import read_back
from tests.tasks.backup.conftest import Place

QUIET: list[str] = []
FLIPS = 60
LEVELS: tuple[Level, ...] = ("stored", "read", "restored")


@pytest.fixture
def backup(small: Place) -> Iterator[Backup]:
    yield create(small.environment(), small.bucket, "r1", QUIET.append)
    assert scratch_name("shop", "r1") not in small.databases()


def test_every_flipped_bit_is_noticed(small: Place, backup: Backup) -> None:
    client, name = small.bucket.client, small.bucket.name
    stored = backup.objects[0]
    whole = client.get_object(Bucket=name, Key=stored.key)["Body"].read()
    bits = random.Random(17).sample(range(len(whole) * 8), FLIPS)
    caught = read = 0
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        etag = client.put_object(Bucket=name, Key=stored.key, Body=bytes(damaged))["ETag"]
        with pytest.raises(VerificationError) as error:
            verify(small.environment(), small.bucket, backup, "read", QUIET.append)
        caught += error.value.subject == stored.key
        # Rotten below the store, where size, ETag and checksum still look right: only the bytes tell.
        with pytest.raises(VerificationError, match="SHA-256") as error:
            read_back(small.bucket, stored.model_copy(update={"etag": etag}))
        read += error.value.subject == stored.key
    assert (caught, read) == (FLIPS, FLIPS)


def test_nothing_is_restored_of_a_damaged_dump(small: Place, backup: Backup) -> None:
    client, name = small.bucket.client, small.bucket.name
    environment = small.environment()
    manifest = load(small.bucket, "r1")
    assert manifest is not None
    stored = manifest.objects[0]
    damaged = bytearray(client.get_object(Bucket=name, Key=stored.key)["Body"].read())
    damaged[-1] ^= 1
    etag = client.put_object(Bucket=name, Key=stored.key, Body=bytes(damaged))["ETag"]
    manifest = manifest.model_copy(update={"objects": (stored.model_copy(update={"etag": etag}),)})
    create_database(environment.database, manifest, "rb_scratch_untouched", "")
    try:
        with pytest.raises(VerificationError, match=r"database\.dump"):
            restore(environment, small.bucket, manifest, "rb_scratch_untouched", QUIET.append)
        with psycopg.connect(small.server.dsn("rb_scratch_untouched")) as connection:
            assert connection.execute("select count(*) from pg_class where oid >= 16384").fetchone() == (0,)
    finally:
        drop_database(environment.database, "rb_scratch_untouched")


def caught_at_every_level(place: Place, backup: Backup, subject: str, words: str) -> None:
    for level in LEVELS:
        with pytest.raises(VerificationError, match=words) as caught:
            verify(place.environment(), place.bucket, backup, level, QUIET.append)
        assert caught.value.subject == subject
        assert subject in str(caught.value)


def test_a_missing_object(small: Place, backup: Backup) -> None:
    key = backup.objects[0].key
    small.bucket.client.delete_object(Bucket=small.bucket.name, Key=key)
    caught_at_every_level(small, backup, key, "is not in the bucket")


def test_an_object_of_somebody_else(small: Place, backup: Backup) -> None:
    stored = backup.objects[0]
    small.bucket.client.put_object(Bucket=small.bucket.name, Key=stored.key, Body=b"x" * stored.bytes)
    caught_at_every_level(small, backup, stored.key, "wrote over")


def test_another_manifest(small: Place, backup: Backup) -> None:
    client, name = small.bucket.client, small.bucket.name
    manifest = load(small.bucket, "r1")
    assert manifest is not None
    body = manifest.model_copy(update={"large_objects": 7}).model_dump_json(indent=1).encode()
    client.put_object(Bucket=name, Key=backup.manifest_key, Body=body)
    caught_at_every_level(small, backup, backup.manifest_key, "is not the manifest that was written")

    client.put_object(Bucket=name, Key=backup.manifest_key, Body=b'{"format": 1')
    with pytest.raises(VerificationError, match="is not a manifest"):
        load(small.bucket, "r1")
    caught_at_every_level(small, backup, backup.manifest_key, "is not the manifest that was written")

    client.delete_object(Bucket=name, Key=backup.manifest_key)
    caught_at_every_level(small, backup, backup.manifest_key, "is not in the bucket")


def test_a_summary_is_of_the_manifest(small: Place, backup: Backup) -> None:
    manifest = load(small.bucket, "r1")
    assert manifest is not None
    assert summarise(manifest, encode(manifest), small.environment().storage) == backup


def test_a_newer_version_of_an_object(small: Place) -> None:
    """Ours is still there below it; yet who restores by hand would fetch the newest."""
    client, name = small.bucket.client, small.bucket.name
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    backup = create(small.environment(), small.bucket, "r2", QUIET.append)
    stored = backup.objects[0]
    assert stored.version_id
    whole = client.get_object(Bucket=name, Key=stored.key)["Body"].read()
    client.put_object(Bucket=name, Key=stored.key, Body=bytes([whole[0] ^ 1]) + whole[1:])
    caught_at_every_level(small, backup, stored.key, "was written over")
    client.delete_object(Bucket=name, Key=stored.key)
    caught_at_every_level(small, backup, stored.key, "was removed")


def test_what_another_run_completed_is_not_cleared_away(small: Place) -> None:
    """A run that lost its lock fails beside the one that took its release up, and tidies up after itself."""
    create(small.environment(), small.bucket, "complete", QUIET.append)
    before = list(small.bucket.keys(""))
    with pytest.raises(ConflictError, match="was completed by another run meanwhile"):
        clear(small.bucket, "complete", QUIET.append)
    assert list(small.bucket.keys("")) == before
