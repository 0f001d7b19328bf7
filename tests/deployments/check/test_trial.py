"""What is tried on the throw-away database: failures, what that server lacks, and an application that ends."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg

from deployments.check.trial import is_missing_here
from tasks.app.residence import Problem
from tests.deployments.check.shop import HARMLESS, INDEX, commit, judged, rules
from tests.fix_postgres import PostgresServer
from tests.tasks.app.django_projects import Project


def one(answer: dict[str, Any], rule: str) -> dict[str, Any]:
    [found] = [finding for finding in answer["findings"] if finding["rule"] == rule]
    return dict(found)


def databases(project: Project) -> set[str]:
    with psycopg.connect(project.server.dsn(), autocommit=True) as connection:
        return {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database")}


def test_a_process_that_ends_in_the_middle_hides_no_other(shop: Project) -> None:
    head = "def leave(apps, schema_editor):\n    import os\n    os._exit(0)\n"
    run = "migrations.RunPython(leave, migrations.RunPython.noop),"
    shop.migration("shop", "0002_leave", run, after="0001_initial", head=head)
    shop.migration("shop", "0003_number", INDEX, after="0002_leave")
    commit(shop, "an end")
    answer = judged(shop, "--base", "main", code=1)
    found = one(answer, "does-not-apply")
    assert (found["migration"], found["severity"]) == ("shop.0002_leave", "high")
    assert "ended in the middle of it" in found["message"]
    assert ("shop.0003_number", "add-index") in rules(answer)


def test_what_the_bundled_server_lacks_is_open_and_a_named_server_is_asked(shop: Project) -> None:
    shop.migration("shop", "0002_memo", HARMLESS, after="0001_initial")
    shop.migration("shop", "0003_maps", 'migrations.RunSQL("CREATE EXTENSION postgis", ""),', after="0002_memo")
    shop.app("shop", "class Customer(models.Model):\n    pass\n")  # many changes that no migration holds
    shop.apps.pop()
    shop.settings()
    commit(shop, "maps")
    before = databases(shop)
    url = f"postgresql://{shop.server.superuser}@{shop.server.host}:{shop.server.port}"

    answer = judged(shop, "--base", "main", code=1, RUNBOOK_CHECK_SERVER_URL=url, PGPASSWORD=shop.server.password)

    found = one(answer, "does-not-apply")
    assert (found["migration"], found["severity"], found["harm"]) == ("shop.0003_maps", "unknown", "open")
    assert found["message"].startswith('could not be tried here: extension "postgis" is not available')
    assert databases(shop) == before
    [note] = answer["notes"]
    assert "`makemigrations` was forgotten" in note
    assert "Delete model Order" in note
    assert "Remove field email" in note


def test_what_a_server_lacks_is_told_from_what_can_work_nowhere(postgres: PostgresServer, database: str) -> None:
    def missing(statement: LiteralString) -> bool | None:
        """None: the server has it."""
        with psycopg.connect(postgres.dsn(database)) as connection:
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                message = error.diag.message_primary or ""
                return is_missing_here(Problem(type="ProgrammingError", message=message, sqlstate=error.sqlstate))
        return None

    postgres.execute(
        "CREATE TABLE item (price integer)", "CREATE VIEW prices AS SELECT price FROM item", dbname=database
    )
    assert missing("CREATE EXTENSION vector") is True
    assert missing("CREATE FUNCTION f() RETURNS int LANGUAGE c AS '$libdir/postgis-3', 'f'") is True
    assert missing("CREATE COLLATION german (provider = icu, locale = 'de-DE')") in (None, True)
    assert missing('CREATE TABLE word (word text COLLATE "xx_XX.utf8")') is True
    assert missing("ALTER TABLE item ALTER price TYPE bigint") is False  # 0A000 as well: a view uses it
    assert missing("SELECT 1 / 0") is False


def test_each_fact_is_told_once(shop: Project) -> None:
    head = """
        def nothing(apps, schema_editor):
            pass


        def fails(apps, schema_editor):
            apps.get_model("shop", "Customer").objects.get(pk=1)
        """
    shop.migration("shop", "0002_one_way", "migrations.RunPython(nothing),", after="0001_initial", head=head)
    shop.migration("shop", "0003_fails", "migrations.RunPython(nothing, fails),", after="0002_one_way", head=head)
    commit(shop, "no way back")
    assert rules(judged(shop, "--base", "main", code=1)) == [
        ("shop.0002_one_way", "irreversible"),
        ("shop.0003_fails", "does-not-reverse"),
    ]
