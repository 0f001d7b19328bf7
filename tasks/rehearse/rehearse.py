"""The rehearsal: the pending migrations applied, reversed and applied again on a copy of the restored backup."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime

import psycopg

from tasks.app.command import Checkout
from tasks.app.residence import Requested, Residence, Target, resident
from tasks.backup.progress import Report
from tasks.backup.scratch import clone, server_of
from tasks.database.connection import connect, explained
from tasks.database.identity import identify
from tasks.rehearse.passage import Passage
from tasks.rehearse.pooler import poolers
from tasks.rehearse.previous import Previous, broken_requests, unexpected
from tasks.rehearse.session import settle
from tasks.release.backup import Manifest
from tasks.release.environment import Environment
from tasks.release.errors import AppError
from tasks.release.plan import Plan
from tasks.release.rehearsal import Broken, Rehearsal


def rehearse(
    environment: Environment,
    manifest: Manifest,
    restored: str,
    plan: Plan,
    candidate: Checkout,
    previous: Checkout,
    report: Report,
) -> Rehearsal:
    """Apply the pending migrations to a copy of a restored backup, reverse them one by one, and apply them again.

    In between, the previous release's queries are tried, and the schema and the data are compared. The restored
    database itself is only read; the copy is dropped, whatever happens. A migration that cannot be applied is in the
    result with its error.

    Args:
        environment: Whose.
        manifest: Of the backup.
        restored: The database that it was restored into.
        plan: The pending migrations.
        candidate: The code that migrates.
        previous: The code that serves meanwhile.
        report: Told what is going on.

    Raises:
        AppError: The candidate cannot be asked, or died.
        DatabaseError: The server of restores is lost or refuses.
    """
    began = time.monotonic()
    size = _size(environment, restored)
    with clone(environment, manifest, restored, report) as dbname, ExitStack() as residents:
        report(f"copied {restored} to {dbname} in {time.monotonic() - began:.1f} s")
        findings = settle(environment, plan.database.user, dbname)
        target = _target(environment, dbname)
        old, trouble, app = _at_work(environment, previous, candidate, target, residents, report)
        findings += trouble + poolers(environment, plan.database, app.hello)
        passage = Passage(server_of(environment), restored, dbname, plan, app, old, report)
        passage.forward()
        passage.reverse()
        passage.again()
        suspicious = unexpected(environment, old.app, environment.smoke.endpoints) if old and passage.is_whole else {}
    if suspicious:
        passage.break_last(_broken_requests(environment, manifest, restored, plan, previous, suspicious, report))
    return Rehearsal(
        migrations=passage.records(),
        previous_commit=previous.commit,
        restored_bytes=size,
        seconds=time.monotonic() - began,
        findings=findings + tuple(passage.findings),
        rehearsed_at=datetime.now(UTC),
    )


def _at_work(
    environment: Environment,
    previous: Checkout,
    candidate: Checkout,
    target: Target,
    residents: ExitStack,
    report: Report,
) -> tuple[Previous | None, tuple[str, ...], Residence]:
    """Both releases at work on the copy; for the previous one None, and why, where it cannot be."""

    def start(checkout: Checkout) -> Residence | AppError:
        try:
            return residents.enter_context(resident(environment, checkout, target, report))
        except AppError as error:
            return error

    # An application takes seconds to start, a large one a minute.
    with ThreadPoolExecutor(2, thread_name_prefix="resident") as pool:
        old, app = pool.map(start, (previous, candidate))
    if isinstance(app, AppError):
        raise app
    try:
        if isinstance(old, AppError):
            raise old
        return Previous(old), (), app
    except AppError as error:
        return None, (f"the previous release could not be tried on the migrated copy: {error.message}",), app


def _broken_requests(
    environment: Environment,
    manifest: Manifest,
    restored: str,
    plan: Plan,
    previous: Checkout,
    suspicious: dict[str, Requested],
    report: Report,
) -> tuple[Broken, ...]:
    """Of requests that went wrong on the migrated copy, those that do not on a copy that is not migrated.

    They are not asked before the migrations, since what a request writes would count as lost.
    """
    endpoints = [
        endpoint for endpoint in environment.smoke.endpoints if f"{endpoint.method} {endpoint.path}" in suspicious
    ]
    with clone(environment, manifest, restored, report) as dbname, ExitStack() as residents:
        settle(environment, plan.database.user, dbname)
        app = residents.enter_context(resident(environment, previous, _target(environment, dbname), report))
        return broken_requests(unexpected(environment, app, endpoints), suspicious)


def _target(environment: Environment, dbname: str) -> Target:
    server = server_of(environment)
    with connect(server, "rehearsal", dbname=dbname) as connection:
        identity = identify(connection)
    return Target(server, dbname, identity.oid, identity.system_identifier, environment.app.database_alias)


def _size(environment: Environment, dbname: str) -> int:
    server = server_of(environment)
    with connect(server, "rehearsal", dbname=server.maintenance_database) as connection:
        try:
            row = connection.execute(
                "select pg_database_size(oid) from pg_database where datname = %s", [dbname]
            ).fetchone()
        except psycopg.Error as error:
            raise explained(error, "cannot ask for the size of the copy") from None
    return int(row[0]) if row else 0
