"""A migration that is broken is one finding on that migration; the others are planned and rendered all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks.app.probing import understood
from tasks.release.plan import Plan, Problem
from tests.tasks.app.django_projects import Project

Make = Callable[..., Project]

MODEL = """
class Item(models.Model):
    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=50)
"""
ITEM = """
    migrations.CreateModel("Item", [
        ("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=50)),
    ]),
"""
EMPTY = "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
VERSIONS = pytest.mark.parametrize("version", ["3.2", "4.2", "5.2"])


def add(name: str) -> str:
    return f'migrations.AddField("item", "{name}", models.IntegerField(null=True)),'


@pytest.fixture
def shop(project: Make) -> Project:
    """An app `shop` whose first migration is applied, and an app `zoo` with a pending one."""
    return begun(project("5.2"))


def begun(made: Project) -> Project:
    for app in ("shop", "zoo"):
        made.app(app, MODEL)
        made.migration(app, "0001_initial", ITEM)
    made.manage("migrate", "-v0")
    made.migration("zoo", "0002_fine", add("a"), after="0001_initial")
    return made


def planned(project: Project) -> Plan:
    answer = project.probe()
    assert answer["error"] is None
    return understood(answer)


def rendered(plan: Plan) -> list[str]:
    assert all(migration.sql.forward.statements for migration in plan.pending)
    return [migration.label for migration in plan.pending]


def by_rule(plan: Plan, rule: str) -> dict[str, Problem]:
    return {problem.migration: problem for problem in plan.problems if problem.rule == rule}


# -- what cannot be loaded -------------------------------------------------------------------------------------------


UNLOADABLE = {  # app: source, what is told, line
    "import_error": ("import os\nimport no_such_module\n", "cannot be imported: ModuleNotFoundError", 2),
    "syntax_error": ("import os\n\nclass Migration(:\n", "has a syntax error: SyntaxError", 3),
    "exits": ("import sys\nsys.exit(3)\n", "cannot be imported: SystemExit", 2),
    "no_class": ("x = 1\n", "is no migration: the module has no class Migration", None),
    "other_class": ("class Migration:\n    pass\n", "is no valid migration", None),
    "other_form": (EMPTY + '    dependencies = [("zoo", "0001_initial", "x")]\n', "dependencies holds", None),
}


@VERSIONS
def test_those_that_cannot_be_loaded(project: Make, version: str) -> None:
    shop = begun(project(version))
    for app, (source, _, _) in UNLOADABLE.items():
        shop.app(app, MODEL)
        shop.write(f"{app}/migrations/0001_broken.py", source)
        shop.migration(app, "0002_after", add("b"), after="0001_broken")
        shop.migration(app, "0003_after", add("c"), after="0002_after")
    plan = planned(shop)
    assert rendered(plan) == ["zoo.0002_fine"]
    assert {problem.rule for problem in plan.problems} == {"broken-migration"}
    found = by_rule(plan, "broken-migration")
    names = ("0001_broken", "0002_after", "0003_after")
    assert found.keys() == {f"{app}.{name}" for app in UNLOADABLE for name in names}
    for app, (_, told, line) in UNLOADABLE.items():
        broken = found[f"{app}.0001_broken"]
        assert told in broken.message
        assert (broken.file, broken.line, broken.severity) == (f"{app}/migrations/0001_broken.py", line, "blocked")
        assert f"{app}.0001_broken, which is broken" in found[f"{app}.0002_after"].message


def test_an_error_in_what_it_imports_has_the_line_of_the_import(shop: Project) -> None:
    shop.write("shop/tools.py", "def broken(:\n")
    shop.write("shop/migrations/0002_broken.py", "import os\n\nfrom shop.tools import broken\n")
    [problem] = planned(shop).problems
    assert (problem.file, problem.line) == ("shop/migrations/0002_broken.py", 3)
    assert "tools.py" in problem.message


def test_a_package_that_cannot_be_loaded(shop: Project) -> None:
    shop.write("shop/migrations/__init__.py", "1 / 0\n")
    plan = planned(shop)
    assert rendered(plan) == ["zoo.0002_fine"]
    [problem] = plan.problems
    assert problem.message.startswith("the package with the migrations of shop cannot be imported: ZeroDivisionError")
    assert (problem.file, problem.line) == ("shop/migrations/__init__.py", 1)


@VERSIONS
def test_one_that_is_applied_already(project: Make, version: str) -> None:
    shop = begun(project(version))
    shop.migration("shop", "0002_b", add("b"), after="0001_initial")
    shop.migration("shop", "0003_c", add("c"), after="0002_b")
    shop.manage("migrate", "-v0")
    shop.write("shop/migrations/0002_b.py", "import no_such_module\n" + EMPTY)
    shop.migration("shop", "0004_d", add("d"), after="0003_c")
    shop.migration("zoo", "0003_fine", add("b"), after="0002_fine")
    plan = planned(shop)
    assert rendered(plan) == ["shop.0004_d", "zoo.0003_fine"]
    [problem] = plan.problems
    assert (problem.rule, problem.migration, problem.severity) == ("broken-migration", "shop.0002_b", "blocked")


def test_one_that_is_applied_already_and_made_what_others_need(shop: Project) -> None:
    shop.write("shop/migrations/0001_initial.py", "import no_such_module\n")
    shop.migration("shop", "0002_b", add("b"), after="0001_initial")
    plan = planned(shop)
    assert [migration.label for migration in plan.pending] == ["shop.0002_b", "zoo.0002_fine"]
    assert by_rule(plan, "broken-migration").keys() == {"shop.0001_initial"}
    assert [migration.sql.forward.statements is None for migration in plan.pending] == [True, False]


def test_one_that_is_applied_already_and_cannot_be_followed(shop: Project) -> None:
    shop.migration("shop", "0002_b", add("b"), after="0001_initial")
    shop.manage("migrate", "-v0")
    shop.migration("shop", "0002_b", 'migrations.RemoveField("nobody", "b"),', after="0001_initial")
    shop.migration("zoo", "0003_fine", add("b"), after="0002_fine")
    plan = planned(shop)
    assert rendered(plan) == ["zoo.0003_fine"]
    [problem] = plan.problems
    assert problem.migration == "shop.0002_b"
    assert "cannot be followed" in problem.message


# -- what cannot be put in order -------------------------------------------------------------------------------------


@VERSIONS
def test_a_dependency_that_does_not_exist(project: Make, version: str) -> None:
    shop = begun(project(version))
    shop.migration("shop", "0002_lost", add("b"), after="0001_misspelt")
    shop.migration("shop", "0003_after", add("c"), after="0002_lost")
    shop.migration("shop", "0002_first", add("d"), after="0001_initial", body='run_before = [("zoo", "0009_none")]')
    shop.migration("zoo", "0003_app", add("b"), after="0002_fine", body='dependencies += [("nobody", "__first__")]')
    plan = planned(shop)
    assert rendered(plan) == ["zoo.0002_fine"]
    missing = by_rule(plan, "missing-dependency")
    assert missing.keys() == {"shop.0002_lost", "shop.0002_first", "zoo.0003_app"}
    assert "depends on shop.0001_misspelt, which does not exist" in missing["shop.0002_lost"].message
    assert missing["shop.0002_lost"].line == 5
    assert "the migrations of nobody, and there are none" in missing["zoo.0003_app"].message
    assert by_rule(plan, "broken-migration").keys() == {"shop.0003_after"}


@VERSIONS
def test_a_dependency_of_an_applied_one_that_does_not_exist(project: Make, version: str) -> None:
    shop = begun(project(version))
    shop.migration("shop", "0001_initial", ITEM, after="0000_deleted")
    shop.migration("shop", "0002_b", add("b"), after="0001_initial")
    plan = planned(shop)
    assert rendered(plan) == ["shop.0002_b", "zoo.0002_fine"]
    assert by_rule(plan, "missing-dependency").keys() == {"shop.0001_initial"}


@VERSIONS
def test_a_circle(project: Make, version: str) -> None:
    shop = begun(project(version))
    shop.migration("shop", "0002_b", add("b"), after="0001_initial", body='dependencies += [("shop", "0003_c")]')
    shop.migration("shop", "0003_c", add("c"), after="0002_b")
    shop.migration("shop", "0004_d", add("d"), after="0003_c")
    plan = planned(shop)
    assert rendered(plan) == ["zoo.0002_fine"]
    found = by_rule(plan, "broken-migration")
    assert found.keys() == {"shop.0002_b", "shop.0003_c", "shop.0004_d"}
    assert "shop.0002_b → shop.0003_c → shop.0002_b" in found["shop.0003_c"].message
    assert "depends on" in found["shop.0004_d"].message


@VERSIONS
def test_replacements_that_cannot_be(project: Make, version: str) -> None:
    shop = begun(project(version))
    shop.migration("zoo", "0003_one", "", after="0002_fine", body='replaces = [("zoo", "0004_two")]')
    shop.migration("zoo", "0004_two", "", after="0002_fine", body='replaces = [("zoo", "0003_one")]')
    shop.migration("shop", "0002_self", "", after="0001_initial", body='replaces = [("shop", "0002_self")]')
    plan = planned(shop)
    assert "zoo.0002_fine" in [migration.label for migration in plan.pending]
    found = by_rule(plan, "broken-migration")
    assert "shop.0002_self" in found
    assert found.keys() & {"zoo.0003_one", "zoo.0004_two"}


def test_a_broken_one_that_a_squashed_one_replaces(project: Make) -> None:
    shop = project("5.2")
    shop.app("shop", MODEL)
    shop.migration("shop", "0001_initial", ITEM)
    shop.write("shop/migrations/0002_broken.py", "import no_such_module\n")
    shop.migration(
        "shop",
        "0001_squashed",
        ITEM,
        body='replaces = [("shop", "0001_initial"), ("shop", "0002_broken")]',
    )
    shop.migration("shop", "0003_after", add("b"), after="0002_broken")
    plan = planned(shop)
    assert rendered(plan) == ["shop.0001_squashed", "shop.0003_after"]
    assert by_rule(plan, "broken-migration").keys() == {"shop.0002_broken"}


def test_a_squashed_one_applied_in_part(shop: Project) -> None:
    replaces = 'replaces = [("shop", "0001_initial"), ("shop", "0002_gone")]'
    shop.migration("shop", "0001_squashed", ITEM, body=replaces)
    shop.migration("shop", "0003_after", add("b"), after="0002_gone")
    plan = planned(shop)
    assert rendered(plan) == ["zoo.0002_fine"]
    squash = by_rule(plan, "squash-partly-applied")["shop.0001_squashed"]
    assert squash.severity == "blocked"
    assert "shop.0001_squashed replaces it, and is applied in part" in (
        by_rule(plan, "missing-dependency")["shop.0003_after"].message
    )
    shop.migration("shop", "0002_gone", add("a"), after="0001_initial")
    plan = planned(shop)
    assert rendered(plan) == ["shop.0002_gone", "shop.0003_after", "zoo.0002_fine"]
    assert by_rule(plan, "squash-partly-applied")["shop.0001_squashed"].severity == "medium"


def test_conflicting_leaves_are_told_of_each(shop: Project) -> None:
    shop.migration("shop", "0002_b", add("b"), after="0001_initial")
    shop.migration("shop", "0002_c", add("c"), after="0001_initial")
    plan = planned(shop)
    assert rendered(plan) == ["shop.0002_b", "shop.0002_c", "zoo.0002_fine"]
    found = by_rule(plan, "conflicting-leaves")
    assert {label: problem.file for label, problem in found.items()} == {
        "shop.0002_b": "shop/migrations/0002_b.py",
        "shop.0002_c": "shop/migrations/0002_c.py",
    }
    assert sum("conflicting leaf nodes" in sentence for sentence in plan.findings) == 1


def test_an_inconsistent_history_is_told_of_the_one_that_was_passed_over(shop: Project) -> None:
    shop.migration("shop", "0002_b", add("b"), after="0001_initial")
    shop.manage("migrate", "-v0", "shop")
    shop.server.execute(
        "DELETE FROM django_migrations WHERE app = 'shop' AND name = '0001_initial'", dbname=shop.database
    )
    plan = planned(shop)
    assert rendered(plan) == ["zoo.0002_fine"]
    assert by_rule(plan, "inconsistent-history")["shop.0001_initial"].severity == "blocked"


def test_one_that_cannot_be_rendered(shop: Project) -> None:
    shop.migration(
        "shop",
        "0002_index",
        'AddIndexConcurrently("item", models.Index(fields=["name"], name="named")),',
        after="0001_initial",
        head="from django.contrib.postgres.operations import AddIndexConcurrently",
    )
    plan = planned(shop)
    assert [migration.sql.forward.statements is None for migration in plan.pending] == [True, False]
    assert "shop.0002_index could not be rendered as SQL" in plan.findings[-1]


def test_many_that_depend_on_a_broken_one_cost_one_more_loading(shop: Project) -> None:
    shop.write("shop/migrations/0002_broken.py", "import no_such_module\n")
    before = "0002_broken"
    for number in range(3, 300):
        name = f"{number:04d}_after"
        shop.migration("shop", name, "", after=before)
        before = name
    plan = planned(shop)
    assert rendered(plan) == ["zoo.0002_fine"]
    assert len(by_rule(plan, "broken-migration")) == 298


# -- what else is told -----------------------------------------------------------------------------------------------


def test_operations_have_lines(shop: Project) -> None:
    shop.migration(
        "shop",
        "0002_lines",
        """
        migrations.AddField(
            "item", "a", models.IntegerField(null=True)),
        migrations.SeparateDatabaseAndState(
            [migrations.RunSQL("SELECT 1"), migrations.RunSQL("SELECT 2")],
            state_operations=[
                migrations.AddField("item", "b", models.IntegerField(null=True)),
            ],
        ),
        """,
        after="0001_initial",
    )
    shop.write(
        "shop/migrations/0003_computed.py",
        EMPTY + '    dependencies = [("shop", "0002_lines")]\n    operations = [migrations.RunSQL("SELECT 1")] * 2\n',
    )
    plan = planned(shop)
    lines = [{operation["position"]: operation["line"] for operation in one.operations} for one in plan.pending]
    first = (shop.home / "shop/migrations/0002_lines.py").read_text().splitlines().index(
        "        migrations.AddField("
    ) + 1
    assert lines[0] == {
        "0": first,
        "1": first + 2,
        "1.database.0": first + 3,
        "1.database.1": first + 3,
        "1.state.0": first + 5,
    }
    assert lines[1] == {"0": None, "1": None}


def test_the_file_of_a_migration_has_a_hash(shop: Project) -> None:
    def hashes() -> dict[str, Any]:
        return {migration.label: migration.file_sha256 for migration in planned(shop).pending}

    before = hashes()
    shop.migration("zoo", "0002_fine", add("a") + "  # the same", after="0001_initial")
    assert len(before["zoo.0002_fine"]) == 64
    assert hashes() != before
