"""Migrating: the application's own `migrate` on a real database, under limits, alone, and only what was planned."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tasks.app.alone import alone_in
from tasks.database.lock import advisory_lock
from tasks.database.sessions import wait_until_gone
from tasks.migrate.apply import apply
from tasks.migrate.limits import limits
from tasks.release.backup import BackupObject
from tasks.release.errors import (
    CodeError,
    DatabaseError,
    MigrationError,
    RefusedError,
    ReleaseInProgressError,
    StaleBackupError,
    VerificationError,
    WrongDatabaseError,
)
from tasks.release.plan import Applied
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tests.builders import backup, identity, release, verification
from tests.fix_app import Site
from tests.tasks.migrate.conftest import Ready
from tests.tasks.migrate.manifest import stored_manifest

V1_1 = {"documents.0002_document_category", "documents.0003_category_index"}


def carried_out(site: Site, wanted: Release, told: list[str], **migrate: float) -> Applied:
    environment = site.configure(migrate=migrate) if migrate else site.environment
    return apply(environment, wanted, lambda done, of, what: told.append(f"{done}/{of} {what}"), told.append)


@contextmanager
def transaction(site: Site, query: str, *, name: str = "somebody") -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """A session of the application that holds what its query locks."""
    with psycopg.connect(site.server.dsn(site.database, "chatbot"), application_name=name) as connection:
        connection.execute(query.encode())
        yield connection


def test_a_release_is_migrated_and_not_twice(staging_site: Site, ready: Ready, told: list[str]) -> None:
    before, wanted = staging_site.applied(), ready()
    made = carried_out(staging_site, wanted, told)
    assert staging_site.applied() - before == V1_1
    assert {migration.label for migration in made.migrations} == V1_1
    assert all(migration.seconds and 0 < migration.seconds < made.seconds for migration in made.migrations)
    assert made.analyzed == ("documents_document",)
    assert made.already == ()
    assert (made.lock_timeout_s, made.statement_timeout_s) == (0.5, 900)
    assert [one.applied for one in made.before].count(False) == 2
    assert all(one.applied for one in made.after)
    assert told[-1] == "2/2 documents.0003_category_index is applied"

    # The attempt died before it could say so, and before Django made the permissions that follow a migration.
    staging_site.psql("DELETE FROM auth_permission")
    old = wanted.backup.model_copy(update={"started_at": datetime.now(UTC) - timedelta(days=2)})  # type: ignore[union-attr]
    again = carried_out(staging_site, wanted.model_copy(update={"backup": old}), told)
    assert set(again.already) == V1_1
    assert {migration.seconds for migration in again.migrations} == {None}
    assert "documents.0002_document_category is applied already" in told
    assert staging_site.psql("SELECT count(*) FROM auth_permission WHERE codename = 'add_document'") == [(1,)]


def test_limits_reach_every_statement_and_name_the_session(staging_site: Site, ready: Ready, told: list[str]) -> None:
    staging_site.publish(
        {
            "apps/documents/migrations/0004_look.py": "from django.db import migrations\n"
            "class Migration(migrations.Migration):\n"
            "    dependencies = [('documents', '0003_category_index')]\n"
            "    operations = [migrations.RunSQL(\"CREATE TABLE seen AS SELECT current_setting('lock_timeout'),"
            " current_setting('statement_timeout') AS s, current_setting('application_name') AS a\")]\n"
        },
        on="v1.1",
        tag="v2",
    )
    wanted = ready("v2")
    staging_site.server.create_role("onlooker")
    staging_site.server.execute("GRANT pg_read_all_data, pg_monitor TO onlooker")
    staging_site.configure(database={"user": "onlooker"})
    made = carried_out(staging_site, wanted, told, lock_timeout_s=1.5, statement_timeout_s=60)
    [seen] = staging_site.psql("SELECT * FROM seen")
    assert seen == ("1500ms", "1min", "runbook: migrate 20261122-030000-v1.1-3f2a1b")
    # A role that may not analyze does not say that it did.
    assert made.analyzed == ()
    assert any("ANALYZE of documents_document failed: permission denied" in line for line in told)


@pytest.mark.parametrize("missing", ["plan", "backup", "verification"])
def test_nothing_is_migrated_without(staging_site: Site, missing: str) -> None:
    there = {"plan": None, "backup": backup(), "verification": verification()} | {missing: None}
    with pytest.raises(RefusedError, match="nothing is deployed without"):
        carried_out(staging_site, release(**there), [])
    assert not staging_site.applied() & V1_1


def test_a_backup_that_does_not_fit_is_refused(staging_site: Site, ready: Ready, told: list[str]) -> None:
    wanted = ready()
    assert wanted.backup is not None
    old = wanted.backup.model_copy(update={"started_at": datetime.now(UTC) - timedelta(minutes=61)})
    with pytest.raises(StaleBackupError, match="61 minutes old") as stale:
        carried_out(staging_site, wanted.model_copy(update={"backup": old}), told)
    assert "max_age_s" in stale.value.hint
    other = wanted.backup.model_copy(update={"source": identity()})
    with pytest.raises(WrongDatabaseError, match="the database that was backed up"):
        carried_out(staging_site, wanted.model_copy(update={"backup": other}), told)
    staging_site.check_out("v1.0")
    with pytest.raises(CodeError, match=r"staging is at [0-9a-f]{12}, the release is"):
        carried_out(staging_site, wanted, told)
    assert not staging_site.applied() & V1_1


def test_a_backup_that_was_removed_since_it_was_proved_is_refused(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    wanted = ready()
    assert wanted.backup is not None
    Bucket(staging_site.environment.storage).client.delete_object(
        Bucket=staging_site.environment.storage.bucket, Key=wanted.backup.manifest_key
    )
    with pytest.raises(VerificationError, match=r"manifest\.json is gone") as caught:
        carried_out(staging_site, wanted, told)
    assert caught.value.subject == wanted.backup.manifest_key
    lost_object = BackupObject(
        dump="database", key="staging/gone", bytes=3, sha256="0" * 64, etag="e", checksum=None, version_id=None
    )
    lost = backup(
        source=wanted.backup.source,
        objects=(lost_object,),
        **stored_manifest(staging_site.environment),
    )
    with pytest.raises(VerificationError, match="staging/gone"):
        carried_out(staging_site, wanted.model_copy(update={"backup": lost}), told)
    assert not staging_site.applied() & V1_1


def test_only_what_was_planned_is_applied(staging_site: Site, ready: Ready, told: list[str]) -> None:
    wanted = ready()
    assert wanted.plan is not None
    less = wanted.plan.model_copy(update={"pending": wanted.plan.pending[:1]})
    with pytest.raises(RefusedError, match=r"documents\.0003_category_index would be applied but was not planned"):
        carried_out(staging_site, wanted.model_copy(update={"plan": less}), told)
    assert not staging_site.applied() & V1_1


def test_settings_that_override_the_limits_are_refused(staging_site: Site, ready: Ready, told: list[str]) -> None:
    settings = (staging_site.app / "config/settings/staging.py").read_text()
    settings += 'DATABASES["default"]["OPTIONS"]["options"] = "-c lock_timeout=0"\n'
    staging_site.publish({"config/settings/staging.py": settings}, on="v1.1", tag="v2")
    with pytest.raises(RefusedError, match="lock_timeout 0 ms and statement_timeout 0 ms instead of 500") as caught:
        carried_out(staging_site, ready("v2"), told)
    assert "options" in caught.value.hint
    assert not staging_site.applied() & V1_1


def test_a_migration_that_cannot_succeed_says_what_stands(staging_site: Site, ready: Ready, told: list[str]) -> None:
    with pytest.raises(MigrationError, match="contains null values") as caught:
        carried_out(staging_site, ready("v1.2-not-null"), told)
    error = caught.value
    assert set(error.applied) == V1_1 <= staging_site.applied()
    assert error.failed == "documents.0004_require_summary"
    assert not error.retryable
    assert "mend the migration" in error.hint
    assert staging_site.server.password not in str(error)


def test_a_reader_in_the_way_is_named_when_patience_ends(staging_site: Site, ready: Ready, told: list[str]) -> None:
    wanted = ready()
    with transaction(staging_site, "SELECT * FROM documents_document LIMIT 1", name="a report"):
        with pytest.raises(MigrationError, match="due to lock timeout") as caught:
            carried_out(staging_site, wanted, told, lock_timeout_s=0.2, patience_s=0)
        assert not caught.value.retryable, "patience is ours, not the task's"
        assert "quieter moment" in caught.value.hint
        assert "(a report) of chatbot" in str(caught.value)
        assert caught.value.applied == ()
        assert caught.value.failed == "documents.0002_document_category"
    assert not staging_site.applied() & V1_1


def test_half_of_a_concurrent_index_is_cleared_away_when_it_is_run_again(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    wanted = ready()
    staging_site.manage("migrate", "documents", "0002")
    stale = wanted.backup.model_copy(update={"started_at": datetime.now(UTC) - timedelta(days=2)})  # type: ignore[union-attr]
    wanted = wanted.model_copy(update={"backup": stale})  # it is begun: the backup is the one to go back to
    with (
        transaction(staging_site, "UPDATE documents_document SET title = title WHERE id = 1"),
        pytest.raises(MigrationError, match="lock timeout") as caught,
    ):
        carried_out(staging_site, wanted, told, lock_timeout_s=0.2, patience_s=0)
    assert caught.value.failed == "documents.0003_category_index"
    invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert staging_site.psql(invalid) == [(1,)], "that is the half it left"

    # An index that was there when the backup was made is somebody else's, valid or not.
    there = stored_manifest(staging_site.environment, "index public.documents_category_idx")
    theirs = wanted.model_copy(update={"backup": stale.model_copy(update=there)})
    with pytest.raises(MigrationError, match="already exists"):
        carried_out(staging_site, theirs, told)
    assert staging_site.psql(invalid) == [(1,)]

    # One that came since, under the name that the migration gives it, is what the attempt left.
    assert carried_out(staging_site, wanted, told).migrations
    assert "the index public.documents_category_idx was left invalid by an earlier attempt" in "".join(told)
    assert staging_site.psql(invalid) == [(0,)]
    assert staging_site.applied() >= V1_1


def test_what_a_killed_attempt_left_at_work_is_waited_for(staging_site: Site, ready: Ready) -> None:
    wanted = ready()
    assert wanted.backup is not None
    old = wanted.backup.model_copy(update={"started_at": datetime.now(UTC) - timedelta(days=2)})
    wanted = wanted.model_copy(update={"backup": old})
    name = f"runbook: migrate {wanted.id}"
    told: list[str] = []
    with transaction(staging_site, "SELECT 'left behind'", name=name) as left:

        def report(line: str) -> None:
            told.append(line)
            if "waiting for it to end" in line:
                left.close()

        with pytest.raises(StaleBackupError):  # the next thing that is looked at
            apply(staging_site.environment, wanted, lambda *_: None, report)
    assert "of an earlier attempt is idle in transaction, its statement began" in told[0]
    assert "left behind" not in told[0]  # a statement may hold rows, or a password


def test_a_migrate_on_its_way_to_the_server_is_waited_for(staging_site: Site, ready: Ready, told: list[str]) -> None:
    """What a killed flow left behind may not have reached the server yet; it has the checkout's lock."""
    wanted = ready()
    with alone_in(staging_site.app, 0, told.append) as lock:
        orphan = subprocess.Popen(["sleep", "1"], pass_fds=(lock,))
    with (
        pytest.raises(ReleaseInProgressError, match="earlier attempt is still at work"),
        alone_in(staging_site.app, 0, told.append),
    ):
        pass
    assert carried_out(staging_site, wanted, told).migrations
    assert orphan.poll() == 0
    assert "waiting for it to end" in "".join(told)


def test_what_never_ends_is_named(staging_site: Site, told: list[str]) -> None:
    with transaction(staging_site, "SELECT 'stuck'", name="runbook: migrate x") as stuck:
        with pytest.raises(
            DatabaseError, match=r"idle in transaction, its statement began .*, still after 0 s"
        ) as caught:
            wait_until_gone(staging_site.environment.database, "runbook: migrate x", 0.2, told.append)
        assert f"pg_terminate_backend({stuck.info.backend_pid})" in caught.value.hint
    wait_until_gone(staging_site.environment.database, "runbook: migrate x", 0.2, told.append)


def test_of_two_at_once_the_second_is_told_who_is_first(staging_site: Site, ready: Ready, told: list[str]) -> None:
    database = staging_site.environment.database
    wanted = ready()
    with advisory_lock(database, "migrate", "20261122-020000-other"):
        with pytest.raises(ReleaseInProgressError, match="migrate 20261122-020000-other, since 20") as caught:
            carried_out(staging_site, wanted, told)
        assert not caught.value.retryable
        with advisory_lock(database, "release", "another subject"):
            pass
        # A role that may not see other sessions gets an answer too.
        other_role = staging_site.configure(database={"user": "chatbot"}).database
        with (
            pytest.raises(ReleaseInProgressError, match="other, of another role"),
            advisory_lock(other_role, "migrate", "y"),
        ):
            pass
    assert not staging_site.applied() & V1_1
    with advisory_lock(database, "migrate", "it is free again"):
        pass


def test_a_lost_lock_is_noticed(staging_site: Site) -> None:
    with advisory_lock(staging_site.environment.database, "release", "of a server that restarts") as held:
        held.check()
        staging_site.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s", "%that restarts"
        )
        with pytest.raises(ReleaseInProgressError, match="was lost"):
            held.check()


def test_a_lock_ends_with_the_session_that_held_it(staging_site: Site) -> None:
    database = staging_site.environment.database
    with advisory_lock(database, "release", "of a process that dies"):
        ended = staging_site.psql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s",
            "runbook: lock of release of a process that dies",
        )
        assert ended == [(True,)]
        with advisory_lock(database, "release", "the next one"):
            pass


def test_the_lock_is_not_waited_for_where_it_lies_in_the_database_itself(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    """Many a service has one database that its users may enter: the application's."""
    environment = staging_site.configure(
        database={"maintenance_database": staging_site.database}, migrate={"timeout_s": 30}
    )
    assert apply(environment, ready(), lambda *_: None, told.append).migrations
    assert "earlier attempt" not in "".join(told)


def test_options_of_the_application_stay_in_front_of_the_limits(staging_site: Site) -> None:
    environment = staging_site.configure(app={"variables": {"PGOPTIONS": "-c search_path=shop"}})
    assert limits(environment, "x")["PGOPTIONS"].startswith("-c search_path=shop -c lock_timeout=")
