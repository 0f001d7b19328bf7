"""Data migrations in Python: what holds locks, what is lost, what reaches out, and what is harmless."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fix_postgres import PostgresServer
from tests.tasks.app.django_projects import Project
from tests.tasks.risk.hand_written import ROWS, Case, Judged, judged, rules_of

UNBATCHED, LOST, NO_WAY_BACK = "unbatched-data-migration", "values-do-not-come-back", "irreversible"
REAL, OUTSIDE, UNKNOWN = "real-model-in-migration", "outside-call-in-migration", "data-migration-unknown"
FORWARD = "migrations.RunPython(forward, migrations.RunPython.noop)"
HEADER = "import time\nfrom django.db import transaction\nfrom django.db.models import F\n"


def code(body: str, before: str = "") -> str:
    """A module's head with a function `forward` that begins by getting the models."""
    lines = [f"    {line}" for line in body.strip("\n").splitlines()]
    models = [f'    {name} = apps.get_model("{{app}}", "{name}")' for name in ("Order", "Tiny", "Empty", "Customer")]
    return "\n".join([HEADER, before, "def forward(apps, schema_editor):", *models, *lines, ""])


def one(
    name: str, expected: str, body: str, *, atomic: bool = True, before: str = "", operations: str = FORWARD
) -> Case:
    return Case(name, tuple(sorted(expected.split())), operations, code(body, before), atomic)


SLICES = """
last = 0
while True:
    keys = list(Order.objects.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:1000])
    if not keys:
        break
    Order.objects.filter(pk__in=keys).update(fresh=1)
    last = keys[-1]
"""
CHUNKS = """
def chunks(rows, size):
    for start in range(0, rows.count(), size):
        yield rows[start:start + size]
"""
FLUSHED = """
batch = []
for order in Order.objects.iterator(chunk_size=500):
    order.fresh = order.number
    batch.append(order)
    if len(batch) >= 500:
        Order.objects.bulk_update(batch, ["fresh"])
        batch = []
if batch:
    Order.objects.bulk_update(batch, ["fresh"])
"""
HELPERS = """
from {app}.models import Order as RealOrder

def fill(apps):
    for order in apps.get_model("{app}", "Order").objects.all():
        order.fresh = 1
        order.save()

def count():
    return RealOrder.objects.count()
"""
NEW_MODEL = """migrations.CreateModel("New", [
    ("id", models.AutoField(primary_key=True)),
    ("n", models.IntegerField(null=True)),
]),"""
MODELS = """
from django.db import models

class Order(models.Model):
    class Meta:
        managed = False
"""

RANGES = """
for start in range(0, 50_001, 5_000):
    Order.objects.filter(pk__gt=start, pk__lte=start + 5_000).update(fresh=models.F("number") * 1)
"""
LAZY_CHUNKS = """
from itertools import islice

def chunks(rows, size):
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk
"""
NULL_BATCHES = """
for orders in chunks(Order.objects.filter(note__isnull=True).only("pk").iterator(chunk_size=500), 500):
    for order in orders:
        order.note = ""
    with transaction.atomic():
        Order.objects.bulk_update(orders, ["note"])
"""
RAW_BATCHES = """
while True:
    with transaction.atomic(), schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "UPDATE {app}_order SET fresh = 0 WHERE id IN"
            " (SELECT id FROM {app}_order WHERE fresh IS NULL ORDER BY id LIMIT 1000)"
        )
        if not cursor.rowcount:
            return
"""
STATEMENTS = """
STATEMENTS = ("SELECT 1", "SELECT 2")

def run(schema_editor, statement):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(statement)
"""
LISTED = "for statement in STATEMENTS:\n    run(schema_editor, statement)"
LAMBDAS = "migrations.RunPython(lambda apps, schema_editor: None, lambda apps, schema_editor: None)"
REFUSING = """
def refuse(apps, schema_editor):
    "No way back."
    raise NotImplementedError("cannot be undone")
"""
# Written again as the finding proposes, and run.
PROPOSED = {
    "r_update": "Order.objects.filter(number__gt=10).exclude(number=12).update(fresh=models.F('number'))",
    "r_update_value": "Order.objects.update(code='a value')",
    "r_save": "for order in Order.objects.all():\n    order.code = order.code.upper()\n    order.save()",
    "r_rows": "for order in Order.objects.all():\n    order.save()",
    "r_delete": "Order.objects.filter(number__gt=100).delete()",
    "r_delete_value": "Order.objects.filter(code__gt='a value').delete()",
    "r_sql": "schema_editor.execute('UPDATE {app}_order SET fresh = number WHERE number > 10 OR number < 5')",
    "r_sql_value": "schema_editor.execute(\"DELETE FROM {app}_order WHERE code > 'a value'\")",
}

CASES = [
    # dangerous
    one("p_loop", UNBATCHED, "for order in Order.objects.all():\n    order.fresh = order.number\n    order.save()"),
    one(
        "p_loop_iterator",
        UNBATCHED,
        "for o in Order.objects.using('default').iterator():\n    o.fresh = 1\n    o.save()",
    ),
    one("p_update", UNBATCHED, "Order.objects.update(fresh=1)"),
    one("p_update_alone", UNBATCHED, "Order.objects.update(fresh=1)", atomic=False),
    one("p_update_filtered", UNBATCHED, "Order.objects.filter(fresh__isnull=True).update(fresh=F('number'))"),
    one(
        "p_overwrites",
        f"{UNBATCHED} {LOST}",
        "for o in Order.objects.all():\n    o.code = o.code.upper()\n    o.save()",
    ),
    one("p_overwrites_few_null", f"{UNBATCHED} {LOST}", "Order.objects.update(note='')"),
    one("p_delete", f"{UNBATCHED} {LOST}", "Order.objects.filter(number__lt=2000).delete()"),
    one("p_delete_tiny", LOST, "Tiny.objects.filter(name='tiny 1').delete()"),
    one("p_bulk_update", UNBATCHED, "rows = list(Order.objects.all())\nOrder.objects.bulk_update(rows, ['fresh'])"),
    one(
        "p_bulk_update_sized",
        UNBATCHED,
        "rows = []\nfor o in Order.objects.all():\n    o.fresh = 1\n    rows.append(o)\n"
        "Order.objects.bulk_update(rows, ['fresh'], batch_size=500)",
        atomic=False,
    ),
    one("p_slices_atomic", UNBATCHED, SLICES),
    one(
        "p_slices_in_block",
        UNBATCHED,
        "with transaction.atomic():\n" + "\n".join(f"    {x}" for x in SLICES.splitlines()),
        atomic=False,
    ),
    one(
        "p_block",
        UNBATCHED,
        "with transaction.atomic():\n    for o in Order.objects.all():\n        o.fresh = 1\n        o.save()",
        atomic=False,
    ),
    one(
        "p_operation_atomic",
        UNBATCHED,
        SLICES,
        atomic=False,
        operations="migrations.RunPython(forward, migrations.RunPython.noop, atomic=True)",
    ),
    one(
        "p_helper",
        UNBATCHED,
        "fill(Order)",
        before="def fill(model):\n    for row in model.objects.all():\n        row.fresh = 1\n        row.save()\n",
    ),
    one(
        "p_raw",
        "sql-unbatched-change",
        "with schema_editor.connection.cursor() as cursor:\n    cursor.execute('UPDATE {app}_order SET fresh = 1')",
    ),
    one(
        "p_raw_table",
        "sql-unbatched-change",
        "schema_editor.execute(f'UPDATE {Order._meta.db_table} SET fresh = %s', [1])",
    ),
    one("p_raw_dynamic", UNKNOWN, "schema_editor.connection.cursor().execute(build(apps))", before="build = None\n"),
    one(
        "p_no_reverse", NO_WAY_BACK, "Tiny.objects.get_or_create(name='x')", operations="migrations.RunPython(forward)"
    ),
    one("p_real", REAL, "from django.contrib.auth.models import Group\nGroup.objects.get_or_create(name='x')"),
    one(
        "p_real_user",
        REAL,
        "User = get_user_model()\nUser.objects.filter(pk=1).exists()",
        before="from django.contrib.auth import get_user_model\n",
    ),
    one(
        "p_http",
        OUTSIDE,
        "requests.post('http://127.0.0.1/')",
        before="try:\n    import requests\nexcept ImportError:\n    requests = None\n",
    ),
    one("p_urllib", OUTSIDE, "urllib.request.urlopen('http://127.0.0.1/')", before="import urllib.request\n"),
    one(
        "p_mail",
        OUTSIDE,
        "send_mail('x', 'y', 'a@example.com', ['b@example.com'])",
        before="from django.core.mail import send_mail\n",
    ),
    one("p_task", OUTSIDE, "task.delay(1)", before="task = None\n"),
    one(
        "p_command",
        UNKNOWN,
        "call_command('loaddata', 'x')",
        before="from django.core.management import call_command\n",
    ),
    Case(
        "p_module",
        (REAL, UNBATCHED),
        FORWARD,
        "from {app}.helpers import fill, count\n\ndef forward(apps, schema_editor):\n    fill(apps)\n    count()\n",
        files={
            "{app}/helpers.py": HELPERS,
            "{app}/models.py": MODELS,
        },
    ),
    Case(
        "p_lambda",
        (UNBATCHED,),
        (
            "migrations.RunPython(lambda apps, editor: apps.get_model('{app}',"
            " 'Order').objects.update(fresh=1), migrations.RunPython.noop)"
        ),
    ),
    Case(
        "p_object",
        (UNKNOWN,),
        "migrations.RunPython(Filler(), migrations.RunPython.noop)",
        "class Filler:\n    def __call__(self, apps, schema_editor):\n        pass\n",
    ),
    one("p_editor_remove", "sql-remove", "schema_editor.remove_field(Order, Order._meta.get_field('note'))"),
    one("p_editor_drop", "sql-remove", "schema_editor.delete_model(Tiny)"),
    one(
        "p_editor_rename",
        "sql-rename sql-still-named",
        "schema_editor.alter_db_table(Order, '{app}_order', '{app}_orders')",
    ),
    one(
        "p_editor_index",
        "sql-add-index",
        "schema_editor.add_index(Order, models.Index(fields=['-number'], name='e'))",
    ),
    one(
        "p_editor_unique",
        "sql-add-constraint",
        "schema_editor.add_constraint(Order, models.UniqueConstraint(fields=['number'], name='e'))",
    ),
    one(
        "p_editor_alter",
        UNKNOWN,
        "schema_editor.alter_field(Order, Order._meta.get_field('note'), models.TextField())",
    ),
    one("p_ranges_atomic", UNBATCHED, RANGES),
    one(
        "p_raw_batches_held",
        "sql-unbatched-change",
        "with transaction.atomic():\n" + "\n".join(f"    {line}" for line in RAW_BATCHES.splitlines()),
        atomic=False,
    ),
    one(
        "p_statements",
        "sql-unbatched-change",
        LISTED,
        before=STATEMENTS.replace("SELECT 2", "UPDATE {app}_order SET fresh = 1"),
    ),
    one(
        "p_lambdas",
        UNBATCHED,
        "pass",
        operations=LAMBDAS.replace("None", "apps.get_model('{app}', 'Order').objects.update(fresh=1)", 1),
    ),
    one(
        "p_refuses",
        NO_WAY_BACK,
        "Tiny.objects.get_or_create(name='x')",
        before=REFUSING,
        operations="migrations.RunPython(forward, refuse)",
    ),
    one(
        "p_vendor",
        UNBATCHED,
        "if schema_editor.connection.vendor != 'postgresql':\n    return\nOrder.objects.update(fresh=1)",
    ),
    one(
        "p_vendor_in",
        UNBATCHED,
        "if schema_editor.connection.vendor in ('mysql', 'postgresql'):\n    Order.objects.update(fresh=1)",
    ),
    one(
        "p_values_not_named",
        f"{UNBATCHED} {LOST}",
        "values = {'code': 'x'}\nOrder.objects.update(**values)\nOrder.objects.update(**values)",
    ),
    one(
        "p_connection",
        OUTSIDE,
        "psycopg.connect('')",
        before="try:\n    import psycopg\nexcept ImportError:\n    psycopg = None\n",
    ),
    one("p_made_of_itself", UNKNOWN, "schema_editor.execute(SQL)", before="SQL = 'SELECT 1'\nSQL = SQL + ', 2'\n"),
    # harmless
    one("s_slices", "", SLICES, atomic=False),
    one(
        "s_block_inside",
        "",
        SLICES.replace(
            "    Order.objects.filter(pk__in=keys).update(fresh=1)",
            "    with transaction.atomic():\n        Order.objects.filter(pk__in=keys).update(fresh=1)",
        ),
        atomic=False,
    ),
    one(
        "s_walrus",
        "",
        (
            "left = Order.objects.filter(fresh__isnull=True)\n"
            "while Order.objects.filter(pk__in=left.values('pk')[:500]).update(fresh=1):\n    time.sleep(0)"
        ),
        atomic=False,
    ),
    one(
        "s_range",
        "",
        (
            "top = Order.objects.count()\nfor start in range(0, top, 500):\n"
            "    Order.objects.filter(pk__gte=start, pk__lt=start + 500).update(fresh=1)"
        ),
        atomic=False,
    ),
    one(
        "s_chunks",
        "",
        (
            "for rows in chunks(Order.objects.order_by('pk'), 500):\n    for row in rows:\n"
            "        row.fresh = 1\n    Order.objects.bulk_update(rows, ['fresh'])"
        ),
        atomic=False,
        before=CHUNKS,
    ),
    one(
        "s_paginator",
        "",
        (
            "pages = Paginator(Order.objects.order_by('pk'), 500)\n"
            "for number in pages.page_range:\n    rows = pages.page(number).object_list\n"
            "    for row in rows:\n        row.fresh = 1\n        row.save()"
        ),
        atomic=False,
        before="from django.core.paginator import Paginator\n",
    ),
    one("s_flushed", "", FLUSHED, atomic=False),
    one("s_saves_committed", "", "for o in Order.objects.all():\n    o.fresh = 1\n    o.save()", atomic=False),
    one("s_get_or_create", "", "for name in ['a', 'b']:\n    Tiny.objects.get_or_create(name=name)"),
    one(
        "s_create",
        "",
        "Tiny.objects.create(name='x')\nTiny.objects.bulk_create([Tiny(name='y')])\nTiny(name='z').save()",
    ),
    one(
        "s_one_row",
        "",
        "order = Order.objects.get(pk=1)\norder.number = 2\norder.save()\nOrder.objects.filter(pk=5).update(number=3)",
    ),
    one("s_literal_keys", "", "Order.objects.filter(pk__in=[1, 2, 3]).update(number=7)"),
    one("s_tiny", "", "for row in Tiny.objects.all():\n    row.name = 'x'\n    row.save()"),
    one("s_empty", "", "Empty.objects.all().delete()\nEmpty.objects.update(name='x')"),
    one("s_reads", "", "names = {o.pk: o.code for o in Order.objects.all()}\nprint(len(names))"),
    one(
        "s_raw_select",
        "",
        "with schema_editor.connection.cursor() as cursor:\n    cursor.execute('SELECT count(*) FROM {app}_order')",
    ),
    one(
        "s_raw_batches",
        "",
        (
            "with schema_editor.connection.cursor() as cursor:\n    while True:\n"
            "        cursor.execute('UPDATE {app}_order SET fresh = 1 WHERE id IN (SELECT id FROM"
            " {app}_order WHERE fresh IS NULL LIMIT 500)')\n        if not cursor.rowcount:\n"
            "            break"
        ),
        atomic=False,
    ),
    one("s_ranges", "", RANGES, atomic=False),
    one("s_raw_batches_committed", "", RAW_BATCHES, atomic=False),
    one("s_statements", "", LISTED, before=STATEMENTS),
    one("s_lambdas", "", "pass", operations=LAMBDAS),
    one("s_nulls", "", SLICES.replace("pk__gt=last", "note=None").replace("fresh=1", "note=''"), atomic=False),
    one(
        "s_null_rows",
        "",
        "for order in Order.objects.filter(note__isnull=True):\n    order.note = ''\n    order.save()",
        atomic=False,
    ),
    one("s_null_batches", "", NULL_BATCHES, atomic=False, before=LAZY_CHUNKS),
    one(
        "s_vendor",
        "",
        "if schema_editor.connection.vendor == 'sqlite':\n    schema_editor.execute('PRAGMA foreign_keys = OFF')",
    ),
    one(
        "s_vendor_else",
        "",
        "if connection.vendor.startswith('postgres'):\n    pass\nelse:\n    Order.objects.update(fresh=1)",
    ),
    one(
        "s_vendor_not",
        "",
        "if not schema_editor.connection.vendor == 'mysql':\n    return\nOrder.objects.update(fresh=1)",
    ),
    one(
        "s_router",
        "",
        "alias = router.db_for_write(Order)\nif router.allow_migrate(alias, '{app}'):\n"
        "    Tiny.objects.using(alias).get_or_create(name='x')",
        before="from django.db import router\n",
    ),
    one(
        "s_sequences",
        "",
        "for statement in schema_editor.connection.ops.sequence_reset_sql(no_style(), [Order]):\n"
        "    schema_editor.execute(statement)",
        before="from django.core.management.color import no_style\n",
    ),
    one(
        "s_composed",
        "",
        "sql.Identifier('x')",
        before="try:\n    from psycopg import sql\nexcept ImportError:\n    sql = None\n",
    ),
    one("s_editor", "", "schema_editor.execute('SELECT 1 FROM ' + schema_editor.quote_name(Order._meta.db_table))"),
    Case("s_noop", (), "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)"),
    Case(
        "s_partial",
        (UNBATCHED,),
        "migrations.RunPython(functools.partial(forward, size=3), migrations.RunPython.noop)",
        "import functools\n" + code("Order.objects.update(fresh=1)").replace("schema_editor)", "schema_editor, size)"),
    ),
    Case(
        "s_new_table",
        (),
        [
            NEW_MODEL,
            FORWARD,
        ],
        own_app=True,
        head=(
            "def forward(apps, schema_editor):\n    New = apps.get_model('{app}', 'New')\n"
            "    for row in New.objects.all():\n        row.n = 1\n        row.save()\n"
        ),
    ),
    Case(
        "s_new_column",
        (),
        ['migrations.AddField("Order", "extra", models.IntegerField(null=True))', FORWARD],
        code(SLICES.replace("fresh", "extra")),
        atomic=False,
        own_app=True,
    ),
]
CASES += [Case(name, (), FORWARD, code(body), own_app=True) for name, body in PROPOSED.items()]


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, django_python: Callable[[str], Path]
) -> Iterator[Judged]:
    database = postgres.create_database()
    made = Project(tmp_path_factory.mktemp("python-rules") / "project", django_python("5.2"), postgres, database)
    made.apps = ["django.contrib.contenttypes", "django.contrib.auth"]
    with judged(made, CASES) as everything:
        yield everything
    postgres.drop_database(database)


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in PROPOSED], ids=lambda case: case.name)
def test_what_a_data_migration_does(found: Judged, case: Case) -> None:
    assert rules_of(found.findings(case)) == case.expected


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def test_columns_that_the_code_does_not_name_are_told_as_such_and_once(found: Judged) -> None:
    said = [finding.message for finding in found.findings(named("p_values_not_named"))]
    assert len(said) == 2
    assert any("overwrites columns of shop_order;" in message for message in said)


@pytest.mark.parametrize(
    ("name", "changed", "left"),
    [
        ("r_update", "fresh = number", ROWS - 11),
        ("r_update_value", "code <> 'code ' || number", 0),
        ("r_save", "code <> 'code ' || number", 0),
        ("r_rows", "code <> 'code ' || number", 0),
        ("r_delete", "true", 100),
        ("r_delete_value", "true", ROWS),
        ("r_sql", "fresh = number", ROWS - 6),
        ("r_sql_value", "true", ROWS),
    ],
)
def test_what_is_proposed_instead_can_be_run_as_it_is_given(found: Judged, name: str, changed: str, left: int) -> None:
    case, project = named(name), found.project
    finding = next(each for each in found.findings(case) if "unbatched" in each.rule)
    assert "a value" not in " ".join((*finding.mitigation, *finding.evidence))
    [code] = [step.removeprefix("Django:\n") for step in finding.mitigation if step.startswith("Django:\n")]
    assert "isnull" not in code
    assert finding.file is not None
    (project.home / finding.file).write_text(code + "\n", encoding="utf-8")
    with psycopg.connect(project.server.dsn(project.database), autocommit=True) as connection:
        for constraint in ("old", "key"):  # which its rows violate
            connection.execute(f"ALTER TABLE {name}_order DROP CONSTRAINT {name}_{constraint}".encode())
        project.manage("migrate", name, "--verbosity=0")
        row = connection.execute(f"SELECT count(*) FROM {name}_order WHERE {changed}".encode()).fetchone()
    assert row == (left,)
