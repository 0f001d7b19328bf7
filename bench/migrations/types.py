"""Columns that change: type, length, nullability, collation."""

from __future__ import annotations

from bench.migrations.case import Case, Danger

TEXT = "models.CharField(max_length={})"


def _alter(
    name: str,
    column: str,
    old: str,
    new: str,
    dangers: tuple[Danger, ...] = (),
    reasons: tuple[str, ...] = (),
) -> Case:
    """A change of one field, given as it is and as it becomes."""
    model, field = column.split(".")
    return Case(
        name,
        f"migrations.AlterField({model!r}, {field!r}, {new}),",
        dangers=dangers,
        reasons=reasons,
        models=((f"    {field} = {old}\n", f"    {field} = {new}\n"),),
    )


NULL_TEXT = "models.CharField(max_length={}, null=True)"
DECIMAL = "models.DecimalField(max_digits={}, decimal_places={})"
INTEGER, BIG = "models.IntegerField()", "models.BigIntegerField()"

CASES = (
    _alter("integer_to_bigint", "order.number", INTEGER, BIG, ("blocks",), ("rewrite",)),
    _alter(
        "key_to_bigint",
        "product.id",
        "models.AutoField(primary_key=True)",
        "models.BigAutoField(primary_key=True)",
        ("blocks",),
        ("rewrite",),
    ),
    _alter(
        "varchar_narrowed",
        "item.label",
        TEXT.format(60),
        TEXT.format(40),
        ("blocks", "old code"),
        ("narrow", "rewrite"),
    ),
    _alter("varchar_too_narrow", "order.note", TEXT.format(500), TEXT.format(100), ("fails",), ("narrow", "rewrite")),
    _alter(
        "text_to_varchar",
        "customer.notes",
        'models.TextField(default="")',
        'models.CharField(max_length=1000, default="")',
        ("blocks",),
        ("narrow", "rewrite"),
    ),
    _alter("varchar_to_integer", "customer.code", TEXT.format(20), INTEGER, ("blocks", "loss"), ("rewrite", "cast")),
    _alter("varchar_to_integer_refused", "customer.city", TEXT.format(50), INTEGER, ("fails",), ("rewrite", "cast")),
    _alter("numeric_scale", "order.total", DECIMAL.format(10, 2), DECIMAL.format(12, 4), ("blocks",), ("rewrite",)),
    _alter(
        "time_to_date",
        "order.placed",
        "models.DateTimeField()",
        "models.DateField()",
        ("blocks", "loss"),
        ("rewrite", "cast", "narrow"),
    ),
    _alter(
        "date_to_time",
        "customer.birthday",
        "models.DateField(null=True)",
        "models.DateTimeField(null=True)",
        ("blocks",),
        ("rewrite",),
    ),
    _alter("numeric_of_view", "order.discount", DECIMAL.format(6, 2), DECIMAL.format(8, 2), ("fails",), ("view",)),
    _alter("positive_integer", "item.quantity", INTEGER, "models.PositiveIntegerField()", ("blocks",), ("add-check",)),
    _alter(
        "positive_integer_violated",
        "product.stock",
        INTEGER,
        "models.PositiveIntegerField()",
        ("fails",),
        ("add-check",),
    ),
    _alter(
        "collation_of_indexed",
        "order.status",
        TEXT.format(20),
        'models.CharField(max_length=20, db_collation="C")',
        ("blocks",),
        ("rewrite", "index-build", "collation"),
    ),
    _alter(
        "required_with_nulls", "customer.phone", NULL_TEXT.format(30), TEXT.format(30), ("fails",), ("set-not-null",)
    ),
    Case(
        "required_with_filling",
        "migrations.AlterField('customer', 'phone', models.CharField(max_length=30, default='none'),"
        " preserve_default=False),",
        dangers=("blocks", "old code", "loss"),
        reasons=("set-not-null",),
        models=((f"    phone = {NULL_TEXT.format(30)}\n", f"    phone = {TEXT.format(30)}\n"),),
    ),
    _alter(
        "required_without_nulls",
        "customer.tier",
        NULL_TEXT.format(10),
        TEXT.format(10),
        ("blocks", "old code"),
        ("set-not-null",),
    ),
    _alter(
        "required_in_empty_table",
        "draft.author",
        NULL_TEXT.format(100),
        TEXT.format(100),
        ("old code",),
        ("set-not-null",),
    ),
    # -- safe
    _alter("varchar_widened", "customer.name", TEXT.format(100), TEXT.format(200)),
    _alter(
        "unique_varchar_widened",
        "product.sku",
        "models.CharField(max_length=40, unique=True)",
        "models.CharField(max_length=80, unique=True)",
    ),
    _alter("varchar_to_text", "product.title", TEXT.format(200), "models.TextField()"),
    _alter("numeric_precision", "product.price", DECIMAL.format(10, 2), DECIMAL.format(12, 2)),
    _alter("not_required", "product.title", TEXT.format(200), NULL_TEXT.format(200)),
    _alter("required_and_checked", "customer.country", NULL_TEXT.format(2), TEXT.format(2)),
    _alter("words_of_a_field", "draft.title", TEXT.format(100), "models.CharField('subject', max_length=100)"),
    _alter("collation", "customer.city", TEXT.format(50), 'models.CharField(max_length=50, db_collation="C")'),
)
