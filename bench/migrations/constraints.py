"""Constraints: unique, check, foreign key, exclusion."""

from __future__ import annotations

from bench.migrations.case import Case, Step
from bench.migrations.shop import added, constrained

CODE = 'models.UniqueConstraint(fields=["code"], name="shop_customer_code_key")'
EMAIL = 'models.UniqueConstraint(fields=["email"], name="shop_customer_email_key")'
WEIGHT = 'models.CheckConstraint(condition=models.Q(weight__gte=0), name="shop_product_weight")'
STOCK = 'models.CheckConstraint(condition=models.Q(stock__gte=0), name="shop_product_stock")'
PRODUCT = "\n    class Meta:\n        constraints = [{}]\n"
OVERLAP = (
    "ExclusionConstraint(name='shop_order_overlap', expressions=[(models.Func('placed', 'delivered',"
    " function='tstzrange', output_field=DateTimeRangeField()), RangeOperators.OVERLAPS)])"
)
HUB = 'hub = models.BigIntegerField(db_column="hub_id")'
DEPOT = 'depot = models.IntegerField(db_column="depot_id")'
TO_HUB = "models.ForeignKey('shop.Warehouse', models.PROTECT, related_name='+'{})"
FOREIGN_KEY = "ALTER TABLE shop_order ADD CONSTRAINT shop_order_hub FOREIGN KEY (hub_id) REFERENCES shop_warehouse (id)"

CASES = (
    Case(
        "unique",
        f"migrations.AddConstraint('customer', {CODE}),",
        dangers=("blocks",),
        reasons=("add-unique",),
        models=constrained("Customer", CODE),
    ),
    Case(
        "unique_with_duplicates",
        f"migrations.AddConstraint('customer', {EMAIL}),",
        dangers=("fails",),
        reasons=("add-unique",),
        models=constrained("Customer", EMAIL),
    ),
    Case(
        "unique_by_field",
        "migrations.AlterField('customer', 'code', models.CharField(max_length=20, unique=True)),",
        dangers=("blocks",),
        reasons=("add-unique",),
        models=(
            (
                "code = models.CharField(max_length=20)\n    country",
                "code = models.CharField(max_length=20, unique=True)\n    country",
            ),
        ),
    ),
    Case(
        "unique_together",
        "migrations.AlterUniqueTogether('order', {('number', 'status')}),",
        dangers=("blocks",),
        reasons=("add-unique",),
        models=(
            (
                '        indexes = [\n            models.Index(fields=["status"]',
                (
                    "        unique_together = {('number', 'status')}\n        indexes = [\n"
                    '            models.Index(fields=["status"]'
                ),
            ),
        ),
    ),
    Case(
        "unique_with_condition",
        "migrations.AddConstraint('customer', models.UniqueConstraint(fields=['code'], name='shop_customer_active',"
        " condition=models.Q(active=True))),",
        dangers=("blocks",),
        reasons=("add-unique", "index-build"),
        models=constrained(
            "Customer",
            'models.UniqueConstraint(fields=["code"], name="shop_customer_active", condition=models.Q(active=True))',
        ),
    ),
    Case(
        "one_to_one",
        "migrations.AlterField('item', 'order', models.OneToOneField('shop.Order', models.CASCADE)),",
        dangers=("blocks",),
        reasons=("add-unique",),
        models=(
            ("order = models.ForeignKey(Order, models.CASCADE)", "order = models.OneToOneField(Order, models.CASCADE)"),
        ),
    ),
    Case(
        "exclusion",
        f"migrations.AddConstraint('order', {OVERLAP}),",
        dangers=("blocks",),
        reasons=("exclusion",),
        models=(
            (
                "from django.db import models",
                (
                    "from django.contrib.postgres.constraints import ExclusionConstraint\n"
                    "from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators\n"
                    "from django.db import models"
                ),
            ),
            *constrained("Order", OVERLAP),
        ),
    ),
    Case(
        "check",
        f"migrations.AddConstraint('product', {WEIGHT}),",
        dangers=("blocks",),
        reasons=("add-check",),
        models=added("Product", PRODUCT.format(WEIGHT)),
    ),
    Case(
        "check_violated",
        f"migrations.AddConstraint('product', {STOCK}),",
        dangers=("fails",),
        reasons=("add-check",),
        models=added("Product", PRODUCT.format(STOCK)),
    ),
    Case(
        "check_validated_at_once",
        f"""
        AddConstraintNotValid('product', {WEIGHT}),
        ValidateConstraint('product', 'shop_product_weight'),
        """,
        dangers=("blocks",),
        reasons=("validated-at-once", "add-check"),
        models=added("Product", PRODUCT.format(WEIGHT)),
    ),
    Case(
        "foreign_key",
        f"migrations.AlterField('order', 'hub', {TO_HUB.format(', db_index=False')}),",
        dangers=("blocks",),
        reasons=("add-foreign-key",),
        models=((HUB, f"hub = {TO_HUB.format(', db_index=False')}"),),
    ),
    Case(
        "foreign_key_of_another_type",
        f"migrations.AlterField('order', 'depot', {TO_HUB.format(', db_index=False, db_constraint=False')}),",
        dangers=("blocks",),
        reasons=("rewrite",),
        models=((DEPOT, f"depot = {TO_HUB.format(', db_index=False, db_constraint=False')}"),),
    ),
    Case(
        "foreign_key_with_orphans",
        f"migrations.AlterField('order', 'depot', {TO_HUB.format('')}),",
        dangers=("fails",),
        reasons=("add-foreign-key",),
        models=((DEPOT, f"depot = {TO_HUB.format('')}"),),
    ),
    Case(
        "sql_check",
        "migrations.RunSQL('ALTER TABLE shop_product ADD CONSTRAINT shop_product_light CHECK (weight < 1000)',"
        " 'ALTER TABLE shop_product DROP CONSTRAINT shop_product_light'),",
        dangers=("blocks",),
        reasons=("add-check",),
    ),
    Case(
        "sql_foreign_key",
        f"migrations.RunSQL('{FOREIGN_KEY}', 'ALTER TABLE shop_order DROP CONSTRAINT shop_order_hub'),",
        dangers=("blocks",),
        reasons=("add-foreign-key",),
    ),
    # -- safe
    Case(
        "check_not_valid",
        f"AddConstraintNotValid('product', {WEIGHT}),",
        models=added("Product", PRODUCT.format(WEIGHT)),
    ),
    Case(
        "validate",
        "ValidateConstraint('order', 'shop_order_total_positive'),",
    ),
    Case(
        "check_in_two_migrations",
        f"AddConstraintNotValid('product', {WEIGHT}),",
        models=added("Product", PRODUCT.format(WEIGHT)),
        more=(Step("ValidateConstraint('product', 'shop_product_weight'),"),),
    ),
    Case(
        "remove_constraint",
        "migrations.RemoveConstraint('customer', 'shop_customer_country_set'),",
        models=(
            (
                (
                    "            models.CheckConstraint(condition=models.Q(country__isnull=False),"
                    ' name="shop_customer_country_set"),\n'
                ),
                "",
            ),
        ),
    ),
    Case(
        "unique_from_concurrent_index",
        "migrations.RunSQL('CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS shop_customer_code_key"
        " ON shop_customer (code)', 'DROP INDEX CONCURRENTLY IF EXISTS shop_customer_code_key'),",
        atomic=False,
        models=constrained("Customer", CODE),
        more=(
            Step(
                "migrations.RunSQL('ALTER TABLE shop_customer ADD CONSTRAINT shop_customer_code_key UNIQUE USING INDEX"
                " shop_customer_code_key', 'ALTER TABLE shop_customer DROP CONSTRAINT shop_customer_code_key',"
                f" state_operations=[migrations.AddConstraint('customer', {CODE})]),"
            ),
        ),
    ),
    Case(
        "sql_foreign_key_in_two_migrations",
        f"migrations.RunSQL('{FOREIGN_KEY} NOT VALID', 'ALTER TABLE shop_order DROP CONSTRAINT shop_order_hub'),",
        more=(
            Step(
                "migrations.RunSQL('ALTER TABLE shop_order VALIDATE CONSTRAINT shop_order_hub',"
                " migrations.RunSQL.noop),"
            ),
        ),
    ),
    Case(
        "foreign_key_in_state_only",
        f"migrations.AlterField('order', 'hub', {TO_HUB.format(', db_index=False, db_constraint=False')}),",
        models=((HUB, f"hub = {TO_HUB.format(', db_index=False, db_constraint=False')}"),),
    ),
    Case(
        "required_by_check_in_three_migrations",
        "AddConstraintNotValid('customer', models.CheckConstraint(condition=models.Q(birthday__isnull=False),"
        " name='shop_customer_born')),",
        dangers=("old code",),
        reasons=("set-not-null", "add-check"),
        models=(("birthday = models.DateField(null=True)", "birthday = models.DateField()"),),
        more=(
            Step("ValidateConstraint('customer', 'shop_customer_born'),"),
            Step(
                """
                migrations.AlterField('customer', 'birthday', models.DateField()),
                migrations.RemoveConstraint('customer', 'shop_customer_born'),
                """
            ),
        ),
    ),
)
