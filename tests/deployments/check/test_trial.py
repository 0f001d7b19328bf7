"""What is tried on the throw-away database: failures, what that server lacks, and an application that ends."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.deployments.check.shop import HARMLESS, INDEX, commit, judged, rules
from tests.tasks.app.django_projects import Project

ICU = """
from django.contrib.postgres.operations import CreateCollation
"""


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
    assert "Customer" in note
    assert "Order" in note


def test_each_fact_is_told_once(shop: Project) -> None:
    head = "def nothing(apps, schema_editor):\n    pass\n\n\ndef fails(apps, schema_editor):\n    raise RuntimeError('no')\n"
    shop.migration("shop", "0002_one_way", "migrations.RunPython(nothing),", after="0001_initial", head=head)
    shop.migration("shop", "0003_fails", "migrations.RunPython(nothing, fails),", after="0002_one_way", head=head)
    commit(shop, "no way back")
    found = [pair for pair in rules(judged(shop, "--base", "main", code=1)) if pair[1] != "mixed"]
    assert len([rule for migration, rule in found if migration == "shop.0002_one_way"]) == 1
    assert ("shop.0003_fails", "does-not-reverse") in found
