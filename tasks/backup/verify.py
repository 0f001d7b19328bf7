"""Is it a backup? In levels: it is there, every byte is right, it was restored and holds what the source held."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Literal, NamedTuple

from tasks.backup.contents import sequences_of, tables_of
from tasks.backup.fingerprints import Fingerprinter
from tasks.backup.manifest import parse
from tasks.backup.origin import origin_of
from tasks.backup.progress import Report, Volume
from tasks.backup.restore import Restored, restore
from tasks.backup.scratch import drop_leftover_scratch, scratch, server_of
from tasks.backup.side_by_side import run_side_by_side
from tasks.backup.snapshot import reading
from tasks.database.catalogue import catalogue_of, differences
from tasks.database.identity import major
from tasks.release.backup import Backup, Manifest, SequenceState, TableContent, Verification
from tasks.release.environment import Environment
from tasks.release.errors import VerificationError
from tasks.store.bucket import Bucket
from tasks.store.download import check_stored, read_back

Level = Literal["stored", "read", "restored"]

PROVES: dict[Level, str] = {
    "stored": "every object is in the bucket with the size and the checksum it was stored with",
    "read": "every byte of every object was read back and is the one that pg_dump wrote",
    "restored": "it was restored into a scratch database: every table has the rows, and every relation, index,"
    " constraint, trigger, function and type the definition, that the source had under the backup's snapshot",
}
NAMED = 5  # as many differences as one message lists


class Copy(NamedTuple):
    """A backup that was restored and compared."""

    dbname: str
    manifest: Manifest
    verification: Verification
    owners: bool  # whether owners and grants came back


class _Times(NamedTuple):
    read_s: float = 0.0
    restore_s: float = 0.0
    findings: tuple[str, ...] = ()


def verify(environment: Environment, bucket: Bucket, backup: Backup, level: Level, report: Report) -> Verification:
    """Prove a backup, up to a level; every level includes the ones below it.

    Raises:
        VerificationError: The backup is not what its manifest says; `subject` names the object or table.
        BackupError: It could not be restored for another reason.
        DatabaseError: The server of restores cannot be reached or refuses.
        StoreError: The bucket refuses or is lost.
    """
    if level == "restored":
        with proved_copy(environment, bucket, backup, report) as copy:
            return copy.verification
    manifest = _manifest_of(bucket, backup)
    for stored in manifest.objects:
        check_stored(bucket, stored)
    times = _Times()
    if level == "read":
        began = time.monotonic()
        volume = Volume(report, "read back")
        for stored in manifest.objects:
            read_back(bucket, stored, progress=_counted(volume, stored.key))
        times = _Times(read_s=time.monotonic() - began)
    return _verification(level, backup, manifest, times, report)


@contextmanager
def proved_copy(environment: Environment, bucket: Bucket, backup: Backup, report: Report) -> Iterator[Copy]:
    """A backup, restored and found to be what its manifest says; the copy is dropped after the block.

    Raises:
        VerificationError: The backup is not what its manifest says; `subject` names the object or table.
        BackupError: It could not be restored for another reason.
        DatabaseError: The server of restores cannot be reached or refuses.
        StoreError: The bucket refuses or is lost.
    """
    manifest = _manifest_of(bucket, backup)
    for stored in manifest.objects:
        check_stored(bucket, stored)
    # A run that was killed leaves its copy of the database; no restore of ours takes longer than this.
    for left in drop_leftover_scratch(environment, timedelta(seconds=2 * environment.backup.timeout_s)):
        report(f"dropped the scratch database {left}, which a run that died has left")
    with scratch(environment, manifest, report) as dbname:
        restored = restore(environment, bucket, manifest, dbname, report)
        findings = compare(environment, manifest, dbname, restored, report)
        times = _Times(restored.read_s, restored.restore_s, restored.findings + findings)
        proved = _verification("restored", backup, manifest, times, report)
        yield Copy(dbname, manifest, proved, restored.owners)


def _verification(level: Level, backup: Backup, manifest: Manifest, times: _Times, report: Report) -> Verification:
    report(f"backup {backup.id}: {PROVES[level]}")
    return Verification(
        level=level,
        proves=PROVES[level],
        objects=len(manifest.objects),
        bytes=backup.bytes,
        tables=len(manifest.tables) if level == "restored" else 0,
        rows=sum(table.rows for table in manifest.tables) if level == "restored" else 0,
        verified_at=datetime.now(UTC),
        **times._asdict(),
    )


def compare(
    environment: Environment, manifest: Manifest, dbname: str, restored: Restored, report: Report
) -> tuple[str, ...]:
    """Compare a restored database with what the manifest says of the source.

    Returns:
        What differs without being wrong, one sentence each.

    Raises:
        VerificationError: A table, a sequence or an object of the schema differs.
        DatabaseError: The server cannot be reached or refuses.
    """
    server = server_of(environment)
    with reading(server, "verification", dbname=dbname) as connection:
        tables = tables_of(connection)
        sequences = sequences_of(connection)
        origin = origin_of(connection)
        catalogue = catalogue_of(connection)
        same_major = major(connection.info.server_version) == major(manifest.source.server_version)
    report(f"comparing {len(manifest.tables)} tables")
    fingerprinter = Fingerprinter(server, tables, dbname=dbname)
    contents = chain.from_iterable(run_side_by_side(fingerprinter.jobs(), fingerprinter.stop))
    found = {(table.schema_name, table.name): table for table in contents}
    wrong = [
        *_tables(manifest, found),
        *_sequences(manifest, sequences),
        *_catalogue(manifest, catalogue, same_major=same_major, ownership=restored.owners),
    ]
    if origin.large_objects != manifest.large_objects:
        wrong.append(
            _Difference("large objects", f"{origin.large_objects} large objects instead of {manifest.large_objects}")
        )
    findings = []
    for name, version in manifest.extensions.items():
        if name in restored.skipped_extensions:
            continue
        if name not in origin.extensions:
            wrong.append(_Difference(name, f"the extension {name} is missing"))
        elif origin.extensions[name] != version:
            findings.append(f"the extension {name} is {version} in the source and {origin.extensions[name]} restored")
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        told = "; ".join(difference.sentence for difference in wrong[:NAMED])
        raise VerificationError(
            f"backup {manifest.id} was restored and is not what was backed up: {told}{more}",
            subject=wrong[0].subject,
            hint="do not migrate on this backup; make a new one: `--release-id new`",
        )
    return tuple(findings)


class _Difference(NamedTuple):
    subject: str
    sentence: str


def _tables(manifest: Manifest, found: dict[tuple[str, str], TableContent]) -> list[_Difference]:
    wrong = []
    for table in manifest.tables:
        name = f"{table.schema_name}.{table.name}"
        there = found.pop((table.schema_name, table.name), None)
        if there is None:
            wrong.append(_Difference(name, f"table {name} is missing"))
        elif there.rows != table.rows:
            wrong.append(_Difference(name, f"table {name} has {there.rows} rows instead of {table.rows}"))
        elif there.fingerprint != table.fingerprint:
            wrong.append(_Difference(name, f"table {name} has {table.rows} rows, but not the same ones"))
    wrong += [_Difference(".".join(name), f"table {'.'.join(name)} is not in the backup") for name in found]
    return wrong


def _sequences(manifest: Manifest, found: dict[tuple[str, str], tuple[int, bool]]) -> list[_Difference]:
    wrong = []
    for sequence in manifest.sequences:
        name = f"{sequence.schema_name}.{sequence.name}"
        there = found.get((sequence.schema_name, sequence.name))
        if there is None:
            wrong.append(_Difference(name, f"sequence {name} is missing"))
        elif not _between(sequence, there):
            wrong.append(_Difference(name, f"sequence {name} stands at {there[0]} instead of {sequence.last_value}"))
    return wrong


def _between(sequence: SequenceState, there: tuple[int, bool]) -> bool:
    """Whether pg_dump can have seen this: sequences go on between the two looks that the backup took."""
    before = (sequence.last_value, sequence.is_called)
    after = (sequence.later_value, sequence.later_is_called)
    return min(before, after) <= there <= max(before, after)


def _catalogue(manifest: Manifest, found: dict[str, str], *, same_major: bool, ownership: bool) -> list[_Difference]:
    before = manifest.catalogue
    if not same_major:
        # Another major may write the same definition in other words; that it is there can be told nevertheless.
        before, found = dict.fromkeys(before, ""), dict.fromkeys(found, "")
    return [_Difference(sentence, sentence) for sentence in differences(before, found, ownership=ownership)]


def _manifest_of(bucket: Bucket, backup: Backup) -> Manifest:
    """The manifest that the release remembers, not merely one of the same name."""
    stored = bucket.read(backup.manifest_key)
    if stored is None:
        raise VerificationError(
            f"{backup.manifest_key} is not in the bucket",
            subject=backup.manifest_key,
            hint="without its manifest it is no backup; make a new one: `--release-id new`",
        )
    if hashlib.sha256(stored.body).hexdigest() != backup.manifest_sha256:
        raise VerificationError(
            f"{backup.manifest_key} is not the manifest that was written",
            subject=backup.manifest_key,
            hint="somebody changed it; make a new backup: `--release-id new`",
        )
    return parse(stored.body, backup.manifest_key)


def _counted(volume: Volume, key: str) -> Callable[[int], None]:
    return lambda count: volume.reached(key, count)
