"""Migrations of data by Python."""

from __future__ import annotations

from bench.migrations.case import Case, Danger, Step
from bench.migrations.shop import added


def _python(
    name: str,
    body: str,
    dangers: tuple[Danger, ...] = (),
    reasons: tuple[str, ...] = (),
    *,
    reverse: str | None = None,
    atomic: bool = True,
    head: str = "",
) -> Case:
    """Python with a body; `reverse` is the body of the way back, "noop" for none, None where there is none."""
    functions = f"def forwards(apps, schema_editor):\n{_indented(body)}"
    back = ", migrations.RunPython.noop" if reverse == "noop" else ""
    if reverse not in (None, "noop"):
        functions += f"\n\n\ndef backwards(apps, schema_editor):\n{_indented(reverse or '')}"
        back = ", backwards"
    return Case(
        name,
        f"migrations.RunPython(forwards{back}),",
        dangers=dangers,
        reasons=reasons,
        head=head + functions,
        atomic=atomic,
    )


def _indented(body: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in body.strip().split("\n"))


MODEL = "Customer = apps.get_model('shop', 'Customer')\n"
IN_BATCHES = """
Customer = apps.get_model('shop', 'Customer')
last = 0
while True:
    ids = list(Customer.objects.filter(pk__gt=last).order_by('pk').values_list('pk', flat=True)[:1000])
    if not ids:
        break
    Customer.objects.filter(pk__in=ids{condition}).update({change})
    last = ids[-1]
"""
BACK_IN_BATCHES = IN_BATCHES.format(condition=", tier='silver'", change="tier='gold'")

CASES = (
    _python(
        "row_by_row",
        MODEL + "for customer in Customer.objects.all():\n    customer.tier = 'silver'\n    customer.save()",
        ("row by row", "row locks"),
        ("unbatched", "whole-table"),
        reverse=MODEL + "Customer.objects.update(tier='gold')",
    ),
    _python(
        "whole_table_update",
        MODEL + "Customer.objects.filter(tier='gold').update(tier='silver')",
        ("row locks",),
        ("whole-table", "unbatched"),
        reverse=MODEL + "Customer.objects.filter(tier='silver').update(tier='gold')",
    ),
    _python(
        "batches_in_one_transaction",
        IN_BATCHES.format(condition=", tier='gold'", change="tier='silver'"),
        ("row locks",),
        ("whole-table", "unbatched"),
        reverse=BACK_IN_BATCHES,
    ),
    _python(
        "bulk_update",
        MODEL + "customers = list(Customer.objects.only('pk', 'tier'))\nfor customer in customers:\n"
        "    customer.tier = 'silver'\nCustomer.objects.bulk_update(customers, ['tier'], batch_size=2000)",
        ("row locks",),
        ("whole-table", "unbatched"),
        reverse=MODEL + "Customer.objects.update(tier='gold')",
    ),
    _python(
        "cursor_update",
        "with schema_editor.connection.cursor() as cursor:\n"
        "    cursor.execute(\"UPDATE shop_customer SET tier = 'silver'\")",
        ("row locks",),
        ("whole-table", "unbatched"),
        reverse="schema_editor.execute(\"UPDATE shop_customer SET tier = 'gold'\")",
    ),
    _python(
        "overwritten_for_good",
        IN_BATCHES.format(condition="", change="city='unknown'"),
        ("loss",),
        ("loss",),
        reverse="noop",
        atomic=False,
    ),
    _python(
        "no_way_back",
        "Warehouse = apps.get_model('shop', 'Warehouse')\nWarehouse.objects.get_or_create(name='new')",
        ("irreversible",),
        ("irreversible",),
    ),
    _python(
        "delete_all",
        "apps.get_model('shop', 'Message').objects.all().delete()",
        ("loss", "row locks"),
        ("loss", "whole-table"),
        reverse="noop",
    ),
    _python(
        "counted_twice",
        IN_BATCHES.format(condition="", change="notes=models.functions.Concat('notes', models.Value('.'))").replace(
            "models.functions.", ""
        ),
        ("not repeatable", "loss"),
        ("not-repeatable",),
        reverse="noop",
        atomic=False,
        head="from django.db.models.functions import Concat\n\n\n",
    ),
    Case(
        "real_models",
        "migrations.RunPython(forwards, migrations.RunPython.noop),",
        dangers=("real models",),
        reasons=("real-models",),
        head="""
def forwards(apps, schema_editor):
    from shop.models import Warehouse

    Warehouse.objects.get_or_create(name='returns')
""",
        later=added("Warehouse", "street = models.CharField(max_length=50, null=True)"),
    ),
    Case(
        "schema_and_data",
        """
        migrations.AddField('customer', 'rank', models.CharField(max_length=10, null=True)),
        migrations.RunPython(forwards, migrations.RunPython.noop),
        """,
        dangers=("blocks", "row locks"),
        reasons=("mixed", "whole-table"),
        models=added("Customer", "rank = models.CharField(max_length=10, null=True)"),
        head="""
def forwards(apps, schema_editor):
    apps.get_model('shop', 'Customer').objects.update(rank='first')
""",
    ),
    # -- safe
    _python(
        "batches",
        IN_BATCHES.format(condition=", tier='gold'", change="tier='silver'"),
        reverse=BACK_IN_BATCHES,
        atomic=False,
    ),
    Case(
        "filled_in_batches",
        "migrations.AddField('customer', 'rank', models.CharField(max_length=10, null=True)),",
        models=added("Customer", "rank = models.CharField(max_length=10, null=True)"),
        more=(
            Step(
                "migrations.RunPython(forwards, migrations.RunPython.noop),",
                atomic=False,
                head="""
def forwards(apps, schema_editor):
    Customer = apps.get_model('shop', 'Customer')
    while True:
        ids = Customer.objects.filter(rank__isnull=True).values_list('pk', flat=True)[:1000]
        if not Customer.objects.filter(pk__in=list(ids)).update(rank='first'):
            break
""",
            ),
        ),
    ),
    _python(
        "fixed_rows",
        "Warehouse = apps.get_model('shop', 'Warehouse')\nfor name in ('north', 'south'):\n"
        "    Warehouse.objects.get_or_create(name=name)",
        reverse="apps.get_model('shop', 'Warehouse').objects.filter(name__in=('north', 'south')).delete()",
    ),
    _python(
        "one_row",
        "apps.get_model('shop', 'Warehouse').objects.filter(pk=1).update(name='main')",
        reverse="apps.get_model('shop', 'Warehouse').objects.filter(pk=1).update(name='warehouse 1')",
    ),
    _python(
        "tiny_table_row_by_row",
        "for warehouse in apps.get_model('shop', 'Warehouse').objects.all():\n"
        "    warehouse.name = warehouse.name.upper()\n    warehouse.save()",
        reverse="for warehouse in apps.get_model('shop', 'Warehouse').objects.all():\n"
        "    warehouse.name = warehouse.name.lower()\n    warehouse.save()",
    ),
    Case("nothing", "migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop),"),
    _python(
        "reads_only",
        MODEL + "if Customer.objects.filter(country__isnull=True).exists():\n"
        "    raise RuntimeError('customers without a country')",
        reverse="noop",
    ),
    Case(
        "rows_of_new_table",
        "migrations.CreateModel('Tag', [('id', models.BigAutoField(primary_key=True)),"
        " ('name', models.CharField(max_length=20))]),",
        models=(
            (
                "class Draft(",
                (
                    "class Tag(models.Model):\n    id = models.BigAutoField(primary_key=True)\n"
                    "    name = models.CharField(max_length=20)\n\n\nclass Draft("
                ),
            ),
        ),
        more=(
            Step(
                "migrations.RunPython(forwards, migrations.RunPython.noop),",
                head="""
def forwards(apps, schema_editor):
    Tag = apps.get_model('shop', 'Tag')
    Tag.objects.bulk_create([Tag(name='new'), Tag(name='old')])
    Tag.objects.update(name='tag')
""",
            ),
        ),
    ),
)
