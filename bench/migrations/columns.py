"""Columns: added, removed, renamed, described."""

from __future__ import annotations

from bench.migrations.case import Case
from bench.migrations.shop import added

PHONE = "    phone = models.CharField(max_length=30, null=True)\n"
CITY = "city = models.CharField(max_length=50)"
REFERENCE = "    reference = models.CharField(max_length=64, null=True)\n"
DISCOUNT = "    discount = models.DecimalField(max_digits=6, decimal_places=2)\n"


def _add(name: str, model: str, column: str, field: str, **truth: tuple[str, ...]) -> Case:
    return Case(
        name,
        f"migrations.AddField({model.lower()!r}, {column!r}, {field}),",
        models=added(model, f"{column} = {field}"),
        **truth,  # type: ignore[arg-type]
    )


def _alter(name: str, model: str, column: str, field: str, old: str) -> Case:
    return Case(
        name,
        f"migrations.AlterField({model.lower()!r}, {column!r}, {field}),",
        models=((old, f"    {column} = {field}\n"),),
    )


CASES = (
    _add(
        "add_default",
        "Customer",
        "points",
        "models.IntegerField(default=0)",
        dangers=("old code",),
        reasons=("add-not-null",),
    ),
    _add(
        "add_empty_text",
        "Order",
        "remark",
        'models.CharField(max_length=20, blank=True, default="")',
        dangers=("old code",),
        reasons=("add-not-null",),
    ),
    _add(
        "add_default_to_empty_table",
        "Draft",
        "state",
        'models.CharField(max_length=20, default="new")',
        dangers=("old code",),
        reasons=("add-not-null",),
    ),
    Case(
        "add_uuid",
        "migrations.AddField('customer', 'token', models.UUIDField(default=uuid.uuid4)),",
        dangers=("old code", "one value"),
        reasons=("add-not-null", "one-value"),
        models=(
            ("from django.db import models", "import uuid\n\nfrom django.db import models"),
            *added("Customer", "token = models.UUIDField(default=uuid.uuid4)"),
        ),
    ),
    Case(
        "add_unique_uuid",
        "migrations.AddField('customer', 'token', models.UUIDField(default=uuid.uuid4, unique=True)),",
        dangers=("fails",),
        reasons=("one-value", "add-unique"),
        models=(
            ("from django.db import models", "import uuid\n\nfrom django.db import models"),
            *added("Customer", "token = models.UUIDField(default=uuid.uuid4, unique=True)"),
        ),
    ),
    Case(
        "add_nullable_uuid",
        "migrations.AddField('customer', 'token', models.UUIDField(default=uuid.uuid4, null=True)),",
        dangers=("one value",),
        reasons=("one-value",),
        models=(
            ("from django.db import models", "import uuid\n\nfrom django.db import models"),
            *added("Customer", "token = models.UUIDField(default=uuid.uuid4, null=True)"),
        ),
    ),
    Case(
        "add_created_at",
        "migrations.AddField('order', 'created', models.DateTimeField(auto_now_add=True, default=timezone.now),"
        " preserve_default=False),",
        dangers=("old code",),
        reasons=("add-not-null", "one-value"),
        models=added("Order", "created = models.DateTimeField(auto_now_add=True)"),
    ),
    Case(
        "add_random_in_database",
        "migrations.AddField('customer', 'token', models.UUIDField(db_default=RandomUUID())),",
        dangers=("blocks",),
        reasons=("volatile-default", "rewrite"),
        models=(
            (
                "from django.db import models",
                "from django.contrib.postgres.functions import RandomUUID\nfrom django.db import models",
            ),
            *added("Customer", "token = models.UUIDField(db_default=RandomUUID())"),
        ),
    ),
    _add(
        "add_stored_generated",
        "Order",
        "taxed",
        'models.GeneratedField(expression=models.F("total") * 2, output_field=models.DecimalField(max_digits=12,'
        " decimal_places=2), db_persist=True)",
        dangers=("blocks",),
        reasons=("generated", "rewrite"),
    ),
    _add(
        "add_indexed",
        "Customer",
        "segment",
        "models.CharField(max_length=20, null=True, db_index=True)",
        dangers=("blocks",),
        reasons=("index-build",),
    ),
    Case(
        "add_foreign_key",
        "migrations.AddField('item', 'warehouse', models.ForeignKey('shop.Warehouse', models.SET_NULL, null=True)),",
        dangers=("blocks",),
        reasons=("index-build", "add-foreign-key"),
        models=added("Item", "warehouse = models.ForeignKey(Warehouse, models.SET_NULL, null=True)"),
    ),
    Case(
        "remove_column",
        "migrations.RemoveField('order', 'reference'),",
        dangers=("old code", "loss"),
        reasons=("drop-column",),
        models=((REFERENCE, ""),),
    ),
    Case(
        "remove_column_of_view",
        "migrations.RemoveField('order', 'discount'),",
        dangers=("old code", "irreversible"),
        reasons=("drop-column", "view"),
        models=((DISCOUNT, ""),),
    ),
    Case(
        "forget_required_column",
        "migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField('customer', 'city')]),",
        dangers=("new code",),
        reasons=("new-code",),
        models=((f"    {CITY}\n", ""),),
    ),
    Case(
        "rename_column",
        "migrations.RenameField('customer', 'city', 'town'),",
        dangers=("old code",),
        reasons=("rename-column",),
        models=((CITY, "town = models.CharField(max_length=50)"),),
    ),
    Case(
        "move_to_other_column",
        "migrations.AlterField('customer', 'city', models.CharField(max_length=50, db_column='town')),",
        dangers=("old code",),
        reasons=("rename-column",),
        models=((CITY, "city = models.CharField(max_length=50, db_column='town')"),),
    ),
    # -- safe
    _add("add_nullable", "Customer", "nickname", "models.CharField(max_length=50, null=True)"),
    _add("add_constant_in_database", "Order", "priority", "models.IntegerField(db_default=0)"),
    Case(
        "add_now_in_database",
        "migrations.AddField('order', 'seen', models.DateTimeField(db_default=Now())),",
        models=(
            (
                "from django.db import models",
                "from django.db import models\nfrom django.db.models.functions import Now",
            ),
            *added("Order", "seen = models.DateTimeField(db_default=Now())"),
        ),
    ),
    Case(
        "add_foreign_key_without_index",
        "migrations.AddField('item', 'warehouse', models.ForeignKey('shop.Warehouse', models.SET_NULL, null=True,"
        " db_index=False)),",
        models=added("Item", "warehouse = models.ForeignKey(Warehouse, models.SET_NULL, null=True, db_index=False)"),
    ),
    Case(
        "add_many_to_many",
        "migrations.AddField('product', 'warehouses', models.ManyToManyField('shop.Warehouse')),",
        models=added("Product", "warehouses = models.ManyToManyField(Warehouse)"),
    ),
    Case(
        "forget_nullable_column",
        "migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField('customer', 'phone')]),",
        models=((PHONE, ""),),
    ),
    Case(
        "rename_field_keep_column",
        """
        migrations.AlterField('customer', 'city', models.CharField(max_length=50, db_column='city')),
        migrations.RenameField('customer', 'city', 'town'),
        """,
        models=((CITY, "town = models.CharField(max_length=50, db_column='city')"),),
    ),
    _alter(
        "choices_and_words",
        "Order",
        "status",
        'models.CharField("state", max_length=20, choices=[("a", "A"), ("b", "B")], help_text="how far it is")',
        "    status = models.CharField(max_length=20)\n",
    ),
    Case(
        "related_name",
        "migrations.AlterField('item', 'order', models.ForeignKey('shop.Order', models.PROTECT,"
        " related_name='lines')),",
        models=(
            (
                "order = models.ForeignKey(Order, models.CASCADE)",
                "order = models.ForeignKey(Order, models.PROTECT, related_name='lines')",
            ),
        ),
    ),
    _alter(
        "python_default",
        "Product",
        "weight",
        "models.IntegerField(default=1)",
        "    weight = models.IntegerField()\n",
    ),
    _alter(
        "database_default",
        "Customer",
        "active",
        "models.BooleanField(default=True, db_default=True)",
        "    active = models.BooleanField(default=True)\n",
    ),
    _alter(
        "column_comment",
        "Customer",
        "code",
        'models.CharField(max_length=20, db_comment="as printed on the card")',
        "    code = models.CharField(max_length=20)\n",
    ),
)
