"""Releases of the example application, rehearsed: what each does to locks, old code, data and the way back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tasks.app.residence import UNGUARDED
from tasks.rehearse.prove import prove_and_rehearse
from tasks.release.errors import AppError
from tasks.release.rehearsal import Loss, MigrationRehearsal
from tests.fix_app import Site
from tests.tasks.rehearse.conftest import Ready, Rehearse, leftovers, live, only

DOCUMENTS = "public.documents_document"
DEADLINE_S = 60


def lock_of(migration: MigrationRehearsal, relation: str = DOCUMENTS) -> str | None:
    return next((lock.mode for lock in migration.locks if lock.relation == relation), None)


def test_a_good_release(rehearsed: Rehearse, staging_site: Site, told: list[str]) -> None:
    result = rehearsed("v1.1", at="v1.0")
    assert [migration.migration for migration in result.migrations] == [
        "documents.0002_document_category",
        "documents.0003_category_index",
    ]
    assert result.passed
    assert result.previous_commit == staging_site.commit_of("v1.0")
    assert result.restored_bytes > 1_000_000
    for migration in result.migrations:
        assert migration.error == ""
        assert migration.seconds is not None
        assert migration.backward_compatible is True
        assert migration.reversible is True
        assert migration.reverse_s is not None
        assert (migration.schema_restored, migration.schema_differences) == (True, ())
        assert (migration.again_identical, migration.again_differences) == (True, ())
        assert migration.losses == ()
        assert migration.rewrites == ()
    column, index = result.migrations
    assert lock_of(column) == "AccessExclusiveLock"
    assert lock_of(index) == "ShareUpdateExclusiveLock"
    assert any('ADD COLUMN "category"' in statement.sql for statement in column.statements)
    assert index.blocking_s == 0
    assert result.findings == ()
    assert result.needs is None  # not asked, since the old code minds nothing
    assert result.passed
    assert not any(staging_site.server.password in line for line in told)


def test_not_null(rehearsed: Rehearse) -> None:
    """The seed has documents without a summary: it fails on the real data."""
    migration = only(rehearsed("v1.2-not-null"))
    assert "null" in migration.error
    assert migration.seconds is not None
    assert migration.reversible is None
    assert migration.again_identical is None


def test_not_null_where_the_data_allows_it(rehearsed: Rehearse, staging_site: Site) -> None:
    staging_site.psql("update documents_document set summary = '' where summary is null")
    result = rehearsed("v1.2-not-null")
    migration = only(result)
    assert migration.error == ""
    assert migration.backward_compatible is False
    assert result.needs == ()  # the new code always writes a summary: it may come first
    assert any(broken.what.startswith("insert documents.Document") for broken in migration.broken)
    assert all("null" in broken.error for broken in migration.broken)
    assert (migration.reversible, migration.schema_restored, migration.again_identical) == (True, True, True)
    assert migration.losses == ()


def test_drop_column(rehearsed: Rehearse, staging_site: Site) -> None:
    [(others,)] = staging_site.psql("select count(*) from documents_document where language <> 'en'")
    result = rehearsed("v1.2-drop-column")
    migration = only(result)
    assert migration.backward_compatible is False
    # What the new code no longer names has no default in the database.
    assert result.needs
    assert all(broken.what.startswith("insert documents.Document") for broken in result.needs)
    assert all("language" in broken.error for broken in result.needs)
    select = next(broken for broken in migration.broken if broken.what == "select documents.Document")
    assert "language" in select.query
    assert "language" in select.error
    assert migration.reversible is True
    assert migration.schema_restored is True
    assert others > 0
    assert migration.losses == (Loss(relation=DOCUMENTS, column="language", kind="changed", count=others),)
    assert migration.again_identical is True
    assert lock_of(migration) == "AccessExclusiveLock"


def test_rename_column(rehearsed: Rehearse) -> None:
    result = rehearsed("v1.2-rename-column")
    migration = only(result)
    assert migration.backward_compatible is False
    assert result.needs
    assert any("owner_email" in broken.query for broken in migration.broken)
    assert any(broken.what == "GET /api/documents" for broken in migration.broken)
    assert (migration.reversible, migration.schema_restored, migration.again_identical) == (True, True, True)
    assert migration.losses == ()


def test_irreversible(rehearsed: Rehearse) -> None:
    migration = only(rehearsed("v1.2-irreversible"))
    assert migration.error == ""
    assert migration.rows[DOCUMENTS] > 0
    assert migration.backward_compatible is True
    assert migration.reversible is False
    assert "RunPython" in migration.irreversible_because or "reversible" in migration.irreversible_because
    assert migration.schema_restored is None
    assert migration.again_identical is None


def test_unique_over_duplicates(rehearsed: Rehearse, staging_site: Site) -> None:
    staging_site.psql("update documents_document set title = 'the same secret title' where id % 100 = 0")
    result = rehearsed("v1.2-unique")
    migration = only(result)
    assert "could not create unique index" in migration.error
    assert "the same secret title" not in result.model_dump_json(), "no row is told"
    assert not result.passed


def test_data_migration(rehearsed: Rehearse, staging_site: Site) -> None:
    staging_site.psql("update documents_document set word_count = 0 where id % 10 = 0")
    before = staging_site.psql("select id, word_count, updated_at from documents_document")
    migration = only(rehearsed("v1.2-data-migration"))
    assert migration.backward_compatible is True
    assert migration.rows[DOCUMENTS] == len(before)
    # No table is locked, but each row from its update to the end of the transaction.
    assert migration.blocking_s
    assert next(lock.blocks for lock in migration.locks if lock.relation == DOCUMENTS) == "writes to the changed rows"
    assert migration.reversible is True
    assert migration.schema_restored is True
    lost = {loss.column: loss for loss in migration.losses}
    assert lost["word_count"].kind == "changed"
    assert lost["word_count"].count >= len(before) // 10
    assert migration.again_identical is True


DOING = """
from django.db import migrations


def do(apps, schema_editor):
    {code}


class Migration(migrations.Migration):
    dependencies = [("documents", "0001_initial")]
    operations = [migrations.RunPython(do, migrations.RunPython.noop)]
"""


def test_a_migration_that_ends_the_interpreter_has_failed(
    rehearsed: Rehearse, staging_site: Site, told: list[str]
) -> None:
    source = DOING.format(code="__import__('os')._exit(0)")
    staging_site.publish({"apps/documents/migrations/0002_out.py": source}, tag="v9")
    staging_site.fetch()
    migration = only(rehearsed("v9", "v1.0"))
    assert "the application ended" in migration.error
    assert migration.reversible is None
    assert "applying documents.0002_out" in told


def test_what_our_guard_refuses_says_nothing_about_the_migration(rehearsed: Rehearse, staging_site: Site) -> None:
    source = DOING.format(code="__import__('subprocess').run(['true'], check=True)")
    staging_site.configure(app={"manage": ["{python}", "-E", "manage.py"]})  # which looks at no PYTHONPATH
    staging_site.publish({"apps/documents/migrations/0002_program.py": source}, tag="v9")
    staging_site.fetch()
    result = rehearsed("v9", "v1.0")
    migration = only(result)
    assert (migration.error, migration.seconds) == ("", None)
    assert "true" in migration.not_tried
    assert not result.passed
    assert UNGUARDED in result.findings


STOPPING = """
import time
from django.db import migrations, models


def wait(apps, schema_editor):
    open({marker!r}, "w").close()
    time.sleep(300)


class Migration(migrations.Migration):
    dependencies = [("documents", "0001_initial")]
    operations = [
        migrations.AddField("document", "extra", models.TextField(null=True)),
        migrations.RunPython(wait, migrations.RunPython.noop),
    ]
"""


def test_the_interpreter_is_killed_in_the_middle(
    staging_site: Site, ready: Ready, told: list[str], tmp_path: Path
) -> None:
    site, marker = staging_site, tmp_path / "reached"
    source = STOPPING.format(marker=str(marker))
    site.publish({"apps/documents/migrations/0002_wait.py": source}, tag="v9")
    site.fetch()
    record = ready("v9", "v1.0")
    before = live(site)
    killed: list[int] = []

    def kill() -> None:
        end = time.monotonic() + DEADLINE_S
        while not marker.exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        with psycopg.connect(site.server.dsn()) as connection:
            assert connection.execute(
                "select pid from pg_stat_activity where datname like 'rb\\_scratch%clone%'"
            ).fetchone()
        killed.extend(_processes(site))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(AppError):
        prove_and_rehearse(site.environment, record.id, told.append)
    thread.join()
    assert killed
    assert leftovers(site) == set()
    assert live(site) == before
    stored = site.ledger.load(record.id)
    assert stored.verification is not None
    assert stored.stages["rehearsal"].error != ""
    assert stored.rehearsal is None


ONCE = STOPPING.replace(
    "    open({marker!r}", "    if not __import__('os').path.exists({marker!r}):\n        open({marker!r}"
).replace("    time.sleep(300)", "        time.sleep(300)")
ATTEMPT = """
import sys
from tasks.app.residence import UNGUARDED
from tasks.rehearse.prove import prove_and_rehearse
from tasks.release.environment import load
prove_and_rehearse(load("staging"), sys.argv[1], print)
"""


def test_what_a_killed_run_leaves_is_dropped_by_the_next_one(
    staging_site: Site, ready: Ready, told: list[str], tmp_path: Path
) -> None:
    site, marker = staging_site, tmp_path / "reached"
    site.publish({"apps/documents/migrations/0002_wait.py": ONCE.format(marker=str(marker))}, tag="v9")
    site.fetch()
    record = ready("v9", "v1.0")
    run = subprocess.Popen(
        [sys.executable, "-c", ATTEMPT, record.id],
        env={**os.environ, "RUNBOOK_ENVIRONMENTS": str(site.directory)},
        stdout=subprocess.DEVNULL,
    )
    try:
        _until(lambda: marker.exists() or run.poll() is not None)
        residents = _processes(site, run.pid)
    finally:
        run.kill()
        run.wait()
    assert len(residents) == 2
    _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in residents))
    assert leftovers(site) != set()
    result = prove_and_rehearse(site.environment, record.id, told.append)
    assert result.passed
    assert leftovers(site) == set()


def test_the_applications_own_role_and_ways_out_of_the_database(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    """A migration writes to the live database through a foreign table; from the copy it does not get there."""
    site, password = staging_site, staging_site.server.password
    site.configure(database={"user": site.server.superuser})
    place = f"host '{site.server.host}', port '{site.server.port}', dbname '{site.database}'"
    for statement in (
        "create extension postgres_fdw",
        "create table heard (id int)",
        f"create server live foreign data wrapper postgres_fdw options ({place})",
        f"create user mapping for public server live options (user '{site.server.superuser}', password '{password}')",
        "create foreign table elsewhere (id int) server live options (table_name 'heard')",
        "grant all on elsewhere, heard to chatbot",
    ):
        site.psql(statement)
    sql = "INSERT INTO elsewhere VALUES (1)"
    site.publish(
        {
            "apps/documents/migrations/0002_out.py": "from django.db import migrations\n"
            "class Migration(migrations.Migration):\n"
            f'    dependencies = [("documents", "0001_initial")]\n    operations = [migrations.RunSQL("{sql}")]\n'
        },
        tag="v9",
    )
    site.fetch()
    record = ready("v9", "v1.0")
    result = prove_and_rehearse(site.environment, record.id, told.append)
    assert "user mapping not found" in only(result).error
    assert site.psql("select count(*) from heard") == [(0,)]
    assert result.findings == ()  # it was tried as the application's role
    assert site.psql("select count(*) from pg_user_mappings") == [(1,)]


def test_three_migrations_of_which_one_cannot_be_reversed(staging_site: Site, ready: Ready, told: list[str]) -> None:
    site = staging_site
    head = "from django.db import migrations, models\nclass Migration(migrations.Migration):\n"
    site.publish(
        {
            f"apps/documents/migrations/{name}.py": head
            + f'    dependencies = [("documents", "{after}")]\n    operations = [{operation}]\n'
            for name, after, operation in (
                ("0002_a", "0001_initial", 'migrations.AddField("document", "a", models.TextField(null=True))'),
                ("0003_b", "0002_a", 'migrations.RunSQL("UPDATE documents_document SET title = upper(title)")'),
                ("0004_c", "0003_b", 'migrations.RemoveField("document", "summary")'),
                ("0005_d", "0004_c", 'migrations.RunSQL("DELETE FROM conversations_message WHERE position = 0", "")'),
            )
        },
        tag="v9",
    )
    site.fetch()
    record = ready("v9", "v1.0")
    [(messages,)] = site.psql("select count(*) from conversations_message where position = 0")
    result = prove_and_rehearse(site.environment, record.id, told.append)
    a, b, c, d = result.migrations
    assert result.passed
    assert (a.reversible, b.reversible, c.reversible, d.reversible) == (None, False, True, True)
    assert "not tried" in a.irreversible_because
    assert (a.again_identical, b.again_identical, c.again_identical, d.again_identical) == (None, None, True, True)
    assert messages > 0
    assert d.losses == (Loss(relation="public.conversations_message", column=None, kind="gone", count=messages),)
    # The titles were changed by what cannot be reversed: what the removal of a column loses cannot be told apart.
    assert c.losses == ()
    assert any("what a reversal loses in public.documents_document is not known" in one for one in result.findings)
    assert c.backward_compatible is False
    assert (a.backward_compatible, b.backward_compatible) == (True, True)


def test_a_way_back_that_does_not_lead_there_and_one_that_fails_half_way(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    """Two reversals that each leave something, then a migration without a transaction that fails in its middle."""
    site = staging_site
    head = "from django.db import migrations, models\nclass Migration(migrations.Migration):\n"
    site.publish(
        {
            f"apps/documents/migrations/{name}.py": head
            + f'    dependencies = [("documents", "{after}")]\n    operations = [{operation}]\n{body}'
            for name, after, operation, body in (
                ("0002_a", "0001_initial", 'migrations.RunSQL("ALTER TABLE documents_document ADD a int", "")', ""),
                ("0003_b", "0002_a", 'migrations.RunSQL("ALTER TABLE documents_document ADD b int", "")', ""),
                ("0004_c", "0003_b", 'migrations.RunSQL("CREATE TABLE c (id int)", "DROP TABLE c")', ""),
                (
                    "0005_d",
                    "0004_c",
                    'migrations.RunSQL("CREATE TABLE d (id int)", ""), migrations.RunSQL("SELECT 1/0")',
                    "    atomic = False\n",
                ),
                ("0006_e", "0005_d", 'migrations.RunSQL("CREATE TABLE e (id int)", "DROP TABLE e")', ""),
            )
        },
        tag="v9",
    )
    site.fetch()
    record = ready("v9", "v1.0")
    result = prove_and_rehearse(site.environment, record.id, told.append)
    a, b, c, d, e = result.migrations
    assert not result.passed
    assert [one.error != "" for one in result.migrations] == [False, False, False, True, False]
    assert "division by zero" in d.error
    assert "table public.d is new" in d.schema_differences
    assert (e.seconds, e.reversible, e.backward_compatible) == (None, None, None)
    assert c.schema_restored is True
    for one in (a, b):
        assert one.reversible is True
        assert one.schema_restored is False
        assert one.schema_differences == ("table public.documents_document is different",)
    # The column that its reversal left is in its way, and what comes after it is not reached.
    assert (a.again_identical, b.again_identical, c.again_identical) == (False, None, None)
    assert "already exists" in a.again_differences[0]
    assert leftovers(site) == set()


def test_what_the_handlers_of_migrate_add_and_a_previous_release_that_does_not_start(
    staging_site: Site, ready: Ready, told: list[str]
) -> None:
    site = staging_site
    broken = site.publish({"apps/documents/apps.py": "raise RuntimeError('this release never started')"}, branch="old")
    model = 'migrations.CreateModel("Tag", [("id", models.BigAutoField(primary_key=True))])'
    site.publish(
        {
            "apps/documents/migrations/0002_tag.py": "from django.db import migrations, models\n"
            "class Migration(migrations.Migration):\n"
            f'    dependencies = [("documents", "0001_initial")]\n    operations = [{model}]\n',
            "apps/documents/models.py": (site.app / "apps/documents/models.py").read_text()
            + "\n\nclass Tag(models.Model):\n    pass\n",
        },
        tag="v9",
    )
    site.fetch()
    record = ready("v9", "v1.0", previous_commit=broken)
    result = prove_and_rehearse(site.environment, record.id, told.append)
    migration = only(result)
    assert result.passed
    assert migration.backward_compatible is None
    [finding] = result.findings
    assert "the previous release could not be tried" in finding
    assert "this release never started" in finding
    assert (migration.reversible, migration.schema_restored, migration.again_identical) == (True, True, True)
    assert migration.losses == (
        Loss(relation="public.auth_permission", column=None, kind="added", count=4),
        Loss(relation="public.django_content_type", column=None, kind="added", count=1),
    )
    assert leftovers(site) == set()


def test_tables_that_a_setting_of_the_database_leads_to(staging_site: Site, ready: Ready, told: list[str]) -> None:
    """The application's role finds its tables in the schema that bears its name; the runbook's role would not."""
    site = staging_site
    site.psql("create schema chatbot authorization chatbot")
    for (table,) in site.psql("select tablename from pg_tables where schemaname = 'public'"):
        site.psql(f"alter table {table} set schema chatbot")
    site.psql(f'alter database {site.database} set search_path to "$user", other')
    site.psql(f"alter role chatbot in database {site.database} set work_mem to '5MB'")
    site.psql(f"alter database {site.database} set log_min_error_statement to panic")
    record = ready("v1.1", "v1.0")
    result = prove_and_rehearse(site.environment, record.id, told.append)
    column, index = result.migrations
    assert result.passed
    assert (column.again_identical, index.again_identical) == (True, True)
    assert [lock.relation for lock in column.locks] == ["chatbot.documents_document"]
    [finding] = result.findings
    assert "without the application's setting log_min_error_statement: permission denied" in finding


def test_a_rehearsal_of_a_proved_backup_restores_it_anew(staging_site: Site, ready: Ready, told: list[str]) -> None:
    record = ready("v1.1", "v1.0")
    first = prove_and_rehearse(staging_site.environment, record.id, told.append)
    assert prove_and_rehearse(staging_site.environment, record.id, told.append) == first
    assert told.count("rehearsal: finished before, not repeated") == 1

    staging_site.ledger.update(record.id, lambda one: one.model_copy(update={"rehearsal": None}))
    told.clear()
    again = prove_and_rehearse(staging_site.environment, record.id, told.append)
    assert again.passed
    assert "verification: finished before, not repeated" in told
    assert any("restoring" in line for line in told)
    assert leftovers(staging_site) == set()


def test_nothing_to_rehearse(staging_site: Site, ready: Ready, told: list[str]) -> None:
    record = ready("v1.1", "v1.1")
    result = prove_and_rehearse(staging_site.environment, record.id, told.append)
    assert (result.migrations, result.findings) == ((), ("no migration is pending",))
    assert staging_site.ledger.load(record.id).verification.level == "restored"  # type: ignore[union-attr]


def test_a_backup_that_is_only_read_is_not_rehearsed(staging_site: Site, ready: Ready, told: list[str]) -> None:
    record = ready("v1.1", "v1.0")
    environment = staging_site.configure(backup={"verify": "read"})
    result = prove_and_rehearse(environment, record.id, told.append)
    assert result.migrations == ()
    assert 'verify = "read" restores nothing' in result.findings[0]
    assert not any("restoring" in line for line in told)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def _processes(site: Site, parent: int | None = None) -> list[int]:
    """The application's processes that another one, if not this, has started: the residents."""
    found = []
    for directory in Path("/proc").iterdir():
        try:
            status = (directory / "stat").read_text().rpartition(")")[2].split()
            line = (directory / "cmdline").read_bytes().decode()
        except (OSError, IndexError):
            continue
        if directory.name.isdigit() and int(status[1]) == (parent or os.getpid()) and "resident.py" in line:
            found.append(int(directory.name))
    return found
