"""The resident reaches its target and nothing else, whatever the application tries."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.app.residence import Residence
from tasks.release.errors import AppError
from tests.tasks.app.django_projects import Project
from tests.tasks.app.scratch import Scratch, scratch_of

__all__ = ["scratch_of"]

VERSIONS = ["3.2", "5.2"]
# A database of another server for the settings, which nobody may reach.
OTHER = """
DATABASES["other"] = dict(DATABASES["default"], NAME="elsewhere", USER="somebody")
DATABASES["replica"] = dict(DATABASES["default"], HOST="replica.invalid")
DATABASES["mirror"] = dict(DATABASES["default"], NAME="elsewhere2", USER="somebody", TEST={"MIRROR": "default"})
DATABASES["bare"] = {"ENGINE": "django.db.backends.mysql", "NAME": "its driver is not installed"}
DATABASES["lite"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/nonexistent/lite.db"}
"""


@pytest.fixture
def shop(project: Callable[[str], Project], scratch_of: Callable[..., Scratch]) -> Callable[..., Scratch]:
    """Return a function that makes a project with one table, whose pending migration runs the code given later."""

    def make(version: str = "5.2") -> Scratch:
        made = project(version)
        made.app("shop", "class Order(models.Model):\n    number = models.IntegerField()\n")
        made.migration(
            "shop",
            "0001_initial",
            'migrations.CreateModel("Order", fields=[("id", models.BigAutoField(primary_key=True)), '
            '("number", models.IntegerField())]),',
        )
        scratch = scratch_of(made, "INSERT INTO shop_order (number) VALUES (1)")
        settings = made.home / "site_settings.py"
        settings.write_text(settings.read_text() + OTHER)
        return scratch

    return make


def driver(version: str) -> str:
    return "psycopg2" if version in ("oldest", "3.2") else "psycopg"


def run(scratch: Scratch, code: str, *, driver: str = "psycopg") -> None:
    """Write a pending migration that runs code; `driver`, `dsn` (the live database) and `connections` are at hand."""
    scratch.project.migration(
        "shop",
        "0002_run",
        "migrations.RunPython(run),",
        after="0001_initial",
        head=f"import {driver} as driver\nfrom django.db import connections\n"
        f"dsn = {scratch.server.dsn(scratch.project.database)!r}\n\n"
        "def run(apps, schema_editor):\n" + "".join(f"    {line}\n" for line in code.splitlines()),
    )


@pytest.mark.parametrize("version", ["oldest", *VERSIONS, "newest"])
def test_the_settings_lead_to_the_target_and_nowhere_else(shop: Callable[..., Scratch], version: str) -> None:
    scratch = shop(version)
    run(
        scratch,
        "for alias in ('default', 'replica', 'mirror'):\n"
        "    with connections[alias].cursor() as cursor:\n"
        "        cursor.execute('SELECT current_database(), current_setting(%s)', ['lock_timeout'])\n"
        f"        assert cursor.fetchone() == ({scratch.name!r}, '1500ms')\n"
        "connections['replica'].close()",
        driver=driver(version),
    )
    with scratch.resident() as app:
        assert app.hello.redirected == ("default", "mirror", "replica")
        assert app.hello.cut_off == ("bare", "lite", "other")
        told_to_the_process = [Path(f"/proc/{app.hello.pid}/{what}").read_text() for what in ("environ", "cmdline")]
        assert not any(scratch.server.password in text for text in told_to_the_process)
        assert len(app.plan().pending) == 1
        assert [entry.error for entry in app.use() if not entry.inconclusive] == [None] * 5
        done = app.migrate()
    assert done.error is None, done.error
    assert done.migrations[0].refused == ()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("connections['other'].ensure_connection()", "the database 'other' is cut off"),
        ("connections['lite'].ensure_connection()", "the database 'lite' is cut off"),
        ("driver.connect(dsn)", "was closed: only"),
        ("getattr(driver, 'Connection', driver).connect(dsn)", "was closed: only"),
        ("import os; os.system('true')", "the program true was not started"),
        ("import subprocess; subprocess.run(['/usr/bin/psql', dsn])", "the program psql was not started"),
        ("schema_editor.execute('ALTER ROLE postgres SET work_mem TO 1')", "`alter role ...` was not carried out"),
        (
            "schema_editor.execute(\"DO $$ BEGIN EXECUTE 'DROP DATABASE live'; END $$\")",
            "`drop database ...` was not carried out",
        ),
        ("schema_editor.execute('SELECT 1; GRANT a TO b')", "`grant a to ...` was not carried out"),
        ("schema_editor.execute(\"SELECT dblink_connect('x')\")", "`dblink_connect( ...` was not carried out"),
        ("schema_editor.execute(\"COPY shop_order TO PROGRAM 'cat'\")", "`copy shop_order to ...` was not carried out"),
    ],
)
def test_what_a_migration_tries_elsewhere_is_refused(
    shop: Callable[..., Scratch], version: str, code: str, told: str
) -> None:
    scratch = shop(version)
    run(scratch, code, driver=driver(version))
    with scratch.resident() as app:
        done = app.migrate()
        assert scratch.sessions() == 0
    [record] = done.migrations
    assert record.error is not None
    assert told in record.error.message
    assert any(told in sentence for sentence in record.refused)
    assert scratch.server.password not in str(done)


def test_a_driver_written_in_python_does_not_reach_a_database(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    host, port = scratch.server.host, scratch.server.port
    run(scratch, f"import socket\nsocket.create_connection(({host!r}, {port}))")
    with scratch.resident() as app:
        [record] = app.migrate().migrations
    assert record.error is not None
    assert f"a connection to port {port} was not made" in record.error.message


def test_what_concerns_its_own_database_or_a_server_of_its_own_is_carried_out(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    run(
        scratch,
        f"schema_editor.execute('ALTER DATABASE {scratch.name} SET work_mem TO 4096')\n"
        "schema_editor.execute(\"UPDATE shop_order SET number = 2 WHERE 'drop database x' <> '; drop role x'\")\n"
        "schema_editor.execute('GRANT SELECT ON shop_order TO PUBLIC')",
    )
    with scratch.resident() as app:
        assert app.migrate().error is None
        assert app.reverse("shop.0002_run").error is not None  # it has no way back
    run(scratch, "schema_editor.execute('ALTER ROLE postgres RESET ALL')")
    scratch.ask("delete from django_migrations where name = '0002_run' returning 1")
    with scratch.resident(scratch.target(shared=False)) as app:
        assert app.migrate().error is None


def test_the_application_works_as_its_own_role_where_it_is_let_in(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    scratch.server.create_role("shop_own")
    settings = scratch.project.home / "site_settings.py"
    kept = settings.read_text()
    settings.write_text(kept + 'DATABASES["default"]["USER"] = "shop_own"\n')
    run(scratch, "schema_editor.execute('CREATE EXTENSION adminpack')")
    with scratch.resident(scratch.target(own_role=True)) as app:
        assert app.hello.user == "shop_own"
        error = app.migrate().error
        assert error is not None
        assert "permission denied" in error.message
    settings.write_text(kept + 'DATABASES["default"].update(USER="shop_own", PASSWORD="wrong")\n')
    with scratch.resident(scratch.target(own_role=True)) as app:
        assert app.hello.user == scratch.server.superuser


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("from django.core.management import call_command; call_command('migrate', 'nothing')", "CommandError: No ins"),
        ("raise ValueError('the row of \"Jane Doe\" is bad')", "ValueError: the row of '***' is bad"),
    ],
)
def test_a_migration_that_ends_itself_is_told(shop: Callable[..., Scratch], code: str, told: str) -> None:
    scratch = shop()
    run(scratch, code)
    with scratch.resident() as app:
        done = app.migrate()
        assert str(done.error).startswith(told)
        assert app.migrate(events=False).error == done.error, "it goes on answering"
    assert scratch.ask("select count(*)::int from django_migrations where name = '0002_run'") == [(0,)]


def test_threads_children_and_megabytes_of_output_do_not_keep_it(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    run(
        scratch,
        "import os, threading, time\n"
        "print('x' * 20_000_000)\n"
        "threading.Thread(target=time.sleep, args=[600]).start()\n"
        "if os.fork() == 0:\n"
        "    time.sleep(600)",
    )
    with scratch.resident() as app:
        assert app.migrate().error is None
        alive = processes(app)
        assert len(alive) == 2
        began = time.monotonic()
    assert gone(alive)
    assert time.monotonic() - began < 5


def test_an_asynchronous_connection_is_looked_at_too(shop: Callable[..., Scratch]) -> None:
    scratch = shop("5.2")
    run(
        scratch,
        "import asyncio\n"
        "async def look(dsn):\n"
        "    async with await driver.AsyncConnection.connect(dsn) as connection:\n"
        "        cursor = await connection.execute('SELECT current_database()')\n"
        "        return (await cursor.fetchone())[0]\n"
        f"mine = driver.conninfo.make_conninfo(dsn, dbname={scratch.name!r})\n"
        f"assert asyncio.run(look(mine)) == {scratch.name!r}\n"
        "asyncio.run(look(dsn))",
    )
    with scratch.resident() as app:
        [record] = app.migrate().migrations
    assert record.error is not None
    assert "was closed: only" in record.error.message


def test_a_refusal_that_the_migration_swallows_is_told(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    run(scratch, "try:\n    driver.connect(dsn)\nexcept Exception:\n    pass")
    with scratch.resident() as app:
        [record] = app.migrate().migrations
    assert record.error is None
    assert len(record.refused) == 1


def test_a_target_that_is_not_the_one_meant_is_refused(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    for wrong in ({"oid": 1}, {"system_identifier": "1"}, {"dbname": scratch.project.database}):
        with pytest.raises(AppError, match="was closed: only") as caught, scratch.resident(scratch.target(**wrong)):
            pass
        assert scratch.server.password not in str(caught.value)
    with pytest.raises(AppError, match="has no database 'nope'"), scratch.resident(scratch.target(alias="nope")):
        pass


def processes(app: Residence) -> list[Path]:
    """The resident and the processes that are its children."""
    group = str(os.getpgid(app.hello.pid))
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        if status[2] == group:
            found.append(entry)
    return found


def gone(paths: list[Path]) -> bool:
    deadline = time.monotonic() + 10
    while any(path.exists() for path in paths):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_resident_that_hangs_is_ended_and_told(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    run(scratch, "import time\nimport os\nos.fork()\ntime.sleep(600)")
    alive: list[Path] = []

    def hang(app: Residence) -> None:
        alive.extend(processes(app))
        app.migrate(timeout_s=2)

    message = r"within 2 s while migrate, applying shop\.0002_run"
    with pytest.raises(AppError, match=message) as caught, scratch.resident() as app:
        hang(app)
    assert gone(alive)
    assert caught.value.hint


def test_an_application_that_hangs_while_it_starts_is_ended(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    scratch.project.write("shop/models.py", "import time\ntime.sleep(600)\n")
    with pytest.raises(AppError, match="within 3 s while starting"), scratch.resident(start_timeout_s=3):
        pass


def test_an_application_that_dies_is_told(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    run(scratch, "import os\nprint('last words', flush=True)\nos._exit(7)")
    with pytest.raises(AppError, match="exit code 7") as caught, scratch.resident() as app:
        app.migrate()
    assert "last words" in caught.value.message
    scratch.project.write("shop/models.py", "import nothing_like_it\n")
    with pytest.raises(AppError, match="nothing_like_it"), scratch.resident():
        pass


def test_it_ends_when_its_starter_is_no_more(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    with scratch.resident() as app:
        alive = processes(app)
        app._dialogue._own.close()  # as the kernel does it for a process that is killed
        assert gone(alive)
