"""Applying: the application's own `migrate`, under limits, one at a time, seen migration by migration."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping

import psycopg
from psycopg import sql

from tasks.app.alone import alone_in
from tasks.app.guard import check_identity, serving_at
from tasks.app.probing import plan
from tasks.database.connection import connect
from tasks.database.lock import advisory_lock
from tasks.database.sessions import wait_until_gone
from tasks.migrate.attempt import Clock, Progress
from tasks.migrate.limits import check_limits, limits
from tasks.migrate.run import SESSION, Run
from tasks.release.backup import Backup
from tasks.release.environment import Environment
from tasks.release.errors import MigrationError, RefusedError, VerificationError
from tasks.release.plan import Applied, AppliedMigration, Plan
from tasks.release.release import Release
from tasks.release.rules import proved, refuse_stale
from tasks.store.bucket import Bucket
from tasks.store.download import check_stored


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
        MigrationError: `migrate` failed, or would have kept others waiting; says what stands applied.
    """
    planned, backup = proved(release)
    checkout = serving_at(environment, release.commit)
    name = f"{SESSION}{release.id}"[:63]
    patience_s = environment.migrate.timeout_s
    with (
        advisory_lock(environment.database, "migrate", release.id) as lock,
        alone_in(checkout.directory, patience_s, report) as lone,
    ):
        wait_until_gone(environment.database, SESSION, patience_s, report)
        before = plan(environment, checkout, limits(environment, name))
        check_identity(environment, before.database, backup.source)
        check_limits(environment, before.database)
        if before.database.application_name != name:
            report(
                f"the application names its sessions {before.database.application_name!r} by itself: the guard does not"
                " recognise them, only lock_timeout limits what others wait, and what this run leaves at work on the"
                " server when it is killed is not recognised either; fallback_application_name avoids that"
            )
        already = _already(planned, before)
        if not already:
            # Once the migration began, the backup is the one to go back to, whatever its age.
            refuse_stale(environment, release)
        catalogue = _backed_up(environment, backup)
        for label in already:
            report(f"{label} is applied already")
        began = time.monotonic()
        run = Run(
            environment=environment,
            checkout=checkout,
            name=name,
            budget_s=_budget_s(environment, release),
            lone=lone,
            lock=lock,
            catalogue=catalogue,
            clock=Clock([migration.label for migration in before.pending], progress),
            report=report,
        )
        # Also when nothing is left: what follows the last migration (permissions, content types) may not have happened.
        if before.pending or already:
            run.to_the_end(before.pending)
        seconds = time.monotonic() - began
        after = plan(environment, checkout)
        if after.pending:
            labels = ", ".join(migration.label for migration in after.pending)
            raise MigrationError(f"`migrate` ended well, yet {labels} are still pending", hint="look at its output")
        analyzed = _analyze(environment, planned.tables, report)
    return Applied(
        migrations=tuple(
            AppliedMigration(label=m.label, seconds=run.clock.seconds.get(m.label)) for m in planned.pending
        ),
        already=already,
        seconds=seconds,
        lock_timeout_s=environment.migrate.lock_timeout_s,
        statement_timeout_s=environment.migrate.statement_timeout_s,
        analyzed=analyzed,
        migrations_schema=after.database.migrations_schema,
        before=before.listed,
        after=after.listed,
        attempts=tuple(run.attempts),
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


def _budget_s(environment: Environment, release: Release) -> float | None:
    """The longest that others may wait for the migration, in seconds; None: maintenance mode is on, nobody is there."""
    closed = release.maintenance is not None and release.maintenance.needed and release.reopened is None
    return None if closed else environment.risk.blocking_s


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
