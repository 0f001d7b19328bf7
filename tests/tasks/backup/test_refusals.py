"""What is refused before anything is dumped, and by what name it is called."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from tasks.backup.create import create
from tasks.backup.manifest import load
from tasks.backup.preview import look
from tasks.backup.restore import restore
from tasks.backup.scratch import scratch
from tasks.backup.storage import check_bucket
from tasks.backup.verify import verify
from tasks.release.environment import Environment, parse
from tasks.release.errors import BackupError, DatabaseError, RunbookError, StoreError
from tasks.store.bucket import Bucket
from tests.tasks.backup.conftest import Place

QUIET: list[str] = []


def refused(place: Place, environment: Environment, *words: str) -> RunbookError:
    """Both the backup and its preview refuse, in the same words, and leave nothing."""
    with pytest.raises(RunbookError) as seen:
        look(environment, place.bucket)
    with pytest.raises(RunbookError) as caught:
        create(environment, place.bucket, "r1", QUIET.append)
    assert str(seen.value) == str(caught.value)
    for word in words:
        assert word in str(caught.value)
    assert place.server.password not in str(caught.value)
    assert place.stored() == place.unfinished() == []
    return caught.value


def test_a_table_that_may_not_be_read(small: Place) -> None:
    small.server.create_role("reader")
    small.execute(
        "grant select on all tables in schema public to reader",
        "create table secret (id int)",
        "create sequence hidden",
        "create schema closed",
        "create table closed.door (id int)",
        "grant select on closed.door to reader",
        "select lo_from_bytea(4711, 'x')",
    )
    error = refused(small, small.as_user("reader"), "secret", "hidden", "closed.door", "large object 4711", "GRANT")
    assert isinstance(error, BackupError)
    assert "item" not in error.message
    assert not error.retryable


def test_row_level_security_that_hides_rows(small: Place) -> None:
    small.execute(
        "create table tenant (id int)",
        "alter table tenant enable row level security",
        "create policy mine on tenant using (id = 1)",
    )
    error = refused(small, small.environment(), "row-level security", "tenant", "BYPASSRLS")
    assert isinstance(error, BackupError)
    # Its owner is not subject to it.
    small.execute("alter table tenant owner to shop")
    create(small.environment(), small.bucket, "r1", QUIET.append)


def test_a_wrong_password(small: Place) -> None:
    database = small.content["database"] | {"password": SecretStr("not-the-password")}
    environment = parse(small.content | {"database": database}, Path("/somewhere/shop.toml"))
    error = refused(small, environment, "password authentication failed", "user, password")
    assert isinstance(error, DatabaseError)
    assert "not-the-password" not in str(error)
    assert not error.retryable


def test_wrong_credentials_of_the_bucket(small: Place) -> None:
    storage = small.content["storage"] | {"secret_key": SecretStr("wrong")}
    environment = parse(small.content | {"storage": storage}, Path("/somewhere/shop.toml"))
    with pytest.raises(StoreError) as caught:
        create(environment, Bucket(environment.storage), "r1", QUIET.append)
    assert "shop/backups/r1/manifest.json" in str(caught.value)
    assert not caught.value.retryable
    assert small.stored() == []


def test_a_bucket_that_is_not_there(small: Place) -> None:
    storage = small.content["storage"] | {"bucket": "no-such-bucket"}
    environment = parse(small.content | {"storage": storage}, Path("/somewhere/shop.toml"))
    with pytest.raises(StoreError, match="no-such-bucket"):
        check_bucket(Bucket(environment.storage))


def test_a_client_older_than_the_server(small: Place) -> None:
    directory = Path("/usr/lib/postgresql/15/bin")
    if not directory.exists():
        pytest.skip("needs the package postgresql-15")
    environment = small.environment(client=str(directory))
    refused(small, environment, "no pg_dump fits", "PostgreSQL 17", str(directory))


def test_a_server_of_restores_that_is_older(full15: Place, small: Place) -> None:
    environment = small.environment(scratch_server=full15.content["database"])
    refused(small, environment, "PostgreSQL 17 cannot be restored on PostgreSQL 15", "scratch_server")


def test_a_newer_server_of_restores(full15: Place, small: Place) -> None:
    """The dump is one that the source understands too, since that is where a rollback restores it."""
    environment = full15.environment(scratch_server=small.content["database"])
    backup = create(environment, full15.bucket, "r1", QUIET.append)
    manifest = load(full15.bucket, "r1")
    assert manifest is not None
    assert manifest.client_version.startswith("15.")
    before = small.databases()
    assert verify(environment, full15.bucket, backup, "restored", QUIET.append).rows == backup.rows
    assert small.databases() == before


def test_a_tablespace_that_the_server_of_restores_has_not(full15: Place, small: Place) -> None:
    space = sql.Identifier(f"of_{full15.dbname}")
    with psycopg.connect(full15.server.dsn(full15.dbname), autocommit=True) as connection:
        connection.execute("set allow_in_place_tablespaces = on")
        connection.execute(sql.SQL("create tablespace {} location ''").format(space))
        connection.execute(sql.SQL("alter table plain set tablespace {}").format(space))
    environment = full15.environment(scratch_server=small.content["database"])
    backup = create(environment, full15.bucket, "r1", QUIET.append)
    assert any(finding.startswith("tablespace: ") for finding in backup.findings)
    verify(environment, full15.bucket, backup, "restored", QUIET.append)


def test_no_room_for_the_download(small: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = small.environment()
    create(environment, small.bucket, "r1", QUIET.append)
    manifest = load(small.bucket, "r1")
    assert manifest is not None
    large = manifest.objects[0].model_copy(update={"bytes": 10**18})
    manifest = manifest.model_copy(update={"objects": (large,)})
    with (
        scratch(environment, manifest, QUIET.append) as dbname,
        pytest.raises(BackupError, match="bytes free; r1 needs 1,000,000,0"),
    ):
        restore(environment, small.bucket, manifest, dbname, QUIET.append)


@pytest.mark.parametrize("backup_id", ["", "../r1", "a/b", "-r", "r 1"])
def test_what_is_no_id(small: Place, backup_id: str) -> None:
    with pytest.raises(BackupError, match="is no backup id"):
        create(small.environment(), small.bucket, backup_id, QUIET.append)


def test_what_is_amiss_with_a_bucket(small: Place) -> None:
    client, name = small.bucket.client, small.bucket.name
    assert any("versioning is off" in finding for finding in check_bucket(small.bucket))
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    assert not any("versioning" in finding for finding in check_bucket(small.bucket))
    environment = small.environment()
    backup = create(environment, small.bucket, "r1", QUIET.append)
    assert backup.objects[0].version_id
    verify(environment, small.bucket, backup, "restored", QUIET.append)
    would, findings = look(environment, small.bucket)
    assert "dump 1 tables" in would
    assert findings
