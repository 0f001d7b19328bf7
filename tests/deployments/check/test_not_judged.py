"""What cannot be judged is told in a sentence, with the option that mends it, and before anything is built."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.deployments.check.shop import check, commit
from tests.tasks.app.django_projects import Project


def refused(project: Project, *options: str, **variables: str) -> str:
    """What is told of a check that could not judge; no traceback, and nothing of environment files."""
    told = check(project, "--base", "main", *options, code=2, **variables).stderr
    assert "Traceback" not in told
    assert "environment file" not in told
    assert "[app]" not in told
    return told


def test_no_management_command(shop: Project) -> None:
    (shop.home / "manage.py").unlink()
    told = refused(shop)
    assert f"there is no manage.py in {shop.home}" in told
    assert "--manage" in told
    assert "migrating" not in told


@pytest.mark.parametrize("python", ["/nowhere/python", "no-such-python", sys.executable])
def test_an_interpreter_that_is_none_or_has_no_django(shop: Project, python: str) -> None:
    told = refused(shop, "--python", python)
    assert "--python" in told
    assert "migrating" not in told


def test_a_variable_that_settings_need(shop: Project) -> None:
    settings = (shop.home / "site_settings.py").read_text()
    shop.write("site_settings.py", settings.replace('"not a secret"', 'os.environ["SHOP_SECRET_KEY"]'))
    commit(shop, "a secret")
    told = refused(shop, "--base", "HEAD")
    assert "does not start: KeyError: 'SHOP_SECRET_KEY'" in told
    assert "settings need SHOP_SECRET_KEY; pass the variable" in told
    assert len(told.splitlines()) <= 4
    assert "0 migrations, 0 findings" in check(shop, "--base", "HEAD", code=0, SHOP_SECRET_KEY="given").stdout


def test_settings_that_are_not_there(shop: Project) -> None:
    assert "--settings names nope.settings" in refused(shop, "--settings", "nope.settings")


def test_an_alias_that_is_not_there(shop: Project) -> None:
    told = refused(shop, "--alias", "reports")
    assert "no database 'reports' in its DATABASES, but default, other" in told
    assert "--alias" in told


def test_settings_of_sqlite(shop: Project) -> None:
    lite = (
        'from site_settings import *\nDATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "x"}}\n'
    )
    shop.write("lite.py", lite)
    commit(shop, "sqlite")
    told = refused(shop, "--base", "HEAD", "--settings", "lite")
    assert "'default' is sqlite3, not PostgreSQL" in told
    assert "--settings" in told


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        ("--database-url", "RUNBOOK_CHECK_DATABASE_URL"),
        ("--server-url", "RUNBOOK_CHECK_SERVER_URL"),
    ],
)
def test_a_database_that_cannot_be_reached(shop: Project, option: str, variable: str) -> None:
    url = f"postgresql://{shop.server.superuser}@{shop.server.host}:{shop.server.port}/{shop.database}"
    told = refused(shop, option, url, PGPASSWORD="wrong")
    assert option in told
    assert variable in told
    assert "wrong" not in told
    assert "migrating" not in told
    told = refused(shop, **{variable: f"postgresql://me@{shop.server.host}:1/{shop.database}"})
    assert option in told


def test_an_import_that_ends_the_process(shop: Project) -> None:
    shop.write("shop/migrations/0002_exit.py", "import os\nos._exit(0)\n")
    commit(shop, "an end")
    told = refused(shop)
    assert "application ended while" in told
    assert "of this branch" in told
    assert "shop/migrations/0002_exit.py" in told


def test_a_base_that_needs_what_the_server_lacks(shop: Project) -> None:
    shop.migration("shop", "0002_gis", 'migrations.RunSQL("CREATE EXTENSION postgis"),', after="0001_initial")
    commit(shop, "maps")
    told = refused(shop, "--base", "HEAD")
    assert 'extension "postgis" is not available' in told
    assert "shop.0002_gis fails" in told
    assert "--server-url" in told


def test_output_that_cannot_be_written(shop: Project, tmp_path: Path) -> None:
    assert "No such file" in refused(shop, "--output", str(tmp_path / "nowhere" / "report"))
