"""`runbook check` on a branch: what it adds is judged, and nothing else is touched."""

from __future__ import annotations

import psycopg
import pytest

from tests.deployments.check.shop import HARMLESS, INDEX, UNIQUE, check, commit, judged, rules
from tests.fix_app import git
from tests.tasks.app.django_projects import Project


def test_what_a_branch_adds_is_judged_without_any_database_of_ours(shop: Project) -> None:
    shop.migration("shop", "0002_memo", HARMLESS, after="0001_initial")
    shop.migration("shop", "0003_number", INDEX, after="0002_memo")
    commit(shop, "an index")
    shop.write("site_settings.py", (shop.home / "site_settings.py").read_text().replace(str(shop.server.port), "1"))
    before = git(shop.home, "status", "--porcelain"), git(shop.home, "worktree", "list")

    answer = judged(shop, "--base", "main", code=1)

    assert rules(answer) == [("shop.0003_number", "add-index")]
    assert [one["level"] for one in answer["migrations"]] == ["low", "medium"]
    assert answer["findings"][0]["file"] == "shop/migrations/0003_number.py"
    assert (git(shop.home, "status", "--porcelain"), git(shop.home, "worktree", "list")) == before


def test_a_clean_branch(shop: Project) -> None:
    shop.migration("shop", "0002_memo", HARMLESS, after="0001_initial")
    commit(shop, "a memo")
    assert "1 migration, 0 findings: low" in check(shop, "--base", "main", code=0).stdout


def test_facts_of_a_database_refute_and_raise(shop: Project) -> None:
    shop.manage("migrate", "--settings=site_settings")
    with psycopg.connect(shop.server.dsn(shop.database), autocommit=True) as connection:
        connection.execute("INSERT INTO shop_customer (email) SELECT 'same' FROM generate_series(1, 5000)")
    shop.migration("shop", "0002_number", INDEX, after="0001_initial")
    shop.migration("shop", "0003_email", UNIQUE, after="0002_number")
    commit(shop, "both")
    url = f"postgresql://{shop.server.superuser}@{shop.server.host}:{shop.server.port}/{shop.database}"

    answer = judged(shop, "--base", "main", "--database-url", url, code=1, PGPASSWORD=shop.server.password)

    levels = {one["migration"]: one["level"] for one in answer["migrations"]}
    assert levels == {"shop.0002_number": "low", "shop.0003_email": "blocked"}  # no order is there yet
    assert any("5,000" in sentence for finding in answer["findings"] for sentence in finding["evidence"])


def test_an_accepted_finding_is_shown_and_does_not_count(shop: Project) -> None:
    shop.migration("shop", "0002_number", INDEX, after="0001_initial")
    file = shop.home / "shop" / "migrations" / "0002_number.py"
    file.write_text("# runbook: accept add-index until 2027-02-01: nobody orders at night\n" + file.read_text())
    commit(shop, "an index")
    answer = judged(shop, "--base", "main", code=0)
    assert [one["reason"] for one in answer["suppressed"]] == ["nobody orders at night"]


def test_a_broken_migration_hides_no_other(shop: Project) -> None:
    shop.migration("shop", "0002_number", INDEX, after="0001_initial")
    shop.app("billing", "class Bill(models.Model):\n    pass\n")
    shop.write("billing/migrations/0001_initial.py", "from django.db import migrations\nclass Migration(:\n")
    commit(shop, "two")
    found = rules(judged(shop, "--base", "main", code=1))
    assert ("shop.0002_number", "add-index") in found
    assert "billing.0001_initial" in {migration for migration, _ in found}


def test_what_fails_on_an_empty_database_is_told(shop: Project) -> None:
    shop.migration(
        "shop",
        "0002_first",
        "migrations.RunPython(first, migrations.RunPython.noop),",
        after="0001_initial",
        head="def first(apps, schema_editor):\n    apps.get_model('shop', 'Customer').objects.get(pk=1)\n",
    )
    commit(shop, "a first customer")
    assert ("shop.0002_first", "does-not-apply") in rules(judged(shop, "--base", "main", code=1))


@pytest.mark.parametrize("base", ["nothing-like-it", ""])
def test_an_unknown_base_is_told(shop: Project, base: str) -> None:
    told = check(shop, "--base", base, code=2).stderr
    assert "--base origin/main" in told


def test_an_application_that_does_not_start_is_told(shop: Project) -> None:
    shop.write("site_settings.py", "raise RuntimeError('no SECRET_KEY')\n")
    commit(shop, "a mistake")
    assert "no SECRET_KEY" in check(shop, "--base", "HEAD", code=2).stderr
