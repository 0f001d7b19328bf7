# mypy: ignore-errors
# Runs inside the shop's interpreter.
"""Whether a release's ORM can still select, insert and update."""

import datetime
import time
import uuid

from django.apps import apps
from django.db import connection, models, transaction

DIFFERENT = ("email", "code", "sku", "reference", "title")  # texts that no two rows share


def use():
    """Every model's select, insert and update by the ORM of this release: each with its error, "" for none."""
    found = {}
    for model in apps.get_app_config("shop").get_models():
        found.update(tried(model))
    return {"found": found}


def tried(model):
    """One model's statements, each rolled back."""
    name, found = model.__name__, {}
    row = []

    def select():
        row.extend(model.objects.order_by("pk")[:1])

    found[f"select {name}"] = attempt(select)
    if any(isinstance(field, models.OneToOneField) for field in own(model)):
        return found  # which of the others is still free, nobody here knows
    values = {field.attname: value(field, row) for field in own(model)}
    found[f"insert {name}"] = attempt(lambda: model.objects.create(**values))
    for field in own(model):
        if field.null:
            found[f"insert {name} without {field.name}"] = attempt(
                lambda field=field: model.objects.create(**{**values, field.attname: None})
            )
        if field.max_length and not field.unique:
            longest = {field.name: "x" * field.max_length}
            if not str(values[field.attname]).isdigit():  # a text that holds numbers is given nothing else
                found[f"insert {name} with long {field.name}"] = attempt(
                    lambda longest=longest: model.objects.create(**{**values, **longest})
                )
    if row:
        found[f"update {name}"] = attempt(row[0].save)
    return found


def own(model):
    """The fields that an insert gives values for."""
    return [
        field
        for field in model._meta.local_concrete_fields
        if not field.primary_key and not getattr(field, "generated", False)
    ]


def value(field, row):
    """What the application writes there: what stands there already, or something of its own where values differ."""
    if isinstance(field, models.UUIDField):
        return uuid.uuid4()
    if not row:
        return first_value(field)
    there = getattr(row[0], field.attname)
    if isinstance(there, str) and (field.unique or field.name in DIFFERENT):
        return str(time.time_ns())[-9:] if there.isdigit() else f"new {str(time.time_ns())[-12:]}"
    if field.name == "number":
        return 2_000_000_000
    if field.name in {"placed", "delivered"} and isinstance(there, datetime.datetime):
        return there - datetime.timedelta(days=3650)
    return there


def first_value(field):
    """What is written to a table that has no row to copy."""
    if isinstance(field, (models.CharField, models.TextField)):
        return "new"[: field.max_length]
    if isinstance(field, models.ForeignKey):
        return field.related_model.objects.values_list("pk", flat=True).first()
    return field.get_default()


def attempt(action):
    """The error of an action, in a transaction that is rolled back."""
    try:
        with transaction.atomic():
            action()
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            transaction.set_rollback(True)
    except Exception as failure:  # noqa: BLE001
        return f"{type(failure).__name__}: {failure}".strip().split("\n")[0]
    return ""
