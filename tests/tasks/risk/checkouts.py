"""Checkouts of an application with orders, and what a search finds in them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tasks.risk.references import Named, search
from tests.fix_app import git

TOTAL = Named("shop", "order", "shop_order", "total", "total")
CUSTOMER = Named("shop", "order", "shop_order", "customer", "customer_id")
MODEL = Named("shop", "Order", "shop_order")
MODELS = """
from django.db import models

class OrderQuerySet(models.QuerySet):
    def large(self):
        return self.filter(created__year=2020)

class Customer(models.Model):
    name = models.CharField(max_length=50)

class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="orders")
    total = models.DecimalField(max_digits=10, decimal_places=2)
    created = models.DateTimeField()
    objects = OrderQuerySet.as_manager()
"""
BARE = MODELS.replace("    total = models.DecimalField(max_digits=10, decimal_places=2)\n", "")
Checkout = Callable[..., Path]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a function that makes a git checkout of files; an app `shop` is in it."""

    def make(files: Mapping[str, str] = {}, models: str = BARE) -> Path:
        root = tmp_path / "checkout"
        for name, text in {"shop/__init__.py": "", "shop/models.py": models, **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(textwrap.dedent(text), encoding="utf-8")
        if not (root / ".git").exists():
            git(root, "init", "--quiet")
        git(root, "add", "--all")
        return root

    return make


def found(root: Path, named: Named, *, certain: bool | None = None) -> list[tuple[str, str]]:
    """Kind and text of what was found."""
    return [
        (reference.kind, reference.text)
        for reference in search(root, named)
        if certain is None or reference.certain is certain
    ]


IMPORTS = "from shop.models import Order\nfrom django.db.models import F, Q, Sum\n"
