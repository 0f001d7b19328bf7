"""What a backup would do, told without doing it: the same checks, no dump."""

from __future__ import annotations

from tasks.backup.contents import tables_of
from tasks.backup.create import client_for
from tasks.backup.origin import origin_of
from tasks.backup.preflight import check_readable, findings_of
from tasks.backup.snapshot import reading
from tasks.backup.storage import check_bucket
from tasks.release.environment import Environment
from tasks.store.bucket import Bucket


def look(environment: Environment, bucket: Bucket) -> tuple[str, tuple[str, ...]]:
    """What would be backed up and with what, in a sentence, and what a restore of it would not bring back.

    Raises:
        BackupError: The role may not read everything, or no client fits.
        DatabaseError: The server cannot be reached or refuses.
        StoreError: The bucket refuses or is lost.
    """
    bucket_findings = check_bucket(bucket)
    with reading(environment.database, "backup preview") as connection:
        client = client_for(environment, connection.info.server_version)
        check_readable(connection)
        tables = tables_of(connection)
        size = origin_of(connection).bytes
        findings = findings_of(connection)
    would = (
        f"dump {len(tables)} tables of {environment.database.name}, {size / 2**20:,.0f} MiB, with pg_dump"
        f" {client.version} to {bucket.storage.key('backups')}/ in the bucket {bucket.name}"
    )
    return would, findings + bucket_findings
