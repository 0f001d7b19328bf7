"""Whole migrations: what their operations do to each other, and what cannot be rendered or is of a third party."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fix_postgres import PostgresServer
from tests.tasks.app.django_projects import Project
from tests.tasks.risk.hand_written import Case, Judged, judged, rules_of

HELD, TRIGGERS, AGAIN = "lock-held-during-long-work", "pending-trigger-events", "not-repeatable"
BATCHED = """
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db.models.functions import Concat, Upper

def forward(apps, schema_editor):
    rows = apps.get_model("{app}", "Order").objects
    while keys := list(rows.filter(fresh__isnull=True).values_list("pk", flat=True)[:500]):
        rows.filter(pk__in=keys).update(fresh=1)

def keys(apps, schema_editor):
    for order in apps.get_model("{app}", "Order").objects.filter(pk__in=[1, 2]):
        order.customer_id = 1
        order.save()

def create(apps, schema_editor):
    apps.get_model("{app}", "Tiny").objects.create(name="x")

def create_once(apps, schema_editor):
    rows = apps.get_model("{app}", "Tiny").objects
    if not rows.filter(name="x").exists():
        rows.create(name="x")

def count_up(apps, schema_editor):
    rows = apps.get_model("{app}", "Tiny").objects
    rows.update(id=models.F("id") + 100)

def append(apps, schema_editor):
    apps.get_model("{app}", "Tiny").objects.update(name=Concat("name", models.Value(".")))

def append_in_batches(apps, schema_editor):
    rows, last = apps.get_model("{app}", "Order").objects, 0
    while keys := list(rows.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:500]):
        rows.filter(pk__in=keys).update(code=Concat("code", models.Value(".")))
        last = keys[-1]

def count_up_once(apps, schema_editor):
    rows = apps.get_model("{app}", "Order").objects
    while keys := list(rows.filter(~models.Q(code="done")).values_list("pk", flat=True)[:500]):
        rows.filter(pk__in=keys).update(number=models.F("number") + 1, code="done")

def count_up_some(apps, schema_editor):
    rows = apps.get_model("{app}", "Order").objects
    rows.filter(pk__in=[1, 2], fresh__isnull=True).update(number=models.F("number") + 1)

def upper(apps, schema_editor):
    apps.get_model("{app}", "Tiny").objects.update(name=Upper("name"))

def cursor(apps, schema_editor):
    schema_editor.execute("UPDATE {app}_tiny SET name = name || 'x'")

def tiny(apps, schema_editor):
    for row in apps.get_model("{app}", "Tiny").objects.all():
        row.name = "x"
        row.save()
"""
FIELD = 'migrations.AddField("Order", "{name}", models.IntegerField(null=True)),'
RUN = "migrations.RunPython({function}, migrations.RunPython.noop),"
INDEX = 'AddIndexConcurrently("Order", models.Index(fields=["{field}"], name="{name}")),'
THIRD_PARTY = """
from django.db.migrations.operations.base import Operation

class Tune(Operation):
    def state_forwards(self, app_label, state):
        pass
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.execute(self.sql)
    database_backwards = database_forwards
    def __init__(self, sql):
        self.sql = sql
    def describe(self):
        return "Tune"

class Asking(Tune):
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        schema_editor.connection.cursor().execute(self.sql)

class Mystery(Tune):
    reduces_to_sql = False

class OneWay(Tune):
    reversible = False

class Marker(Mystery):
    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        "Says something to a tool."
    database_backwards = database_forwards
"""


def one(name: str, expected: str, *operations: str, atomic: bool = True, head: str = BATCHED) -> Case:
    return Case(name, tuple(sorted(expected.split())), "\n".join(operations), head, atomic, own_app=True)


def field(name: str) -> str:
    return FIELD.replace("{name}", name)


def run(function: str) -> str:
    return RUN.replace("{function}", function)


def index(name: str, column: str) -> str:
    return INDEX.replace("{field}", column).replace("{name}", name)


CASES = [
    # dangerous
    one("w_mixed", f"{HELD} unbatched-data-migration", field("a"), run("forward")),
    one(
        "w_mixed_sql",
        f"{HELD} sql-unbatched-change",
        field("a"),
        'migrations.RunSQL("UPDATE w_mixed_sql_order SET fresh = 1", migrations.RunSQL.noop),',
    ),
    one(
        "w_two_tables",
        HELD,
        'migrations.AddField("Tiny", "n", models.IntegerField(null=True)),',
        'migrations.AddIndex("Order", models.Index(fields=["number"], name="w_two")),',
    ),
    one(
        "w_same_table",
        HELD,
        field("a"),
        'migrations.AddIndex("Order", models.Index(fields=["number"], name="w_same")),',
    ),
    one(
        "w_triggers",
        TRIGGERS,
        run("keys"),
        'migrations.AlterField("Order", "customer", models.ForeignKey("Customer", models.PROTECT, null=True)),',
        field("a"),
    ),
    one(
        "w_text",
        "sql-concurrently-in-transaction",
        'migrations.RunSQL("SELECT 1; CREATE INDEX CONCURRENTLY w ON w_text_order (number)", migrations.RunSQL.noop),',
        atomic=False,
    ),
    one("w_field_and_index", AGAIN, field("a"), index("w_fi", "a"), atomic=False),
    one("w_field_and_data", AGAIN, field("a"), run("forward"), atomic=False),
    one("w_indexes", AGAIN, index("w_i1", "number"), index("w_i2", "fresh"), atomic=False),
    one("w_appends", AGAIN, run("append"), atomic=False),
    one("w_appends_in_batches", AGAIN + " values-do-not-come-back", run("append_in_batches"), atomic=False),
    one("w_chosen_by_another", AGAIN, run("count_up_some"), atomic=False),
    one(
        "w_unique",
        AGAIN,
        'migrations.AlterField("Order", "number", models.IntegerField(unique=True)),',
        run("forward"),
        atomic=False,
    ),
    one(
        "w_sql_twice",
        AGAIN,
        'migrations.RunSQL(["ALTER TABLE w_sql_twice_order ADD a int", "SELECT 1"], migrations.RunSQL.noop),',
        atomic=False,
    ),
    one(
        "w_sql_index_twice",
        AGAIN,
        'migrations.RunSQL(["CREATE INDEX CONCURRENTLY w_x ON w_sql_index_twice_order (number)",'
        ' "SELECT 1"], migrations.RunSQL.noop),',
        atomic=False,
    ),
    one("w_cursor_counts", AGAIN, run("cursor"), atomic=False),
    one("w_creates", AGAIN, run("create"), atomic=False),
    one("w_counts", AGAIN, run("count_up"), atomic=False),
    one(
        "w_sql_again",
        f"{AGAIN}",
        'migrations.RunSQL(["ALTER TABLE w_sql_again_order ADD a int", "SELECT 1"], migrations.RunSQL.noop),',
        run("forward"),
        atomic=False,
    ),
    one("w_not_rendered", "not-rendered", 'Asking("SELECT * FROM never_there"),', head=THIRD_PARTY),
    one("w_mystery", "unknown-operation", 'Mystery("SELECT 1"),', head=THIRD_PARTY),
    one("w_third_party", "sql-remove", 'Tune("ALTER TABLE w_third_party_order DROP COLUMN note"),', head=THIRD_PARTY),
    one("w_one_way", "irreversible", "OneWay(\"COMMENT ON TABLE w_one_way_order IS 'x'\"),", head=THIRD_PARTY),
    # harmless
    one("q_marker", "", 'Marker(""),', head=THIRD_PARTY),
    one(
        "q_one_text",
        "",
        'migrations.RunSQL("ALTER TABLE q_one_text_order ADD a int; SELECT 1", migrations.RunSQL.noop),',
        atomic=False,
    ),
    one("q_fields", "", field("a"), field("b")),
    one(
        "q_new_table",
        "",
        'migrations.CreateModel("New", [("id", models.BigAutoField(primary_key=True))]),',
        run("create"),
    ),
    one("q_few_rows", "", field("a"), run("tiny"), run("create_once")),
    one("q_index", "", index("q_i", "number"), atomic=False),
    one("q_moves_on", "values-do-not-come-back", run("count_up_once"), run("forward"), atomic=False),
    one("q_upper", "", run("upper"), run("forward"), atomic=False),
    one(
        "q_sql_moves_on",
        "",
        """migrations.RunSQL("UPDATE q_sql_moves_on_tiny SET name = name || 'x' WHERE id IN"
        " (SELECT id FROM q_sql_moves_on_tiny WHERE name NOT LIKE '%x' LIMIT 2)", migrations.RunSQL.noop),""",
        run("forward"),
        atomic=False,
    ),
    one("q_data", "", run("forward"), atomic=False),
    one("q_create_once", "", run("create_once"), atomic=False),
    one(
        "q_keys_dropped",
        "",
        run("keys"),
        'migrations.AlterField("Order", "customer",'
        ' models.ForeignKey("Customer", models.PROTECT, null=True, db_constraint=False)),',
    ),
    one("q_keys", "", run("keys")),
    one("q_one_field", "", field("a"), atomic=False),
    one(
        "q_sql_again",
        "",
        'migrations.RunSQL("ALTER TABLE q_sql_again_order ADD COLUMN IF NOT EXISTS a int", migrations.RunSQL.noop),',
        run("forward"),
        atomic=False,
    ),
    one(
        "q_state",
        "",
        field("a"),
        'migrations.AlterModelOptions("Order", {"ordering": ["number"]}),',
        'migrations.AlterField("Order", "number", models.IntegerField(help_text="x")),',
        run("tiny"),
    ),
    one("q_third_party", "", "Tune(\"COMMENT ON TABLE q_third_party_order IS 'x'\"),", head=THIRD_PARTY),
    one("q_concurrently_in_atomic", "", index("q_ca", "number")),
]


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, django_python: Callable[[str], Path]
) -> Iterator[Judged]:
    database = postgres.create_database()
    made = Project(tmp_path_factory.mktemp("whole-rules") / "project", django_python("5.2"), postgres, database)
    with judged(made, CASES) as everything:
        yield everything
    postgres.drop_database(database)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_operations_do_to_each_other(found: Judged, case: Case) -> None:
    assert rules_of(found.findings(case)) == case.expected


def test_an_operation_of_ones_own_is_told_which_method_it_lacks(found: Judged) -> None:
    [finding] = found.findings(next(case for case in CASES if case.name == "w_one_way"))
    assert "give OneWay a database_backwards()" in " ".join(finding.mitigation)


@pytest.mark.parametrize(
    ("name", "said"),
    [("w_triggers", "pending trigger events"), ("w_text", "cannot run inside a transaction block")],
)
def test_what_is_said_to_fail_does(found: Judged, name: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        found.project.manage("migrate", name)


def test_what_is_said_to_pass_does(found: Judged) -> None:
    found.project.manage("migrate", "q_keys_dropped")
    found.project.manage("migrate", "q_keys")
