"""Which lines of a checkout name a field, a table or a model, and which only look as if they did."""

from __future__ import annotations

import pytest

from tasks.risk.references import Named, examine, search
from tests.tasks.risk.checkouts import BARE, CUSTOMER, IMPORTS, MODEL, MODELS, TOTAL, Checkout, checkout, found

__all__ = ["checkout"]

CERTAIN = {
    "filter": ("query", "Order.objects.filter(total=1)"),
    "lookup": ("query", "Order.objects.exclude(total__gt=1)"),
    "order_by": ("query", "Order.objects.all().order_by('-total')"),
    "values": ("query", "Order.objects.values('id', 'total')"),
    "after values": ("query", "Order.objects.values_list('id').filter(total=1)"),
    "only": ("query", "Order.objects.only('total')"),
    "defer": ("query", "Order.objects.defer('total')"),
    "aggregate": ("query", "Order.objects.aggregate(s=Sum('total'))"),
    "annotate": ("query", "Order.objects.annotate(double=F('total') * 2)"),
    "Q": ("query", "Order.objects.filter(Q(id=1) | Q(total__lt=3))"),
    "F": ("query", "Order.objects.update(created=F('total'))"),
    "create": ("query", "Order.objects.create(total=3)"),
    "defaults": ("query", "Order.objects.get_or_create(id=1, defaults={'total': 3})"),
    "bulk_update": ("query", "Order.objects.bulk_update([], ['total'])"),
    "own method": ("query", "Order.objects.large().filter(total=3)"),
    "save": ("query", "Order.objects.get(id=1).save(update_fields=['total'])"),
    "constructor": ("constructor", "Order(total=4)"),
    "attribute": ("attribute", "print(Order.objects.first().total)"),
    "shortcut": ("attribute", "print(get_object_or_404(Order, pk=1).total)"),
    "loop": ("attribute", "[each.total for each in Order.objects.all()]"),
    "other model": ("query", "Anything.objects.filter(customer__orders__total__gt=5)"),
    "prefix": ("query", "thing.values('orders__total')"),
    "module": ("query", "shop.models.Order.objects.filter(total=1)"),
    "get_model": ("query", "apps.get_model('shop', 'Order').objects.filter(total=1)"),
    "SQL": ("SQL", "cursor.execute('SELECT id, total FROM shop_order WHERE id = %s', [1])"),
    "SQL alias": ("SQL", "cursor.execute('SELECT o.total FROM shop_order o JOIN other x ON x.id = o.id')"),
    "SQL insert": ("SQL", "cursor.execute('INSERT INTO \"shop_order\" (id, total) VALUES (1, 2)')"),
    "SQL update": ("SQL", "cursor.execute(f'UPDATE public.shop_order SET total = 0 WHERE id = {key}')"),
    "SQL joined": ("SQL", "run('SELECT total ' + 'FROM shop_order WHERE ' + condition)"),
}

NOTHING = {
    "other model": "Other.objects.filter(total=1)",
    "annotation": "Other.objects.annotate(total=Sum('x'))",
    "method": "print(cart.total())",
    "variable": "total = 3\nprint(total)",
    "keyword of a function": "render(total=3)",
    "value": "Order.objects.filter(status='total')",
    "literal": "Order.objects.annotate(kind=Value('total'))",
    "other relation": "Order.objects.filter(customer__total=1)",
    "docstring": '"""SELECT total FROM shop_order"""',
    "comment": "x = 1  # SELECT total FROM shop_order",
    "SQL of another table": "cursor.execute('SELECT total FROM shop_item')",
    "SQL of another alias": "cursor.execute('SELECT i.total FROM shop_order o JOIN shop_item i ON i.id = o.id')",
    "SQL literal": "cursor.execute(\"SELECT id FROM shop_order WHERE kind = 'total'\")",
    "SQL result": "cursor.execute('SELECT count(*) AS total FROM shop_order')",
    "SQL parameter": "cursor.execute('SELECT id FROM shop_order WHERE id = %(total)s', {})",
    "SQL comment": "cursor.execute('SELECT id FROM shop_order -- total')",
    "outer": "Order.objects.filter(id=OuterRef('total'))",
    "attribute of self elsewhere": "class Cart:\n    def show(self):\n        return self.total",
    "attribute of a module": "import settings\nprint(settings.total)",
}

POSSIBLE = {
    "unknown object": ("attribute", "def show(order):\n    return order.total"),
    "unknown query": ("query", "def narrowed(queryset):\n    return queryset.filter(total=1)"),
    "string": ("string", "COLUMNS = ('id', 'total')"),
    "split string": ("string", "COLUMNS = 'id total created'.split()"),
    "SQL of two tables": ("SQL", "cursor.execute('SELECT total FROM shop_order o JOIN shop_item i ON true')"),
    "no statement": ("SQL", "log('the total from shop_order is wrong')"),
    "assigned": ("attribute", "order = Order()\norder.total = 3"),
}


@pytest.mark.parametrize("case", CERTAIN)
def test_certain_use(checkout: Checkout, case: str) -> None:
    kind, code = CERTAIN[case]
    root = checkout({"web/views.py": IMPORTS + f"import shop.models\n\ndef view():\n    {code}\n"})
    [reference] = search(root, TOTAL)
    assert (reference.kind, reference.certain) == (kind, True)
    assert (reference.file, reference.line, reference.text) == ("web/views.py", 6, code)


@pytest.mark.parametrize("case", NOTHING)
def test_what_only_looks_like_a_use(checkout: Checkout, case: str) -> None:
    root = checkout({"web/views.py": IMPORTS + "from elsewhere import Other\n\n" + NOTHING[case] + "\n"})
    assert found(root, TOTAL, certain=True) == []
    assert [kind for kind, _ in found(root, TOTAL, certain=False) if kind != "string"] == []


@pytest.mark.parametrize("case", POSSIBLE)
def test_possible_use(checkout: Checkout, case: str) -> None:
    kind, code = POSSIBLE[case]
    root = checkout({"web/views.py": IMPORTS + code + "\n"})
    assert [kind for kind, _ in found(root, TOTAL)] == [kind]
    assert found(root, TOTAL, certain=True) == []


def test_variables_are_followed(checkout: Checkout) -> None:
    code = """
    from shop.models import Order

    def report(recent: "Order", either):
        orders = Order.objects.filter(created__year=2020)
        large = orders.order_by("-total")
        for order in large:
            print(order.total)
        newest = large[0]
        print(newest.total, either.total)
        made, created = Order.objects.get_or_create(id=1)
        print(made.total)
        return recent.total

    async def later():
        order = await Order.objects.aget(id=2)
        return order.total

    def changing(order):
        order = Order.objects.first() if order is None else order
        return order.total
    """
    root = checkout({"web/views.py": code})
    lines = [(reference.line, reference.certain) for reference in search(root, TOTAL)]
    assert lines == [(6, True), (8, True), (10, True), (12, True), (13, True), (17, True), (21, False)]


def test_definition_is_first_and_decides(checkout: Checkout) -> None:
    root = checkout({"web/views.py": IMPORTS + "Order.objects.filter(total=1)\n"}, models=MODELS)
    first, second = search(root, TOTAL)
    assert (first.kind, first.file, first.line) == ("model definition", "shop/models.py", 13)
    assert second.kind == "query"
    assert examine(root, TOTAL).complete


def test_definition_in_a_base_and_in_a_package_of_models(checkout: Checkout) -> None:
    files = {
        "src/apps/sales/apps.py": 'class SalesConfig:\n    name = "apps.sales"\n    label = "shop"\n',
        "src/apps/sales/models/__init__.py": "from .order import Order\n",
        "src/apps/sales/models/priced.py": (
            "from django.db import models\n\nclass Priced(models.Model):\n    total: int = models.IntegerField()\n\n"
            "    class Meta:\n        abstract = True\n"
        ),
        "src/apps/sales/models/order.py": "from apps.sales.models.priced import Priced\n\nclass Order(Priced):\n    x = 1\n",  # noqa: E501
        "src/web.py": "from apps.sales.models import Order\n\nOrder.objects.filter(total=1)\n",
        "shop/models.py": "",
    }
    root = checkout(files)
    assert [(reference.file, reference.kind) for reference in search(root, TOTAL) if reference.certain] == [
        ("src/apps/sales/models/priced.py", "model definition"),
        ("src/web.py", "query"),
    ]
    assert examine(root, TOTAL).complete


def test_model_with_a_base_from_elsewhere_is_not_fully_known(checkout: Checkout) -> None:
    models = "from payments.models import Priced\n\nclass Order(Priced):\n    pass\n"
    assert not examine(checkout(models=models), TOTAL).complete
    assert not examine(checkout(models=""), TOTAL).complete


def test_foreign_key_has_two_names(checkout: Checkout) -> None:
    code = IMPORTS + (
        "Order.objects.select_related('customer')\nOrder.objects.filter(customer_id=1)\nprint(Order().customer_id)\n"
        "Order.objects.filter(customer__name='x')\nthing.customer.name\nthing.filter(customer_id=4)\n"
    )
    root = checkout({"web/views.py": code})
    assert [kind for kind, _ in found(root, CUSTOMER, certain=True)] == [
        "model definition",
        "query",
        "query",
        "attribute",
        "query",
    ]
    assert [kind for kind, _ in found(root, CUSTOMER, certain=False)] == ["attribute", "query"]


def test_column_of_another_name(checkout: Checkout) -> None:
    models = MODELS.replace("decimal_places=2", 'decimal_places=2, db_column="amount"')
    root = checkout({"a.sql": "SELECT amount FROM shop_order;\nSELECT total FROM shop_order;"}, models=models)
    by_column = Named(None, None, "shop_order", None, "amount")
    assert [(r.kind, r.line) for r in search(root, by_column)] == [("model definition", 13), ("SQL", 1)]
    # The field now has another column, so the old one is not the field's.
    assert [(r.kind, r.line) for r in search(root, TOTAL) if r.certain] == [("SQL", 2)]


def test_table_that_the_model_names_itself(checkout: Checkout) -> None:
    models = MODELS + '\n    class Meta:\n        db_table = "Orders of old"\n'
    root = checkout({"a.sql": 'SELECT total FROM "Orders of old";'}, models=models)
    [definition, used] = search(root, Named(None, None, "Orders of old", None, "total"))
    assert (definition.kind, used.kind, used.certain) == ("model definition", "SQL", True)
    assert search(root, Named(None, None, "shop_order", None, "total")) == ()


def test_own_methods_meta_and_managers(checkout: Checkout) -> None:
    body = """
    class Meta:
        ordering = ["-total"]
        indexes = [models.Index(fields=["total"], name="total")]
        constraints = [
            models.CheckConstraint(check=models.Q(total__gt=0), name="some"),
            models.UniqueConstraint(fields=["customer"], name="total"),
        ]

    def __str__(self):
        return str(self.total)
"""
    models = BARE.replace("return self.filter(created__year=2020)", "return self.filter(total__gt=100)") + body
    assert [kind for kind, _ in found(checkout(models=models), TOTAL, certain=True)] == [
        "query",
        "options",
        "options",
        "options",
        "attribute",
    ]


def test_forms_admin_serializers_and_views(checkout: Checkout) -> None:
    code = """
    from django.contrib import admin
    from shop.models import Order

    @admin.register(Order)
    class OrderAdmin(admin.ModelAdmin):
        list_display = ("id", "total")

    class OtherAdmin(admin.ModelAdmin):
        fieldsets = [(None, {"fields": ["total"]})]

    admin.site.register(Order, OtherAdmin)

    class OrderForm(ModelForm):
        class Meta:
            model = Order
            fields = ["id", "total"]

    class OrderView(ListView):
        queryset = Order.objects.all()
        ordering = "-total"

        def get(self):
            return self.get_queryset().filter(total=1)

    class Declared(ModelSerializer):
        total = SerializerMethodField()

        class Meta:
            model = Order
            fields = ["total"]

    class Unrelated(ModelForm):
        class Meta:
            model = Customer
            fields = ["total"]
    """
    root = checkout({"shop/admin.py": code})
    assert [r.line for r in search(root, TOTAL) if r.certain] == [7, 10, 17, 21, 24]


def test_property_of_the_name_is_no_column(checkout: Checkout) -> None:
    models = BARE + "\n    @property\n    def total(self):\n        return 3\n"
    root = checkout({"web.py": IMPORTS + "print(Order.objects.first().total)\nOrder.objects.filter(total=1)\n"}, models)
    assert [kind for kind, _ in found(root, TOTAL)] == ["query"]


def test_annotation_of_the_name_makes_queries_doubtful(checkout: Checkout) -> None:
    code = IMPORTS + "Order.objects.annotate(total=Sum('items__price')).filter(total__gt=3)\n"
    root = checkout({"web.py": code})
    assert found(root, TOTAL, certain=True) == []
    assert [kind for kind, _ in found(root, TOTAL)] == ["query"]


def test_model_by_import_string_and_relation(checkout: Checkout) -> None:
    files = {
        "web.py": "from shop.models import Order\nfrom other.models import Order as Different\n",
        "far.py": "from shop import models\n\nmodels.Order.objects.all()\n",
        "other/models.py": 'from django.db import models\n\nclass X(models.Model):\n    o = models.ForeignKey("shop.Order")\n',  # noqa: E501
        "shop/more.py": 'from django.db.models import ForeignKey\n\nfk = ForeignKey("Order", on_delete=1)\n',
        "app.py": "Order = apps.get_model('shop', 'order')\n",
        "raw.sql": "SELECT * FROM shop_order; SELECT * FROM shop_orders;",
        "noise.py": 'from . import Order\nprint("Order", "shop.order.created", "shop_order")\n',
    }
    root = checkout(files, models="from django.db import models\n")
    certain = [(reference.file, reference.kind) for reference in search(root, MODEL) if reference.certain]
    assert certain == [
        ("app.py", "model string"),
        ("far.py", "name"),
        ("other/models.py", "model string"),
        ("raw.sql", "SQL"),
        ("shop/more.py", "model string"),
        ("web.py", "import"),
    ]


def test_model_that_is_still_there_or_goes_by_an_alias(checkout: Checkout) -> None:
    root = checkout({"web.py": "from shop.models import Order\n"})
    assert search(root, MODEL)[0].kind == "model definition"
    renamed = BARE.replace("class Order(", "class Purchase(") + "\n\nOrder = Purchase\n"
    root = checkout({"web.py": "from shop.models import Order\n"}, models=renamed)
    assert [(kind, text) for kind, text in found(root, MODEL, certain=True)] == []
