"""The rehearsal: the pending migrations applied, reversed and applied again on a copy of the restored backup."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime

import psycopg

from tasks.app.command import Checkout
from tasks.app.residence import UNGUARDED, Requested, Residence, Target, resident
from tasks.backup.progress import Report
from tasks.backup.scratch import clone, server_of
from tasks.backup.verify import Copy
from tasks.database.connection import connect, explained
from tasks.database.identity import identify
from tasks.rehearse.passage import Passage
from tasks.rehearse.pooler import poolers
from tasks.rehearse.previous import Answers, Previous, answers, broken_requests, needed
from tasks.rehearse.session import settle
from tasks.rehearse.severed import sever
from tasks.release.environment import Environment
from tasks.release.errors import AppError
from tasks.release.plan import Plan
from tasks.release.rehearsal import Broken, Rehearsal


def rehearse(
    environment: Environment,
    copy: Copy,
    plan: Plan,
    candidate: Checkout,
    previous: Checkout,
    report: Report,
) -> Rehearsal:
    """Apply the pending migrations to a copy of a restored backup, reverse them one by one, and apply them again.

    In between, the previous release's queries are tried, and the schema and the data are compared. The restored
    database itself is only read; the copy is dropped, whatever happens. A migration that cannot be applied is in the
    result with its error. Where the copy is on the server of the live database, the application works as its own role.

    Args:
        environment: Whose.
        copy: The restored backup.
        plan: The pending migrations.
        candidate: The code that migrates.
        previous: The code that serves meanwhile.
        report: Told what is going on.

    Raises:
        AppError: The candidate cannot be asked, or died.
        DatabaseError: The server of restores is lost or refuses.
    """
    began = time.monotonic()
    size = _size(environment, copy.dbname)
    with clone(environment, copy.manifest, copy.dbname, report) as dbname, ExitStack() as residents:
        report(f"copied {copy.dbname} to {dbname} in {time.monotonic() - began:.1f} s")
        target, findings = _prepared(environment, plan, copy, dbname)
        old, trouble, app = _at_work(environment, previous, candidate, target, residents, report)
        findings += trouble + poolers(environment, plan.database, app.hello)
        if app.hello.user != plan.database.user:
            as_whom = f"the migrations were tried as {app.hello.user}, not as {plan.database.user}"
            findings += (f"{as_whom}: what the latter has no privilege for does not show",)
        if not app.hello.early:
            findings += (UNGUARDED,)
        passage = Passage(server_of(environment), copy.dbname, dbname, plan, app, old, report)
        passage.forward()
        passage.reverse()
        # Only where the old code minds a migration, the new one may have to come before it.
        early = app.use(None) if passage.breaks and passage.is_back else None
        passage.again()
        needs = needed(early, app.use(None)) if early is not None and passage.is_whole else None
        asked = Answers({}, {})
        if old and passage.is_whole:
            asked = answers(environment, old.app, environment.smoke.endpoints)
    if asked.unexpected:
        passage.break_last(_broken_requests(environment, copy, plan, previous, asked.unexpected, report))
    return Rehearsal(
        migrations=passage.records(),
        previous_commit=previous.commit,
        restored_bytes=size,
        seconds=time.monotonic() - began,
        needs=needs,
        routes=asked.routes,
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
    copy: Copy,
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
    with clone(environment, copy.manifest, copy.dbname, report) as dbname, ExitStack() as residents:
        target, _ = _prepared(environment, plan, copy, dbname)
        app = residents.enter_context(resident(environment, previous, target, report))
        return broken_requests(answers(environment, app, endpoints).unexpected, suspicious)


def _prepared(environment: Environment, plan: Plan, copy: Copy, dbname: str) -> tuple[Target, tuple[str, ...]]:
    """A copy as the application's sessions are to find it, and what of that could not be done, a sentence each."""
    server = server_of(environment)
    with connect(server, "rehearsal", dbname=dbname) as connection:
        identity = identify(connection)
    live = plan.database.system_identifier
    known = identity.system_identifier is not None and live is not None
    target = Target(
        database=server,
        dbname=dbname,
        oid=identity.oid,
        system_identifier=identity.system_identifier,
        alias=environment.app.database_alias,
        # Without owners and grants, its own role would be refused what it may do in the live database.
        own_role=known and identity.system_identifier == live and copy.owners,
        shared=not known or identity.system_identifier == live,
    )
    findings = sever(environment, dbname)
    return target, findings + settle(environment, plan.database.user, dbname, grants=target.own_role)


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
