"""What a backup is: its manifest, and what its verification proved."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from tasks.release.record import Record


class DatabaseIdentity(Record):
    """Which database this is, whatever name or address it was reached by."""

    system_identifier: str | None  # of the cluster, from initdb on; None where the server does not tell
    oid: int  # of the database within the cluster; kept when it is renamed
    name: str
    server_version: int  # server_version_num, such as 170010


class BackupObject(Record):
    """One object of a backup. Objects of one dump follow each other; mostly a dump is one object."""

    dump: str  # "database": everything that is not in another dump; "tables-N": the rows of some tables
    key: str
    bytes: int
    sha256: str  # hex, of the whole object
    etag: str
    checksum: str | None  # as the bucket keeps it, where it does
    version_id: str | None  # where the bucket keeps versions


class TableContent(Record):
    """What a table held under the backup's snapshot."""

    schema_name: str
    name: str
    rows: int
    fingerprint: str  # sum of the rows' 64-bit hashes: the same rows in any order give the same
    bytes: int  # on disk, with indexes and TOAST


class SequenceState(Record):
    """Where a sequence stood before the dump and after it: sequences go on, whatever snapshot one holds."""

    schema_name: str
    name: str
    last_value: int
    is_called: bool
    later_value: int
    later_is_called: bool


class Locale(Record):
    """How a database sorts and encodes: a restore is made with the same."""

    encoding: str
    provider: Literal["libc", "icu", "builtin"]
    collate: str
    ctype: str
    locale: str | None  # of ICU or of the built-in provider
    rules: str | None  # of ICU


class Manifest(Record):
    """Written last, and only when everything it names is complete: no manifest, no backup."""

    format: Literal[1] = 1
    id: str
    environment: str
    source: DatabaseIdentity
    source_bytes: int  # on the server's disk, indexes included
    owner: str  # of the database
    locale: Locale
    started_at: datetime
    finished_at: datetime
    client_version: str  # of pg_dump
    snapshot: str
    objects: tuple[BackupObject, ...]
    tables: tuple[TableContent, ...]
    sequences: tuple[SequenceState, ...]
    large_objects: int
    extensions: dict[str, str]  # name to version
    catalogue: dict[str, str]  # every schema object by kind and name, with a digest of its definition
    roles: tuple[str, ...]  # that a restore needs: owners and grantees
    settings: tuple[str, ...]  # as SQL: what belongs to the database's name and is in no dump (SET, GRANT, COMMENT)
    findings: tuple[str, ...]  # what a restore of this will not bring back, and what is wrong with the bucket


class Backup(Record):
    """What a release remembers of its backup."""

    id: str
    manifest_key: str
    manifest_sha256: str  # hex
    source: DatabaseIdentity
    started_at: datetime  # the snapshot is not older than this
    finished_at: datetime
    bytes: int  # in the bucket
    source_bytes: int  # on the server's disk, indexes included
    tables: int
    rows: int
    objects: tuple[BackupObject, ...]
    findings: tuple[str, ...]


class Verification(Record):
    """What was proved of a backup.

    `stored`: every object is there with its size and stored checksum. `read`: every byte was read back against its
    SHA-256. `restored`: it was restored, and every table has the rows and the fingerprint of the snapshot.
    """

    level: Literal["stored", "read", "restored"]
    proves: str  # in one sentence, for the report
    objects: int
    bytes: int
    tables: int  # compared after the restore; 0 below `restored`
    rows: int
    read_s: float
    restore_s: float
    verified_at: datetime
    findings: tuple[str, ...] = ()  # what the restore could not bring back or had to leave out
