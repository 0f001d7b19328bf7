"""Rules over Django's operations: what is dangerous is named for its reason, what is harmless is not mentioned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.app.probing import understood
from tasks.release.risk import Finding
from tasks.risk.judge import judge
from tasks.risk.live import LiveFacts
from tasks.risk.rules import checks, columns, foreign_keys, indexes, nullability, removals, renames, types, uniqueness
from tests.tasks.app.django_projects import Project
from tests.tasks.risk.conftest import Cases
from tests.tasks.risk.migration_cases import CASES
from tests.tasks.risk.no_database import NoDatabase
from tests.tasks.risk.one_case import Case

pytestmark = pytest.mark.timeout(400)  # the first test waits for a hundred apps to be made
NO_FACTS = NoDatabase()
FAMILIES = (checks, columns, foreign_keys, indexes, nullability, removals, renames, types, uniqueness)
IDS = {rule.id for family in FAMILIES for rule in family.RULES}


def of_operations(findings: tuple[Finding, ...]) -> list[Finding]:
    """The findings of the rules over operations."""
    return [finding for finding in findings if finding.rule in IDS]


def named(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {finding.rule: finding.severity for finding in of_operations(findings)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_with_facts(cases: Cases, case: Case) -> None:
    with LiveFacts(cases.database, "public", statement_timeout_s=20) as facts:
        found = judge(cases.plan(case.name), facts, cases.home).findings
    assert named(found) == case.live, "\n".join(finding.message for finding in found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_without_database(cases: Cases, case: Case) -> None:
    found = judge(cases.plan(case.name), NO_FACTS, cases.home).findings
    assert named(found) == case.without_database, "\n".join(finding.message for finding in found)


@pytest.mark.parametrize("case", [case for case in CASES if case.live], ids=lambda case: case.name)
def test_a_finding_says_where_why_and_what_to_do(cases: Cases, case: Case) -> None:
    with LiveFacts(cases.database, "public", statement_timeout_s=20) as facts:
        found = of_operations(judge(cases.plan(case.name), facts, cases.home).findings)
    assert len({(finding.rule, finding.subject) for finding in found}) == len(found)
    for finding in found:
        assert finding.migration.startswith(f"{case.name}.m")
        assert case.name in finding.message
        assert finding.subject
        assert finding.mitigation
        assert "None" not in " ".join((finding.message, *finding.mitigation))


def test_columns_that_refer_to_a_key_follow_it(cases: Cases) -> None:
    found = judge(cases.plan("key_to_bigint"), NO_FACTS, cases.home).findings
    assert {finding.subject for finding in of_operations(found)} == {
        "key_to_bigint_thing.id",
        "key_to_bigint_child.thing_id",
        "key_to_bigint_thing_tags.thing_id",
    }


def test_facts_are_told(cases: Cases) -> None:
    with LiveFacts(cases.database, "public", statement_timeout_s=20) as facts:
        found = judge(cases.plan("unique_over_duplicates"), facts, cases.home).findings
    told = {finding.rule: " ".join(finding.evidence) for finding in found}
    assert "1,100 rows" in told["add-unique"]
    assert "1,100" in told["duplicate-values"]


SERVING = """
from django.db import models

class Thing(models.Model):
    {field}

class Owner(models.Model):
    name = models.CharField(max_length=50)
"""


@pytest.mark.parametrize(
    ("field", "rules"),
    [("note = models.TextField()", {"remove-column", "lose-column"}), ("n = models.IntegerField()", {"lose-column"})],
)
def test_serving_code_that_has_no_such_field_is_not_broken(
    cases: Cases, tmp_path: Path, field: str, rules: set[str]
) -> None:
    (tmp_path / "remove").mkdir()
    for name, text in {"__init__": "", "apps": "", "models": SERVING.format(field=field)}.items():
        (tmp_path / "remove" / f"{name}.py").write_text(text)
    found = judge(cases.plan("remove"), NO_FACTS, cases.home, serving=tmp_path).findings
    assert set(named(found)) == rules


TAGGED = "tags = models.ManyToManyField(Owner)"


@pytest.mark.parametrize(("field", "rules"), [(TAGGED, {"remove-table", "lose-table"}), ("", {"lose-table"})])
def test_serving_code_that_has_the_many_to_many_field_is_broken(
    cases: Cases, tmp_path: Path, field: str, rules: set[str]
) -> None:
    (tmp_path / "remove_many_to_many").mkdir()
    for name, text in {
        "__init__": "",
        "models": SERVING.format(field=f"n = models.IntegerField()\n    {field}"),
    }.items():
        (tmp_path / "remove_many_to_many" / f"{name}.py").write_text(text)
    found = judge(cases.plan("remove_many_to_many"), NO_FACTS, cases.home, serving=tmp_path).findings
    assert set(named(found)) == rules


ROUTER = """
class Router:
    def allow_migrate(self, db, app_label, **hints):
        return False if app_label == "away" else None
"""
BEFORE = """
migrations.CreateModel("Thing", [
    ("id", models.AutoField(primary_key=True)),
    ("n", models.IntegerField()),
    ("name", models.CharField(max_length=50, null=True)),
]),
migrations.CreateModel("Child", [("id", models.AutoField(primary_key=True)), ("thing", models.ForeignKey("Thing", models.CASCADE))]),
migrations.CreateModel("Other", [("id", models.AutoField(primary_key=True)), ("n", models.IntegerField())]),
"""  # noqa: E501 - a migration's line
AFTER = """
migrations.AddField("thing", "extra", models.IntegerField(default=1)),
migrations.AlterField("thing", "id", models.BigAutoField(primary_key=True)),
migrations.AlterField("thing", "name", models.CharField(max_length=99, null=True)),
migrations.AddIndex("thing", models.Index(fields=["n"], name="{app}_n")),
migrations.RemoveField("other", "n"),
migrations.RenameModel("Child", "Kid"),
"""


@pytest.mark.parametrize("version", ["3.2", "4.2", "newest"])
def test_every_django(project: Callable[[str], Project], version: str) -> None:
    made = project(version)
    made.write("routing.py", ROUTER)
    made.routers = ["routing.Router"]
    for app in ("shop", "away"):
        made.app(app, "")
        made.migration(app, "m0", BEFORE)
    made.manage("migrate", "--verbosity=0")
    for app in ("shop", "away"):
        made.migration(app, "m1", AFTER.replace("{app}", app), after="m0")
    plan = understood(made.probe("identity", "plan"))
    found = of_operations(judge(plan, NO_FACTS, made.home).findings)
    assert sorted((finding.rule, finding.subject) for finding in found) == [
        ("add-index", "shop_n"),
        ("add-not-null-column", "shop_thing.extra"),
        ("lose-column", "shop_other.n"),
        ("remove-column", "shop_other.n"),
        ("rename-table", "shop_child"),
        ("rewrite-column-type", "shop_child.thing_id"),
        ("rewrite-column-type", "shop_thing.id"),
    ]
