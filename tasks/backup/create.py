"""A backup: one snapshot, dumped, hashed and counted, with a manifest that is written last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import chain

from tasks.backup.contents import sequences_of, tables_of
from tasks.backup.dump import Dump, Dumper, part_bytes, plan
from tasks.backup.fingerprints import Fingerprinter
from tasks.backup.manifest import encode, find, key_of, place_of, summarise
from tasks.backup.origin import origin_of
from tasks.backup.preflight import check_readable, findings_of, roles_of
from tasks.backup.progress import Report, Volume
from tasks.backup.side_by_side import run_side_by_side
from tasks.backup.snapshot import exported
from tasks.backup.storage import check_bucket
from tasks.database.binaries import Client, find_client
from tasks.database.catalogue import catalogue_of
from tasks.database.connection import connect
from tasks.database.identity import identify
from tasks.release.backup import Backup, BackupObject, Manifest, SequenceState, TableContent
from tasks.release.environment import Environment
from tasks.release.errors import ConflictError, StoreError
from tasks.store.bucket import Bucket, ForbiddenError, explained
from tasks.store.upload import abort_unfinished


def create(environment: Environment, bucket: Bucket, backup_id: str, report: Report) -> Backup:
    """Back the environment's database up; if this backup exists already, nothing is done.

    Args:
        environment: Whose database.
        bucket: Where to.
        backup_id: Letters, digits, dots, dashes and underscores.
        report: Told what is going on, a sentence at a time.

    Raises:
        BackupError: The role may not read everything, no client fits, or pg_dump failed.
        DatabaseError: The server cannot be reached or refuses.
        StoreError: The bucket refuses or is lost.
    """
    if there := find(bucket, backup_id):
        report(f"backup {backup_id} exists already")
        return there
    settings = environment.backup
    bucket_findings = check_bucket(bucket)
    started_at = datetime.now(UTC)
    with exported(environment.database) as snapshot:
        source = identify(snapshot.connection)
        client = client_for(environment, source.server_version)
        check_readable(snapshot.connection)
        origin = origin_of(snapshot.connection)
        tables = tables_of(snapshot.connection)
        roles = roles_of(snapshot.connection)
        missing = findings_of(snapshot.connection)
        catalogue = catalogue_of(snapshot.connection)
        before = sequences_of(snapshot.connection)
        place = place_of(bucket.storage, backup_id)
        if clear(bucket, backup_id, report):
            # Nothing can be written where they lie; the manifest says which objects are the backup's.
            place += f"attempt-{started_at:%Y%m%dT%H%M%S.%fZ}/"

        dumps = plan(tables, settings.table_groups, origin.locale.encoding)
        report(f"dumping {len(tables)} tables, {origin.bytes / 2**20:,.0f} MiB, with pg_dump {client.version}")
        dumper = Dumper(
            client,
            environment.database,
            snapshot.id,
            bucket,
            place,
            part_bytes=part_bytes(settings.part_bytes, len(dumps)),
            timeout_s=settings.timeout_s,
            progress=Volume(report, "dumped").reached,
        )
        fingerprinter = Fingerprinter(environment.database, tables, snapshot=snapshot.id)

        def stop() -> None:
            dumper.stop()
            fingerprinter.stop()

        try:
            objects, contents = _run(dumper, dumps, fingerprinter, stop)
        except BaseException:
            # Dumps that were done before another failed; if this fails too, the next attempt does it.
            with suppress(StoreError):
                clear(bucket, backup_id, report)
            raise
        after = sequences_of(snapshot.connection)
    manifest = Manifest(
        id=backup_id,
        environment=environment.name,
        source=source,
        source_bytes=origin.bytes,
        owner=origin.owner,
        locale=origin.locale,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        client_version=client.version,
        snapshot=snapshot.id,
        objects=tuple(objects),
        tables=tuple(sorted(contents, key=lambda table: (table.schema_name, table.name))),
        sequences=tuple(
            SequenceState(
                schema_name=schema,
                name=name,
                last_value=before[schema, name][0],
                is_called=before[schema, name][1],
                later_value=after[schema, name][0],
                later_is_called=after[schema, name][1],
            )
            for schema, name in sorted(before.keys() & after.keys())
        ),
        large_objects=origin.large_objects,
        extensions=origin.extensions,
        catalogue=catalogue,
        roles=roles,
        settings=origin.settings,
        findings=missing + bucket_findings + tuple(dumper.warnings),
    )
    body = encode(manifest)
    bucket.write(key_of(bucket.storage, backup_id), body)
    backup = summarise(manifest, body, bucket.storage)
    report(f"backup {backup_id}: {backup.rows:,} rows of {backup.tables} tables in {backup.bytes / 2**20:,.1f} MiB")
    return backup


def stream_dump(environment: Environment, bucket: Bucket, backup_id: str, report: Report) -> tuple[BackupObject, ...]:
    """Dump and store, without manifest and fingerprints: what remains is not a backup.

    Raises:
        BackupError: No client fits, or pg_dump failed.
        DatabaseError: The server cannot be reached or refuses.
        StoreError: The bucket refuses or is lost.
    """
    with exported(environment.database) as snapshot:
        client = client_for(environment, identify(snapshot.connection).server_version)
        tables = tables_of(snapshot.connection)
        dumps = plan(tables, environment.backup.table_groups, origin_of(snapshot.connection).locale.encoding)
        dumper = Dumper(
            client,
            environment.database,
            snapshot.id,
            bucket,
            place_of(bucket.storage, backup_id),
            part_bytes=part_bytes(environment.backup.part_bytes, len(dumps)),
            timeout_s=environment.backup.timeout_s,
            progress=Volume(report, "dumped").reached,
        )
        objects = run_side_by_side([partial(dumper.run, dump) for dump in dumps], dumper.stop)
    return tuple(chain.from_iterable(objects))


def client_for(environment: Environment, source_version: int) -> Client:
    """The client whose dumps both the source and the server of restores understand: a rollback needs the source.

    Raises:
        BackupError: There is none, or the server of restores is older than the source.
        DatabaseError: The server of restores cannot be reached.
    """
    if server := environment.backup.scratch_server:
        with connect(server, "version", dbname=server.maintenance_database) as connection:
            find_client(environment.backup.client, source_version, connection.info.server_version)
    return find_client(environment.backup.client, source_version, source_version)


def clear(bucket: Bucket, backup_id: str, report: Report) -> int:
    """Remove what an attempt that failed has left below a backup's prefix; where there is a manifest, it is refused.

    Returns:
        How many objects stay, because nothing may be removed from this bucket.

    Raises:
        ConflictError: The backup is complete by now: another run that took the same release up has made it.
        StoreError: The bucket refuses for another reason, or is lost.
    """
    place, manifest_key = place_of(bucket.storage, backup_id), key_of(bucket.storage, backup_id)
    if bucket.read(manifest_key):
        raise ConflictError(
            f"backup {backup_id} was completed by another run meanwhile",
            key=manifest_key,
            hint="run the release again: it goes on with that backup",
            retryable=True,
        )
    aborted = abort_unfinished(bucket, place)
    removed = retained = 0
    for key in list(bucket.keys(place)):
        try:
            with explained(f"cannot remove {key}, which a backup that failed has left", key):
                bucket.client.delete_object(Bucket=bucket.name, Key=key)
            removed += 1
        except ForbiddenError:
            retained += 1
    if aborted or removed:
        report(f"removed what a backup that failed has left: {removed} objects, {aborted} unfinished uploads")
    if retained:
        report(f"{retained} objects of a backup that failed are retained: this bucket lets nothing be removed")
    return retained


def _run(
    dumper: Dumper, dumps: tuple[Dump, ...], fingerprinter: Fingerprinter, stop: Callable[[], None]
) -> tuple[list[BackupObject], list[TableContent]]:
    """Dumps and fingerprints side by side."""
    dumping: list[Callable[[], Iterable[BackupObject | TableContent]]] = [partial(dumper.run, dump) for dump in dumps]
    found = list(chain.from_iterable(run_side_by_side([*dumping, *fingerprinter.jobs()], stop)))
    return (
        [item for item in found if isinstance(item, BackupObject)],
        [item for item in found if isinstance(item, TableContent)],
    )
