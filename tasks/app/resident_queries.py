# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""Try what the application's models ask of the database: select, count, insert and update, as the ORM words them.

No instance of a model is made, so that no signal, no save() and no file of the application is touched; every query is
rolled back. Rows to insert are copies of one that is there, with new keys, or made up from the fields' types. Three
are tried: the copy; one with NULL wherever the model allows it; one with the longest strings and the greatest numbers
that the model allows. What fails for the made-up row's own sake says nothing and is marked so.
"""

import datetime
import decimal
import random
import uuid
from types import SimpleNamespace

from django.apps import apps
from django.db import Error, connections, models, router, transaction
from django.db.models import sql
from django.db.models.query import QuerySet
from django.utils import timezone

LIMITS = "SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '2s'"
# unique, foreign key, exclusion, check; a lock, a timeout; a row too large for an index
INCONCLUSIVE = {"23505", "23503", "23P01", "23514", "55P03", "57014", "54000"}
INTEGERS = ("SmallIntegerField", "IntegerField", "BigIntegerField")
TEXTS = ("CharField", "TextField", "SlugField", "FileField", "FilePathField")
AUTOMATIC = ("AutoField", "BigAutoField", "SmallAutoField")
POSITIVE = tuple("Positive" + name for name in INTEGERS)


class Unknown(Exception):  # noqa: N818 - not a failure of the application
    """No value could be made up."""


class Tried:
    """Tries queries one by one and keeps how each went."""

    def __init__(self, alias, problem):
        self.alias, self.problem, self.found = alias, problem, []

    def one(self, what, query):
        """Run one query in a transaction of its own, which is rolled back; its result, or None."""
        connection, sent = connections[self.alias], []

        def listen(execute, statement, params, many, context):
            sent.append(str(statement))
            return execute(statement, params, many, context)

        result = error = None
        inconclusive = False
        try:
            with transaction.atomic(using=self.alias):
                with connection.cursor() as cursor:
                    cursor.execute(LIMITS)
                try:
                    with connection.execute_wrapper(listen):
                        result = query()
                finally:
                    transaction.set_rollback(True, using=self.alias)
        except Error as caught:
            error = self.problem(caught)
            inconclusive = error["sqlstate"] is None or error["sqlstate"] in INCONCLUSIVE
        except Exception as caught:  # noqa: BLE001 - a field's own code, or no value: the database was not asked
            error, inconclusive = self.problem(caught), True
        self.found.append(
            {
                "what": what,
                "query": sent[-1] if sent else "",
                "error": error and "{}: {}".format(error["type"].rpartition(".")[2], error["message"]),
                "sqlstate": error and error["sqlstate"],
                "inconclusive": inconclusive,
            }
        )
        return result


def wanted_models(alias, tables):
    """The managed models of the database; with tables, those on them and their neighbours."""
    everything = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.can_migrate(alias) and router.allow_migrate_model(alias, model)
    ]
    if tables is None:
        return everything
    near = {model for model in everything if model._meta.db_table in tables}
    for model in everything:
        targets = {field.related_model for field in model._meta.concrete_fields if field.related_model}
        targets = {target._meta.concrete_model for target in targets if hasattr(target, "_meta")}
        if model._meta.db_table in tables:
            near |= targets
        elif any(target._meta.db_table in tables for target in targets):
            near.add(model)
    return [model for model in everything if model in near]


def use(alias, tables, problem):
    """Try every model; how each query went."""
    tried = Tried(alias, problem)
    for model in wanted_models(alias, tables):
        name = model._meta.label
        columns = [field.attname for field in model._meta.concrete_fields]
        rows = model._base_manager.using(alias).order_by()
        found = tried.one("select " + name, lambda rows=rows, columns=columns: list(rows.values(*columns)[:1]))
        tried.one("count " + name, rows.count)
        row = Row(alias, model, found[0] if found else None)
        tried.one("insert " + name, lambda row=row: row.insert(model=row.model))
        if any(field.null and not field.primary_key for field in model._meta.local_concrete_fields):
            tried.one(f"insert {name} with NULLs", lambda row=row: row.insert(row.model, row.nulls))
        if any(limit_of(field, connections[alias]) is not None for field in model._meta.local_concrete_fields):
            tried.one(f"insert {name} at its limits", lambda row=row: row.insert(row.model, row.limits))
        if row.changeable:
            tried.one("update " + name, row.update)
    return tried.found


class Row:
    """A row of one model: an existing one, or made up."""

    def __init__(self, alias, model, existing):
        self.alias, self.model, self.existing = alias, model, existing
        self.connection = connections[alias]
        self.keys = keys_of(model)
        self.changeable = [field for field in written(model) if field not in self.keys]

    def value(self, field):
        """The value of a field as it is, or made up."""
        if self.existing is not None and field.attname in self.existing:
            return self.existing[field.attname]
        return made_up(field, self.alias)

    def insert(self, model, change=None):
        """Insert a row, that of the parents first; its key."""
        meta = model._meta
        values = {}
        for parent, link in meta.parents.items():
            if link is not None:
                values[link.attname] = self.insert(parent)
        together = set_apart(model)
        fields = [field for field in written(model) if not (field.primary_key and automatic(field))]
        for field in fields:
            if field.attname in values:
                continue
            if field.primary_key or field.unique or field in together:
                values[field.attname] = another(field, lambda field=field: self.value(field))
            else:
                changed = change(field) if change else None
                values[field.attname] = self.value(field) if changed is None else changed[0]
        query = sql.InsertQuery(model)
        query.insert_values(fields, [SimpleNamespace(**values)], raw=True)
        returning = list(meta.db_returning_fields)
        told = query.get_compiler(using=self.alias).execute_sql(returning or None)
        if meta.pk.attname in values:
            return values[meta.pk.attname]
        told = list(told or [()])
        first = told[0] if told and isinstance(told[0], (list, tuple)) else told
        return first[[field.attname for field in returning].index(meta.pk.attname)]

    def nulls(self, field):
        """NULL where the model allows it."""
        return (None,) if field.null else None

    def limits(self, field):
        """The greatest value that the model allows."""
        return limit_of(field, self.connection)

    def update(self):
        """Write every column of a row anew, with what it holds."""
        values = [(field, None, self.value(field)) for field in self.changeable if field.attname]
        pk = self.model._meta.pk
        key = self.value(pk) if self.existing is not None else another(pk, lambda: made_up(pk, self.alias))
        return QuerySet(self.model, using=self.alias).filter(pk=key)._update(values)


def written(model):
    """The fields that an INSERT names: those of the model's own table, but for what the database computes."""
    return [field for field in model._meta.local_concrete_fields if not getattr(field, "generated", False)]


def keys_of(model):
    """The fields of the primary key."""
    return list(getattr(model._meta, "pk_fields", [model._meta.pk]))


def automatic(field):
    """Whether the database makes the value of a key."""
    return field.get_internal_type() in AUTOMATIC


def set_apart(model):
    """One field of each set that must be unique together: the one that is changed most easily."""
    meta, found = model._meta, set()
    names = [tuple(together) for together in meta.unique_together]
    names += [tuple(c.fields) for c in meta.constraints if isinstance(c, models.UniqueConstraint) and c.fields]
    for together in names:
        fields = [meta.get_field(name) for name in together]
        simple = [field for field in fields if field.remote_field is None and not field.choices]
        found.update((simple or [field for field in fields if field.null] or fields)[:1])
    return found


def limit_of(field, connection):
    """The greatest value of a field, in a tuple; None where there is no limit that a column has too."""
    if field.remote_field is not None or field.choices or field.unique or field.primary_key:
        return None
    kind = field.get_internal_type()
    if kind == "CharField" and type(field).__module__.startswith("django.") and field.max_length:
        return ("x" * field.max_length,)
    if kind in INTEGERS + POSITIVE and type(field).__module__.startswith("django."):
        return (connection.ops.integer_field_range(kind)[1],)
    if type(field) is models.DecimalField:
        return (decimal.Decimal(10**field.max_digits - 1).scaleb(-field.decimal_places),)
    return None


def another(field, value):
    """A value of a unique field that no row has."""
    kind = field.get_internal_type()
    if field.remote_field is None:
        if kind in TEXTS:
            return uuid.uuid4().hex[: field.max_length or 32]
        if kind in ("SmallIntegerField", "PositiveSmallIntegerField"):
            return random.randrange(20000, 32000)  # noqa: S311 - it only has to be rare
        if kind in INTEGERS + POSITIVE or automatic(field):
            return random.randrange(1500000000, 2100000000)  # noqa: S311
        if kind == "UUIDField":
            return uuid.uuid4()
        if kind in ("DateField", "DateTimeField"):
            days = datetime.timedelta(days=random.randrange(1, 100000), microseconds=random.randrange(1000000))  # noqa: S311
            return value() + days if value() is not None else None
    return None if field.null else value()


def made_up(field, alias):
    """A value of a field's type.

    Raises:
        Unknown: Its type is not known, or there is no row that it could refer to.
    """
    if field.null:
        return None
    if field.remote_field is not None:
        target = field.target_field
        found = target.model._base_manager.using(alias).order_by().values_list(target.attname, flat=True)[:1]
        value = next(iter(found), None)
        value = made_up(target, alias) if value is None else value  # Django's foreign keys are checked at the commit
        if value is None:
            raise Unknown(f"{target.model._meta.label} has no row that {field.name} could refer to")
        return value
    if field.has_default() or field.choices:
        return field.get_default() if field.has_default() else next(key for key, _label in field.flatchoices)
    now = timezone.now()
    kind = field.get_internal_type()
    simple = {
        "BooleanField": False,
        "DecimalField": decimal.Decimal(0),
        "FloatField": 0.0,
        "DateField": now.date(),
        "DateTimeField": now,
        "TimeField": datetime.time(12, 0),
        "DurationField": datetime.timedelta(seconds=1),
        "UUIDField": uuid.uuid4(),
        "JSONField": {},
        "BinaryField": b"x",
        "GenericIPAddressField": "127.0.0.1",
        "IPAddressField": "127.0.0.1",
        "ArrayField": [],
        "HStoreField": {},
    }
    simple.update(dict.fromkeys(TEXTS, "x"))
    simple.update(dict.fromkeys(INTEGERS + POSITIVE + AUTOMATIC, 1))
    if kind in simple:
        return simple[kind]
    raise Unknown(f"no value can be made up for {field.name}, a {type(field).__name__}")
