"""Releases of the example application, ready to be rehearsed: planned and backed up at the version that serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from tasks.app.candidate import prepare
from tasks.app.probing import plan
from tasks.backup.create import create
from tasks.database.catalogue import catalogue_of
from tasks.rehearse.prove import prove_and_rehearse
from tasks.release.rehearsal import MigrationRehearsal, Rehearsal
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tests.builders import release
from tests.fix_app import Site

Ready = Callable[..., Release]
Rehearse = Callable[..., Rehearsal]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def ready(staging_site: Site, told: list[str]) -> Ready:
    """Put the site at a version and make the record of a release of another one: planned and backed up."""

    def made(ref: str, at: str = "v1.1", **changes: Any) -> Release:
        site, report = staging_site, told.append
        previous = site.check_out(at)
        if at != "v1.0":
            site.manage("migrate", "--no-input")
        environment, commit = site.environment, site.commit_of(ref)
        release_id = f"{ref.lower()}-{commit[:6]}"
        record = release(
            id=release_id,
            ref=ref,
            commit=commit,
            previous_commit=previous,
            checked_out=previous,
            plan=plan(environment, prepare(environment, commit, report)),
            backup=create(environment, Bucket(environment.storage), release_id, report),
        )
        return site.ledger.create(record.model_copy(update=changes))

    return made


@pytest.fixture
def rehearsed(staging_site: Site, ready: Ready, told: list[str]) -> Rehearse:
    """Rehearse a release, and see that the live database is what it was and that nothing is left."""

    def made(ref: str, at: str = "v1.1") -> Rehearsal:
        record = ready(ref, at)
        before = live(staging_site)
        result = prove_and_rehearse(staging_site.environment, record.id, told.append)
        assert live(staging_site) == before
        assert leftovers(staging_site) == set()
        stored = staging_site.ledger.load(record.id)
        assert stored.rehearsal == result
        assert stored.verification is not None
        return result

    return made


def only(rehearsal: Rehearsal) -> MigrationRehearsal:
    """The one migration of a rehearsal."""
    [migration] = rehearsal.migrations
    return migration


def leftovers(site: Site) -> set[str]:
    """Scratch databases, and sessions in them."""
    rows = site.psql("select datname from pg_database where datname like 'rb\\_scratch%'")
    return {name for (name,) in rows}


def live(site: Site) -> tuple[Any, ...]:
    """What the site's database is: its schema, its rows, and where its sequences stand."""
    with psycopg.connect(site.server.dsn(site.database)) as connection:
        tables = connection.execute(
            "select c.oid::regclass::text from pg_class c where relkind = 'r' and relnamespace = 'public'::regnamespace"
            " order by 1"
        ).fetchall()
        rows = [
            connection.execute(
                f"select '{name}', count(*), sum(hash_record_extended(t, 0)) from {name} t".encode()
            ).fetchone()
            for (name,) in tables
        ]
        sequences = connection.execute("select sequencename, last_value from pg_sequences order by 1").fetchall()
        return catalogue_of(connection), rows, sequences
