"""A backup into a database: downloaded and hashed first, then pg_restore from the file with several jobs."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack
from typing import IO, Any, NamedTuple

import psycopg

from tasks.backup.client import Program, late_hint, may_pass
from tasks.backup.dump import EVERYTHING
from tasks.backup.progress import Report, Volume
from tasks.backup.scratch import becoming, server_of
from tasks.backup.toc import Choice, Rights, choose
from tasks.database.binaries import Client, find_client
from tasks.database.connection import connect, conninfo_of, explained, name_of
from tasks.release.backup import Manifest
from tasks.release.environment import Database, Environment
from tasks.release.errors import BackupError, CommandError
from tasks.store.bucket import Bucket
from tasks.store.download import read_back

SPARE_BYTES = 64 * 2**20  # of the temporary directory, beyond the dump
# More than 256 MB of maintenance_work_mem gained nothing when it was measured.
OPTIONS = (
    "-c maintenance_work_mem=256MB -c synchronous_commit=off"
    " -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0"
)

_RIGHTS = """
select rolsuper,
  array(select rolname::text from pg_roles
    where pg_has_role(current_user, oid, %s) and pg_has_role(current_user, oid, 'USAGE')),
  array(select rolname::text from pg_roles),
  array(select distinct v.name::text from pg_available_extension_versions v
    join pg_available_extensions e on e.name = v.name and e.default_version = v.version
    where rolsuper or not v.superuser or v.trusted)
from pg_roles where rolname = current_user
"""


class Restored(NamedTuple):
    """What a restore did."""

    read_s: float
    restore_s: float
    owners: bool  # whether owners and grants came back
    skipped_extensions: frozenset[str]
    findings: tuple[str, ...]


def restore(environment: Environment, bucket: Bucket, manifest: Manifest, dbname: str, report: Report) -> Restored:
    """Restore a backup into an empty database on the server of restores.

    The dump is downloaded to an unnamed file of the temporary directory, which is gone with this process, and
    nothing of it is used before its SHA-256 was found right.

    Args:
        environment: Whose backup.
        bucket: Where it lies.
        manifest: What it is.
        dbname: The database, which exists and is empty.
        report: Told what is going on.

    Raises:
        VerificationError: An object is missing or damaged; the database is untouched.
        BackupError: There is no room for the dump, no client fits, or pg_restore failed.
        DatabaseError: The server cannot be reached or refuses.
        StoreError: The bucket refuses or is lost.
    """
    deadline = time.monotonic() + environment.backup.timeout_s
    server = server_of(environment)
    version, rights = _ask(server, dbname)
    client = find_client(environment.backup.client, manifest.source.server_version, version)
    if client.major < Client(client.directory, manifest.client_version).major:
        raise BackupError(
            f"pg_restore {client.version} cannot read a dump of pg_dump {manifest.client_version}",
            hint=f"install the client programs of PostgreSQL {manifest.client_version}, or name them in backup.client",
        )
    with ExitStack() as open_files:
        began = time.monotonic()
        files = _download(bucket, manifest, open_files, report)
        read_s = time.monotonic() - began
        began = time.monotonic()
        report(f"restoring {manifest.id} into {dbname} with {environment.backup.restore_jobs} jobs")
        work = _Restore(client, server, dbname, environment.backup.restore_jobs, manifest, deadline)
        choice = work.choice(files[EVERYTHING], rights)
        work.run(files, choice, rights, open_files)
        restore_s = time.monotonic() - began
    report(f"restored {manifest.id} into {dbname}: read in {read_s:.1f} s, restored in {restore_s:.1f} s")
    grants = _missing_roles(manifest, rights)
    findings = choice.findings
    if grants:
        findings += (f"grants were not restored: there is no role {', '.join(grants)} on that server",)
    return Restored(read_s, restore_s, choice.keep_owners and not grants, choice.skipped_extensions, findings)


class _Restore:
    """The calls of pg_restore for one database."""

    def __init__(
        self, client: Client, server: Database, dbname: str, jobs: int, manifest: Manifest, deadline: float
    ) -> None:
        self.client = client
        self.server = server
        self.dbname = dbname
        self.jobs = jobs
        self.manifest = manifest
        self.deadline = deadline

    def choice(self, file: IO[bytes], rights: Rights) -> Choice:
        """What of the dump of everything this role can restore."""
        with self._program(["--list", _path(file)], (file.fileno(),)) as program:
            contents = program.stdout.read().decode(errors="surrogateescape").splitlines()
            self._confirm(program)
        return choose(contents, rights)

    def run(self, files: dict[str, IO[bytes]], choice: Choice, rights: Rights, open_files: ExitStack) -> None:
        """Restore every dump: of several, the schema first, then all rows, then indexes and constraints."""
        listed = open_files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 -- closed by the stack
        listed.write("\n".join(choice.lines).encode(errors="surrogateescape") + b"\n")
        listed.flush()
        everything = files.pop(EVERYTHING)
        if not files:
            self._restore(everything, [], choice, rights, listed)
            return
        self._restore(everything, ["--section=pre-data"], choice, rights, listed)
        self._restore(everything, ["--section=data"], choice, rights, listed)
        for file in files.values():
            self._restore(file, ["--section=data"], choice, rights, None)
        self._restore(everything, ["--section=post-data"], choice, rights, listed)

    def _restore(
        self, file: IO[bytes], selection: list[str], choice: Choice, rights: Rights, listed: IO[bytes] | None
    ) -> None:
        # Tablespaces are directories of a server; another server has others.
        arguments = ["--exit-on-error", f"--jobs={self.jobs}", "--no-subscriptions", "--no-tablespaces", *selection]
        arguments.append(f"--dbname={conninfo_of(self.dbname)}")
        inherited = [file.fileno()]
        if listed:
            arguments.append(f"--use-list={_path(listed)}")
            inherited.append(listed.fileno())
        if not rights.superuser:
            arguments.append("--no-publications")
        if not choice.keep_owners:
            arguments.append("--no-owner")
            if self.manifest.owner in rights.may_become:
                arguments.append(f"--role={self.manifest.owner}")
        if _missing_roles(self.manifest, rights):
            arguments.append("--no-privileges")
        with self._program([*arguments, _path(file)], tuple(inherited)) as program:
            self._confirm(program)

    def _program(self, arguments: list[str], files: tuple[int, ...]) -> Program:
        return Program(
            self.client,
            ["pg_restore", *arguments],
            database=self.server,
            purpose="restore",
            deadline=self.deadline,
            dbname=self.dbname,
            options=OPTIONS,
            files=files,
        )

    def _confirm(self, program: Program) -> None:
        try:
            program.confirm()
        except CommandError as error:
            hint = "the server has too little room for a copy of the database; name another in backup.scratch_server"
            raise BackupError(
                f"{self.manifest.id} could not be restored into {name_of(self.server, self.dbname)}: {error.message}",
                hint=hint if "No space left on device" in error.output else late_hint(error),
                retryable=may_pass(error),
            ) from None


def _ask(server: Database, dbname: str) -> tuple[int, Rights]:
    """Version of the server of restores, and what our role may do there."""
    with connect(server, "restore", dbname=dbname) as connection:
        try:
            row: Any = connection.execute(_RIGHTS, [becoming(connection)]).fetchone()
        except psycopg.Error as error:
            raise explained(error, "cannot ask for privileges") from None
        superuser, become, roles, extensions = row
        return connection.info.server_version, Rights(
            superuser, frozenset(become), frozenset(roles), frozenset(extensions)
        )


def _missing_roles(manifest: Manifest, rights: Rights) -> list[str]:
    return sorted(set(manifest.roles) - rights.roles)


def _download(bucket: Bucket, manifest: Manifest, open_files: ExitStack, report: Report) -> dict[str, IO[bytes]]:
    """Every dump in a file without a name, read back against the SHA-256 of its objects."""
    directory = tempfile.gettempdir()
    needed = sum(stored.bytes for stored in manifest.objects) + SPARE_BYTES
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise BackupError(
            f"{directory} has {free:,} bytes free; {manifest.id} needs {needed:,}",
            hint="make room there, or set TMPDIR to a directory with more",
        )
    volume = Volume(report, "read back")
    files: dict[str, IO[bytes]] = {}
    ends: dict[str, int] = {}
    for stored in manifest.objects:
        if stored.dump not in files:
            files[stored.dump] = open_files.enter_context(tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
        offset = ends.get(stored.dump, 0)
        key = stored.key
        read_back(
            bucket,
            stored,
            file=files[stored.dump].fileno(),
            offset=offset,
            progress=lambda count, key=key: volume.reached(key, count),  # type: ignore[misc]
        )
        ends[stored.dump] = offset + stored.bytes
    return files


def _path(file: IO[bytes]) -> str:
    """A name for a file that has none, for a program that inherits it: each job opens it anew, from its beginning."""
    return f"/dev/fd/{file.fileno()}"
