"""What earlier pending migrations have done to names, tables and rows, as the probe tells of a real project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.app.probing import understood
from tasks.risk.history import History
from tests.fix_postgres import PostgresServer
from tests.tasks.app.django_projects import Project

OLD = """
migrations.CreateModel("Order", [
    ("id", models.AutoField(primary_key=True)),
    ("total", models.IntegerField(null=True)),
    ("note", models.TextField(null=True)),
]),
migrations.CreateModel("Tag", [("id", models.AutoField(primary_key=True))]),
migrations.AddField("order", "tags", models.ManyToManyField("Tag")),
"""
HEAD = "from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint"
_CHECK = 'models.CheckConstraint(condition=models.Q({}), name="{{app}}_ck")'
_NOT_NULL = _CHECK.format("total__isnull=False")
_WRITTEN = 'migrations.RunSQL("ALTER TABLE {app}_order ADD CONSTRAINT ck CHECK (total IS NOT NULL) '
_EITHER = "models.Q(total__isnull=False) | models.Q(note__isnull=False)"
CHECKED = {
    "check": [f'migrations.AddConstraint("order", {_NOT_NULL})'],
    "check_of_two": [f'migrations.AddConstraint("order", {_CHECK.format("total__isnull=False, note=3")})'],
    "validated": [f'AddConstraintNotValid("order", {_NOT_NULL})', 'ValidateConstraint("order", "{app}_ck")'],
    "written": [_WRITTEN + '")'],
    "written_and_validated": [
        _WRITTEN + 'NOT VALID")',
        'migrations.RunSQL("ALTER TABLE {app}_order VALIDATE CONSTRAINT ck")',
    ],
}
NOT_CHECKED = {
    "other_check": [f'migrations.AddConstraint("order", {_CHECK.format("total__gt=0")})'],
    "alternative": [
        f'migrations.AddConstraint("order", {_CHECK.format(_EITHER)})',
    ],
    "not_validated": [f'AddConstraintNotValid("order", {_NOT_NULL})'],
    "removed": [f'migrations.AddConstraint("order", {_NOT_NULL})', 'migrations.RemoveConstraint("order", "{app}_ck")'],
    "written_not_valid": [_WRITTEN + 'NOT VALID")'],
}
HISTORIES = {
    **CHECKED,
    **NOT_CHECKED,
    "names": [
        'migrations.RenameField("order", "total", "sum")',
        'migrations.RenameModel("Order", "Purchase")',
        'migrations.RenameField("purchase", "sum", "amount")',
        'migrations.AddField("purchase", "fresh", models.IntegerField(null=True))',
        'migrations.RenameField("purchase", "fresh", "newer")',
    ],
    "tables": [
        'migrations.CreateModel("Cart", [("id", models.AutoField(primary_key=True))])',
        'migrations.RenameModel("Cart", "Basket")',
        'migrations.AddField("basket", "tags", models.ManyToManyField("Tag"))',
        'migrations.RunSQL("CREATE TABLE audit (id int)", "DROP TABLE audit")',
        'migrations.CreateModel("Gone", [("id", models.AutoField(primary_key=True))]), migrations.DeleteModel("Gone")',
    ],
    "through": [
        'migrations.AddField("order", "more", models.ManyToManyField("Tag", through="Link", related_name="+"))',
        'migrations.RemoveField("order", "more")',
    ],
    "by_hand": [
        'migrations.RunSQL("ALTER TABLE by_hand_order RENAME COLUMN total TO sum", "")',
        'migrations.RunSQL("ALTER TABLE by_hand_order RENAME TO by_hand_purchase", "")',
        'migrations.RunSQL("ALTER TABLE by_hand_purchase ADD COLUMN fresh int, ADD kept int DEFAULT 1", "")',
        'migrations.RunSQL("ALTER TABLE by_hand_purchase ADD COLUMN IF NOT EXISTS note text", "")',
        'migrations.RunSQL("CREATE TABLE by_hand_a (id int); DROP TABLE by_hand_a; DROP VIEW IF EXISTS by_hand_v", "")',
    ],
    "state": [
        """migrations.SeparateDatabaseAndState(state_operations=[
            migrations.RenameField("order", "total", "sum"),
            migrations.CreateModel("Cart", [("id", models.AutoField(primary_key=True))]),
        ])""",
    ],
    "sql": [
        "migrations.RunPython(migrations.RunPython.noop)",
        'migrations.RunSQL("UPDATE {app}_order SET total = 1", "")',
    ],
    "python": ["migrations.RunPython(lambda apps, editor: None)", 'migrations.RenameModel("Order", "Purchase")'],
}
LINK = """migrations.CreateModel("Link", [
    ("id", models.AutoField(primary_key=True)),
    ("order", models.ForeignKey("Order", models.CASCADE)),
    ("tag", models.ForeignKey("Tag", models.CASCADE)),
])"""


@pytest.fixture(scope="module")
def after(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, django_python: Callable[[str], Path]
) -> Iterator[Callable[[str], History]]:
    """Return a function from a name in HISTORIES to the history after it; each is an app of one project."""
    database = postgres.create_database()
    made = Project(tmp_path_factory.mktemp("histories") / "project", django_python("5.2"), postgres, database)
    for app in HISTORIES:
        made.app(app, "")
        made.migration(app, "m0", OLD + LINK)
    made.manage("migrate", "--verbosity=0")
    for app, migrations in HISTORIES.items():
        for number, text in enumerate(migrations, start=1):
            made.migration(app, f"m{number}", text.replace("{app}", app), after=f"m{number - 1}", head=HEAD)
    plan = understood(made.probe("identity", "plan"))

    def history(app: str) -> History:
        noted = History()
        for migration in plan.pending:
            if migration.app == app:
                noted.begin(migration)
                for operation in migration.operations:
                    noted.note(migration, operation)
        return noted

    yield history
    postgres.drop_database(database)


def test_names_lead_back_to_those_in_the_database(after: Callable[[str], History]) -> None:
    history = after("names")
    assert history.table_now("names_purchase") == "names_order"
    assert history.table_now("names_purchase_tags") == "names_order_tags"
    assert history.table_now("names_tag") == "names_tag"
    assert history.column_now("names_purchase", "amount") == "total"
    assert history.column_now("names_purchase", "note") == "note"
    assert history.column_now("names_purchase", "newer") is None
    assert not history.is_new("names_purchase")


def test_tables_that_are_made_are_new_until_they_are_dropped(after: Callable[[str], History]) -> None:
    history = after("tables")
    assert history.is_new("tables_basket")
    assert history.is_new("tables_basket_tags")
    assert history.is_new("audit")
    assert not history.is_new("tables_cart")
    assert not history.is_new("tables_gone")
    assert history.table_now("tables_basket") is None
    assert history.column_now("tables_basket", "id") is None


def test_names_that_hand_written_sql_changes(after: Callable[[str], History]) -> None:
    history = after("by_hand")
    assert history.table_now("by_hand_purchase") == "by_hand_order"
    assert history.column_now("by_hand_purchase", "sum") == "total"
    assert history.column_now("by_hand_purchase", "fresh") is None
    assert history.column_now("by_hand_purchase", "note") == "note"  # it may be there already
    assert history.columns_unset == {("by_hand_purchase", "fresh")}
    assert not history.is_new("by_hand_a")
    assert history.dropped == {"by_hand_v"}


def test_a_way_through_an_existing_table_makes_none(after: Callable[[str], History]) -> None:
    assert not after("through").is_new("through_link")
    assert after("through").table_now("through_link") == "through_link"


def test_state_alone_changes_nothing(after: Callable[[str], History]) -> None:
    history = after("state")
    assert not history.is_new("state_cart")
    assert history.column_now("state_order", "total") == "total"


@pytest.mark.parametrize("name", CHECKED)
def test_a_validated_check_rules_null_out(after: Callable[[str], History], name: str) -> None:
    assert (f"{name}_order", "total") in after(name).not_null_checked


@pytest.mark.parametrize("name", [*CHECKED, "not_validated", "written_not_valid"])
def test_a_check_refuses_null_validated_or_not(after: Callable[[str], History], name: str) -> None:
    assert (f"{name}_order", "total") in after(name).null_refused


@pytest.mark.parametrize("name", ["other_check", "alternative", "removed"])
def test_another_check_refuses_none(after: Callable[[str], History], name: str) -> None:
    assert not after(name).null_refused


@pytest.mark.parametrize("name", NOT_CHECKED)
def test_another_check_does_not(after: Callable[[str], History], name: str) -> None:
    assert (f"{name}_order", "total") not in after(name).not_null_checked


def test_who_writes_rows(after: Callable[[str], History]) -> None:
    assert after("sql").writers("sql_order") == ("sql.m2",)
    assert after("sql").writers("sql_tag") == ()


def test_python_may_write_any_row(after: Callable[[str], History]) -> None:
    assert after("python").writers("python_purchase") == ("python.m1",)
