"""What was backed up comes back, whatever it is and whatever goes on meanwhile."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
import pytest

from tasks.backup.create import create
from tasks.backup.manifest import encode, key_of, load, place_of, summarise
from tasks.backup.restore import restore
from tasks.backup.scratch import scratch
from tasks.backup.verify import compare, verify
from tasks.release.errors import VerificationError
from tests.tasks.backup.conftest import Place

QUIET: list[str] = []


@pytest.mark.parametrize("groups", [1, 3])
def test_everything_comes_back(full: Place, groups: int) -> None:
    environment = full.environment(table_groups=groups)
    before = full.databases()
    told: list[str] = []

    backup = create(environment, full.bucket, "r-2026.1", told.append)
    verification = verify(environment, full.bucket, backup, "restored", told.append)

    assert len(backup.objects) == groups
    assert (verification.tables, verification.rows) == (backup.tables, backup.rows)
    assert backup.tables == 12
    assert backup.rows == 1000 + 41 + 400 + 21 + 1 + 2 + 1 + 1 + 1 + 1
    assert full.databases() == before
    assert full.unfinished() == []
    assert any("materialized view" in finding and "counted" in finding for finding in backup.findings)
    assert verification.findings == ()


@pytest.mark.parametrize("groups", [1, 3])
def test_postgresql_15_with_a_client_it_understands(full15: Place, groups: int) -> None:
    environment = full15.environment(table_groups=groups)
    backup = create(environment, full15.bucket, "r1", QUIET.append)
    manifest = load(full15.bucket, "r1")
    assert manifest is not None
    assert manifest.client_version.startswith("15.")
    assert verify(environment, full15.bucket, backup, "restored", QUIET.append).tables == 12


def test_writers_do_not_disturb(small: Place) -> None:
    with small.connect() as connection:
        connection.execute("create table hit (id bigserial, at timestamptz default now())")
        connection.execute("insert into item select g, repeat('y', 400) from generate_series(1, 20000) g")
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with small.connect() as connection:
            while not stop.is_set():
                connection.execute("insert into hit default values")
                connection.execute("update item set name = name || '!' where id = 7")
                connection.execute("delete from item where id = (select min(id) from item)")
                written += 1

    writer = threading.Thread(target=write)
    writer.start()
    environment = small.environment(table_groups=2)
    try:
        backup = create(environment, small.bucket, "r1", QUIET.append)
    finally:
        stop.set()
        writer.join()
    assert written > 0
    verify(environment, small.bucket, backup, "restored", QUIET.append)


def test_the_same_id_is_the_same_backup(small: Place) -> None:
    environment = small.environment()
    first = create(environment, small.bucket, "r1", QUIET.append)
    told: list[str] = []
    assert create(environment, small.bucket, "r1", told.append) == first
    assert told == ["backup r1 exists already"]
    assert load(small.bucket, "r2") is None


def test_leftovers_of_a_backup_that_died_are_replaced(small: Place) -> None:
    environment = small.environment()
    client, name = small.bucket.client, small.bucket.name
    key = place_of(environment.storage, "r1") + "database.dump"
    client.put_object(Bucket=name, Key=key, Body=b"half of it")
    client.create_multipart_upload(Bucket=name, Key=key)
    other = place_of(environment.storage, "r10") + "database.dump"
    client.put_object(Bucket=name, Key=other, Body=b"of another backup")

    backup = create(environment, small.bucket, "r1", QUIET.append)

    verify(environment, small.bucket, backup, "restored", QUIET.append)
    assert small.unfinished() == []
    assert other in small.stored()


@pytest.mark.parametrize("versioning", [False, True])
def test_a_bucket_from_which_nothing_may_be_removed(small: Place, versioning: bool) -> None:
    environment = small.environment()
    client, name = small.bucket.client, small.bucket.name
    if versioning:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    leftover = place_of(environment.storage, "r1") + "database.dump"
    client.put_object(Bucket=name, Key=leftover, Body=b"half of it")
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{name}/*"}
    client.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    told: list[str] = []
    try:
        backup = create(environment, small.bucket, "r1", told.append)
        verify(environment, small.bucket, backup, "restored", QUIET.append)
    finally:
        client.delete_bucket_policy(Bucket=name)

    assert any("1 objects of a backup that failed are retained" in sentence for sentence in told)
    assert leftover in small.stored()
    assert leftover not in [stored.key for stored in backup.objects]


def test_what_differs_is_named(full: Place) -> None:
    environment = full.environment()
    create(environment, full.bucket, "r1", QUIET.append)
    manifest = load(full.bucket, "r1")
    assert manifest is not None
    plain = next(table for table in manifest.tables if table.name == "plain")
    sequence = next(sequence for sequence in manifest.sequences if sequence.name == "counter")
    wrong: dict[str, dict[str, Any]] = {
        "public.plain": {
            "tables": tuple({*manifest.tables} - {plain} | {plain.model_copy(update={"fingerprint": "1"})})
        },
        "public.gone": {"tables": (*manifest.tables, plain.model_copy(update={"name": "gone"}))},
        "public.counter": {
            "sequences": tuple(
                {*manifest.sequences} - {sequence} | {sequence.model_copy(update={"last_value": 6, "later_value": 6})}
            )
        },
        "index public.lost is missing": {"catalogue": manifest.catalogue | {"index public.lost": ""}},
        "view public.seen is different": {"catalogue": manifest.catalogue | {"view public.seen": "other"}},
        "large objects": {"large_objects": 3},
        "hstore": {"extensions": manifest.extensions | {"hstore": "1.8"}},
    }
    with scratch(environment, manifest, QUIET.append) as dbname:
        restored = restore(environment, full.bucket, manifest, dbname, QUIET.append)
        compare(environment, manifest, dbname, restored, QUIET.append)
        for subject, change in wrong.items():
            # A manifest that tells something else of the same dump: as if the restore had come out differently.
            changed = manifest.model_copy(update=change)
            with pytest.raises(VerificationError) as caught:
                compare(environment, changed, dbname, restored, QUIET.append)
            assert caught.value.subject == subject
            assert subject.split(" ")[-1].split(".")[-1] in str(caught.value)


def test_a_restore_that_differs_is_no_backup(small: Place) -> None:
    environment = small.environment()
    create(environment, small.bucket, "r1", QUIET.append)
    manifest = load(small.bucket, "r1")
    assert manifest is not None
    other = manifest.model_copy(update={"id": "r2", "large_objects": 3})
    small.bucket.write(key_of(environment.storage, "r2"), encode(other))
    with pytest.raises(VerificationError, match="0 large objects instead of 3"):
        verify(
            environment, small.bucket, summarise(other, encode(other), environment.storage), "restored", QUIET.append
        )


def test_an_extension_that_only_a_superuser_can_create(small: Place) -> None:
    small.execute("create extension pg_stat_statements")
    environment = small.environment()
    backup = create(environment, small.bucket, "r1", QUIET.append)
    verification = verify(environment, small.bucket, backup, "restored", QUIET.append)
    assert any("pg_stat_statements" in finding for finding in verification.findings)


def test_objects_of_a_role_that_the_runbook_cannot_become(small: Place) -> None:
    small.server.create_role("stranger")
    small.execute(
        "create table alien (id int)",
        "alter table alien owner to stranger",
        "insert into alien values (1)",
        "alter schema public owner to stranger",
        "create function noticed() returns event_trigger language plpgsql as 'begin end'",
        "create event trigger noticed on ddl_command_end execute function noticed()",
        "alter event trigger noticed disable",
    )
    environment = small.environment()
    backup = create(environment, small.bucket, "r1", QUIET.append)
    verification = verify(environment, small.bucket, backup, "restored", QUIET.append)
    assert verification.tables == 2
    assert any("stranger" in finding for finding in verification.findings)
    assert any("event trigger" in finding for finding in verification.findings)


def test_rows_of_an_extension_that_are_the_users(small: Place) -> None:
    """A configuration table of an extension: its rows are dumped where the extension says so."""
    small.execute("create extension lo", "create extension earthdistance cascade")
    environment = small.environment()
    backup = create(environment, small.bucket, "r1", QUIET.append)
    verify(environment, small.bucket, backup, "restored", QUIET.append)


def test_settings_that_no_dump_holds_are_in_the_manifest(small: Place) -> None:
    with psycopg.connect(small.server.dsn(), autocommit=True) as connection:
        for statement in (
            'alter database {} set search_path to public, "$user"',
            "alter role shop in database {} set statement_timeout to '7s'",
            "comment on database {} is 'the shop''s'",
            "grant connect on database {} to shop",
        ):
            connection.execute(psycopg.sql.SQL(statement).format(psycopg.sql.Identifier(small.dbname)))
    create(small.environment(), small.bucket, "r1", QUIET.append)
    manifest = load(small.bucket, "r1")
    assert manifest is not None
    # Each is SQL that the server accepts as it stands.
    small.server.execute(*[psycopg.sql.SQL(statement).format() for statement in manifest.settings])
    told = "\n".join(manifest.settings)
    for words in ('SET search_path TO public, "$user"', "statement_timeout TO '7s'", "the shop''s", "GRANT CONNECT"):
        assert words in told
