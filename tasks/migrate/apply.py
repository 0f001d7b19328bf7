"""Applying: the application's own `migrate`, under limits, one at a time, seen migration by migration."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Mapping

import psycopg
from psycopg import sql

from tasks.app.alone import alone_in
from tasks.app.command import Checkout, manage
from tasks.app.guard import check_identity, serving_at
from tasks.app.probing import plan
from tasks.database.connection import connect
from tasks.database.lock import advisory_lock
from tasks.database.sessions import wait_until_gone
from tasks.migrate.debris import drop_debris
from tasks.migrate.limits import check_limits, limits
from tasks.release.backup import Backup
from tasks.release.environment import Environment
from tasks.release.errors import CommandError, MigrationError, RefusedError, RunbookError, VerificationError
from tasks.release.plan import Applied, AppliedMigration, Migration, Plan
from tasks.release.release import Release
from tasks.release.rules import proved, refuse_stale
from tasks.store.bucket import Bucket
from tasks.store.download import check_stored

SESSION = "runbook: migrate "  # begins the application_name of every migrating session
APPLYING = re.compile(r"^\s*Applying ([\w.]+)\.\.\.")
# What PostgreSQL says when a lock was not had in time, two transactions met in a deadlock, or the connection was lost:
# nothing of an atomic migration is left behind, and the next try may succeed.
PASSING = re.compile(
    r"due to lock timeout|deadlock detected|server closed the connection|terminating connection|"
    r"could not connect|connection refused|the database system is (starting up|shutting down)|"
    r"errors\.(LockNotAvailable|DeadlockDetected|AdminShutdown|CannotConnectNow)\b",  # a server may speak German
    re.IGNORECASE,
)

Progress = Callable[[int, int, str], None]
"""Is called with how many migrations are done, how many there are, and what happens now."""


def apply(environment: Environment, release: Release, progress: Progress, report: Callable[[str], None]) -> Applied:
    """Apply the planned migrations of a release with the code that is checked out.

    Safe to repeat: it waits for what a killed attempt left at work on the server, then goes on where that one ended.

    Raises:
        RefusedError: No proved backup, another set of migrations than planned, or limits that do not reach the session.
        CodeError: Other code is checked out.
        StaleBackupError: The backup is too old to begin on.
        VerificationError: The backup is no longer there as it was proved.
        WrongDatabaseError: The application reaches another database than the one backed up.
        ReleaseInProgressError: Another migration is under way.
        MigrationError: `migrate` failed; says what stands applied.
    """
    planned, backup = proved(release)
    checkout = serving_at(environment, release.commit)
    name = f"{SESSION}{release.id}"[:63]
    variables = limits(environment, name)
    patience_s = environment.migrate.timeout_s
    with (
        advisory_lock(environment.database, "migrate", release.id) as lock,
        alone_in(checkout.directory, patience_s, report) as lone,
    ):
        wait_until_gone(environment.database, SESSION, patience_s, report)
        before = plan(environment, checkout, variables)
        check_identity(environment, before.database, backup.source)
        check_limits(environment, before.database)
        if before.database.application_name != name:
            report(
                f"the application names its sessions {before.database.application_name!r} by itself: if this run is"
                " killed, what it leaves at work on the server is not recognised; fallback_application_name avoids that"
            )
        already = _already(planned, before)
        if not already:
            # Once the migration began, the backup is the one to go back to, whatever its age.
            refuse_stale(environment, release)
        catalogue = _backed_up(environment, backup)
        for label in already:
            report(f"{label} is applied already")
        lock.check()
        drop_debris(environment.database, before.pending, catalogue, report)
        began = time.monotonic()
        # Also when nothing is left: what follows the last migration (permissions, content types) may not have happened.
        begun = bool(before.pending or already)
        timings = _migrate(environment, checkout, before.pending, variables, progress, lone) if begun else {}
        seconds = time.monotonic() - began
        after = plan(environment, checkout)
        if after.pending:
            labels = ", ".join(migration.label for migration in after.pending)
            raise MigrationError(f"`migrate` ended well, yet {labels} are still pending", hint="look at its output")
        analyzed = _analyze(environment, planned.tables, report)
    return Applied(
        migrations=tuple(AppliedMigration(label=m.label, seconds=timings.get(m.label)) for m in planned.pending),
        already=already,
        seconds=seconds,
        lock_timeout_s=environment.migrate.lock_timeout_s,
        statement_timeout_s=environment.migrate.statement_timeout_s,
        analyzed=analyzed,
        migrations_schema=after.database.migrations_schema,
        before=before.listed,
        after=after.listed,
    )


def _already(planned: Plan, now: Plan) -> tuple[str, ...]:
    """Which planned migrations are applied; refuse when others are pending than were planned and backed up for."""
    pending = {migration.label for migration in now.pending}
    unplanned = pending - {migration.label for migration in planned.pending}
    if unplanned:
        raise RefusedError(
            f"{', '.join(sorted(unplanned))} would be applied but was not planned",
            hint="the database changed since the plan was made; `--release-id new` starts a new release",
        )
    return tuple(migration.label for migration in planned.pending if migration.label not in pending)


def _backed_up(environment: Environment, backup: Backup) -> Mapping[str, str]:
    """The catalogue of a backup that is still whole: a rule of the bucket or a person may have removed some of it.

    Raises:
        VerificationError: The manifest or an object is missing or another one; names it.
    """
    bucket = Bucket(environment.storage)
    manifest = bucket.read(backup.manifest_key)
    if manifest is None or hashlib.sha256(manifest.body).hexdigest() != backup.manifest_sha256:
        raise VerificationError(
            f"the manifest {backup.manifest_key} is gone or was changed since the backup was proved",
            subject=backup.manifest_key,
            hint="`--release-id new` starts a new release with a new backup; find out what removes objects there",
        )
    for stored in backup.objects:
        check_stored(bucket, stored)
    catalogue: dict[str, str] = json.loads(manifest.body)["catalogue"]
    return catalogue


def _migrate(
    environment: Environment,
    checkout: Checkout,
    pending: tuple[Migration, ...],
    variables: dict[str, str],
    progress: Progress,
    lone: int,
) -> dict[str, float]:
    """Run `migrate`; seconds per migration."""
    clock = _Clock([migration.label for migration in pending], progress)
    try:
        manage(
            environment,
            checkout,
            ["migrate", "--no-input", "--no-color", f"--database={environment.app.database_alias}"],
            variables=variables,
            timeout_s=environment.migrate.timeout_s,
            line=clock.line,
            begun=clock.begun,
            inherits=(lone,),
        )
    except CommandError as error:
        raise _explained(environment, checkout, pending, error) from None
    return clock.seconds


class _Clock:
    """Times each migration by the lines of `migrate`: "Applying x..." begins it, "Applying x... OK" ends it."""

    def __init__(self, labels: list[str], progress: Progress) -> None:
        self.labels = labels
        self.progress = progress
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def begun(self, text: str) -> None:
        label = self._label(text)
        if label and label not in self.began:
            self.began[label] = time.monotonic()
            self.progress(len(self.seconds), len(self.labels), f"{label} is being applied")

    def line(self, text: str) -> None:
        label = self._label(text)
        if label and "OK" in text:
            now = time.monotonic()
            self.seconds[label] = now - self.began.get(label, now)
            self.progress(len(self.seconds), len(self.labels), f"{label} is applied")

    def _label(self, text: str) -> str | None:
        found = APPLYING.match(text)
        return found[1] if found and found[1] in self.labels else None


def _explained(
    environment: Environment, checkout: Checkout, pending: tuple[Migration, ...], error: CommandError
) -> MigrationError:
    """Why `migrate` failed, looked up in the database rather than taken from its output."""
    passing = bool(PASSING.search(_last_words(error.output)))  # what came before may be about anything
    try:
        left = {migration.label for migration in plan(environment, checkout).pending}
    except RunbookError as second:
        # Where the world cannot be looked at, the next attempt looks; it may follow only if none can be half applied.
        return MigrationError(
            f"`migrate` failed:\n{_last_words(error.output)}\nand what stands applied could not be found out: {second}",
            hint="run the release again: it looks at the database before it goes on",
            retryable=passing and all(migration.atomic for migration in pending),
        )
    applied = tuple(migration.label for migration in pending if migration.label not in left)
    failed = next((migration for migration in pending if migration.label in left), None)
    # A migration that is not atomic may have committed one half: it is looked at by a person before it is run again.
    retryable = passing and failed is not None and failed.atomic
    stands = f"applied before it failed: {', '.join(applied)}" if applied else "nothing of it was applied"
    hint = "mend the migration, then deploy the mended ref"
    if failed and not failed.atomic:
        hint = f"{failed.label} is not atomic and may have left one half behind: look at its tables and indexes first"
    elif passing:
        hint = "a lock was not had in time, or the connection was lost; run the release again at a quieter moment"
    return MigrationError(
        f"`migrate` failed{f' at {failed.label}' if failed else ''} ({stands}):\n{_last_words(error.output)}",
        applied=applied,
        failed=failed.label if failed else None,
        hint=hint,
        retryable=retryable,
    )


def _last_words(output: str) -> str:
    """The exception at the end of what a program printed, without the traceback above it."""
    lines = output.rstrip().splitlines()
    begin = next((number for number in range(len(lines), 0, -1) if lines[number - 1].startswith(" ")), 0)
    return "\n".join(lines[begin:] or lines[-1:])[-2000:]


def _analyze(environment: Environment, tables: frozenset[str], report: Callable[[str], None]) -> tuple[str, ...]:
    """Refresh the planner's statistics of the migrated tables; a table that is gone is left out."""
    done = []
    warnings: list[str] = []  # a role that may not analyze a table is told so, and the statement succeeds
    with connect(environment.database, "analyze", statement_timeout_s=600, autocommit=True) as connection:
        connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
        for table in sorted(tables):
            warnings.clear()
            try:
                if connection.execute("SELECT to_regclass(quote_ident(%s))", [table]).fetchone() == (None,):
                    continue
                connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))
            except psycopg.Error as error:
                warnings.append(str(error))
            if warnings:
                # The migration stands; plans may be poor until autovacuum comes by, which a person should know.
                report(f"ANALYZE of {table} failed: {'; '.join(warnings)}")
            else:
                done.append(table)
    return tuple(done)
