"""The shop: models of the release that serves, and the rows of its database.

Every table but the tiny (warehouse) and the empty one (draft) has the same number of rows. Some columns have what makes
a migration fail: equal emails, missing phones, negative stock, depots that are nowhere, long notes.
"""

from __future__ import annotations

ROWS = 50_000

MODELS = """
from django.db import models


class Warehouse(models.Model):
    name = models.CharField(max_length=50)
    # Warehouse


class Customer(models.Model):
    email = models.CharField(max_length=200)
    name = models.CharField(max_length=100)
    phone = models.CharField(max_length=30, null=True)
    city = models.CharField(max_length=50)
    code = models.CharField(max_length=20)
    country = models.CharField(max_length=2, null=True)
    tier = models.CharField(max_length=10, null=True)
    joined = models.DateTimeField()
    birthday = models.DateField(null=True)
    notes = models.TextField(default="")
    active = models.BooleanField(default=True)
    # Customer

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(country__isnull=False), name="shop_customer_country_set"),
            # Customer constraints
        ]


class Product(models.Model):
    id = models.AutoField(primary_key=True)
    sku = models.CharField(max_length=40, unique=True)
    title = models.CharField(max_length=200)
    price = models.DecimalField(max_digits=10, decimal_places=2)
    stock = models.IntegerField()
    weight = models.IntegerField()
    # Product


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE)
    number = models.IntegerField()
    status = models.CharField(max_length=20)
    total = models.DecimalField(max_digits=10, decimal_places=2)
    discount = models.DecimalField(max_digits=6, decimal_places=2)
    placed = models.DateTimeField()
    delivered = models.DateTimeField()
    reference = models.CharField(max_length=64, null=True)
    depot = models.IntegerField(db_column="depot_id")
    hub = models.BigIntegerField(db_column="hub_id")
    note = models.CharField(max_length=500)
    # Order

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(total__gte=0), name="shop_order_total_positive"),
            # Order constraints
        ]
        indexes = [
            models.Index(fields=["status"], name="shop_order_status"),
            # Order indexes
        ]


class Item(models.Model):
    order = models.ForeignKey(Order, models.CASCADE)
    product = models.ForeignKey(Product, models.CASCADE)
    quantity = models.IntegerField()
    label = models.CharField(max_length=60)
    # Item


class Draft(models.Model):
    title = models.CharField(max_length=100)
    author = models.CharField(max_length=100, null=True)
    # Draft


class Message(models.Model):
    text = models.TextField()
    # Message


class Coupon(models.Model):
    code = models.CharField(max_length=30)
    percent = models.IntegerField()
    # Coupon
"""

TABLES = ("warehouse", "customer", "product", "order", "item", "draft", "message", "coupon")
BEFORE = "bench_before"  # schema with a copy of every table, to compare with

# {rows} is the number of rows.
FILL = (
    "INSERT INTO shop_warehouse (name) SELECT 'warehouse ' || i FROM generate_series(1, 5) i",
    (
        "INSERT INTO shop_customer (email, name, phone, city, code, country, tier, joined, birthday, notes, active)"
        " SELECT 'c' || (CASE WHEN i % 5000 = 0 THEN 1 ELSE i END) || '@example.com', 'Customer ' || i,"
        " CASE WHEN i % 2 = 0 THEN '+49 30 ' || i END, 'City ' || i % 500, lpad(i::text, 8, '0'), 'DE', 'gold',"
        " '2020-01-01'::timestamptz + i * interval '1 minute', '1980-01-01'::date + i % 9000,"
        " repeat('a note ', 20), i % 3 > 0 FROM generate_series(1, {rows}) i"
    ),
    (
        "INSERT INTO shop_product (sku, title, price, stock, weight) SELECT 'sku-' || i, 'Product number ' || i,"
        " i % 1000 + 0.99, CASE WHEN i % 1000 = 0 THEN -1 ELSE i % 300 END, i % 40 FROM generate_series(1, {rows}) i"
    ),
    (
        "INSERT INTO shop_order (customer_id, number, status, total, discount, placed, delivered, reference, depot_id,"
        " hub_id, note) SELECT i, i, 'status ' || i % 7, i % 900 + 0.5, 1.5, '2021-01-01'::timestamptz + i * interval"
        " '1 hour', '2021-01-01'::timestamptz + i * interval '1 hour' + interval '30 minutes',"
        " CASE WHEN i % 3 > 0 THEN 'ref-' || i END, CASE WHEN i % 1000 = 0 THEN 99 ELSE i % 5 + 1 END, i % 5 + 1,"
        " repeat('x', CASE WHEN i % 1000 = 0 THEN 400 ELSE 80 END) FROM generate_series(1, {rows}) i"
    ),
    (
        "INSERT INTO shop_item (order_id, product_id, quantity, label) SELECT i, i, i % 9 + 1, 'label ' || i"
        " FROM generate_series(1, {rows}) i"
    ),
    "INSERT INTO shop_message (text) SELECT repeat('hello ', 20) || i FROM generate_series(1, {rows}) i",
    "INSERT INTO shop_coupon (code, percent) SELECT 'coupon ' || i, i % 50 FROM generate_series(1, {rows}) i",
    (
        "ALTER TABLE shop_order DROP CONSTRAINT shop_order_total_positive,"
        " ADD CONSTRAINT shop_order_total_positive CHECK (total >= 0) NOT VALID"
    ),
    "CREATE VIEW shop_discounts AS SELECT id, discount FROM shop_order WHERE discount > 1",
    "CREATE VIEW shop_coupons AS SELECT code FROM shop_coupon WHERE percent > 10",
    f"CREATE SCHEMA {BEFORE}",
    *(f"CREATE TABLE {BEFORE}.shop_{table} AS TABLE public.shop_{table}" for table in TABLES),
    "VACUUM ANALYZE",
)


def release(*changes: tuple[str, str]) -> str:
    """The text of models.py with changes.

    Raises:
        ValueError: A text to be replaced is not there, or not once.
    """
    text = MODELS.lstrip()
    for old, new in changes:
        if text.count(old) != 1:
            raise ValueError(f"{old!r} is {text.count(old)} times in the models")
        text = text.replace(old, new)
    return text


def added(model: str, line: str) -> tuple[tuple[str, str], ...]:
    """The change that adds a line to a model."""
    marker = f"    # {model}\n"
    return ((marker, f"    {line}\n{marker}"),)


def constrained(model: str, line: str) -> tuple[tuple[str, str], ...]:
    """The change that adds a constraint."""
    return ((f"# {model} constraints", f"{line},\n            # {model} constraints"),)


def indexed(line: str, model: str = "Order") -> tuple[tuple[str, str], ...]:
    """The change that adds an index."""
    if model == "Order":
        return (("# Order indexes", f"{line},\n            # Order indexes"),)
    return added(model, f"\n    class Meta:\n        indexes = [{line}]\n")
