# mypy: ignore-errors
# Part of probe.py: runs inside the application's interpreter, Python >= 3.6 and Django 3.2 to 6.0.
"""Compare the database with what the applied migrations say, and with what the pending ones are about to make.

Only what is certain is told. A table or column that is not there is; a type, where both sides are of a kind that is
understood; type, NULL and uniqueness only where no applied migration with SQL or Python of its own names the table and
the column, since it then is as somebody wanted it. Indexes and foreign keys are not compared: their names differ over
Django's versions. Each entry: ``kind``, ``table``, ``column``, ``expected``, ``found``, and ``app``, ``name``, ``file``
of the migration that made or last changed it (null: not known). Kinds:

- ``missing-table``, ``missing-column``.
- ``fake-applied``: nothing of what an applied migration makes is there; ``expected`` lists it.
- ``type``; ``null`` (should be NOT NULL, or should not).
- ``missing-unique``, ``invalid-unique``: ``column`` holds the columns, joined by ", ".
- ``extra-not-null``: a column that the models do not know, which refuses their rows.
- ``table-exists``, ``column-exists``: ``app`` and ``name`` are the pending migration that would make it.
"""

import re
import runpy
import types
from pathlib import Path

from django.db import router
from django.db.migrations import operations as ops


def part(name):
    """Another file of the probe."""
    return types.SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name(name + ".py"))))


database, history = part("probe_catalogue"), part("probe_origins")

HOLDS_ROWS = "rpvmf"  # relkind of tables, views, foreign tables
WRITES_SQL = re.compile(r"\bexecute\b|\bschema_editor\.(?!connection\.alias)")
REMOVES = re.compile(r"\b(drop|rename|delete_model|remove_field|alter_field|alter_db_table)\b", re.IGNORECASE)


# -- what should be there --------------------------------------------------------------------------------------------


class Column:
    """A column of a model, as the state has it."""

    def __init__(self, field, connection):
        self.name, self.field, self.null = database.cut(field.column), field.name, field.null
        self.type = field.db_type(connection)
        self.generated = bool(getattr(field, "generated", False))
        self.key = field.primary_key


class Table:
    """A table of a model, or of a many-to-many field: then ``field`` names it."""

    def __init__(self, model, connection):
        meta = model._meta
        self.name, self.key, self.field = meta.db_table, (meta.app_label, meta.model_name), None
        self.quoted = connection.ops.quote_name(meta.db_table)
        fields = [field for field in meta.local_concrete_fields if field.db_type(connection) is not None]
        self.columns = [Column(field, connection) for field in fields]
        if meta.auto_created:
            self.key = (meta.auto_created._meta.app_label, meta.auto_created._meta.model_name)
            joined = [
                one.name for one in meta.auto_created._meta.local_many_to_many if one.remote_field.through is model
            ]
            self.field = joined[0] if joined else ""
        self.uniques = [[column.name] for column, field in zip(self.columns, fields) if field.unique]  # noqa: B905
        for names in [*meta.unique_together, *(one.fields for one in meta.constraints if is_plain_unique(one))]:
            self.uniques.append([database.cut(meta.get_field(name).column) for name in names])


def is_plain_unique(constraint):
    """Whether a constraint forbids duplicates in all rows, by columns."""
    unique = type(constraint).__name__ == "UniqueConstraint" and constraint.fields
    return bool(unique) and getattr(constraint, "condition", None) is None


class Expected:
    """What the applied migrations say of the database: the state is rendered here, once."""

    def __init__(self, connection, state, migrations, source_of, near):
        self.migrations, self.source_of, self.near = migrations, source_of, near
        self.origins = history.Origins(migrations)
        self.words = None  # of the migrations that do things of their own, each a set
        self.tables = [
            Table(model, connection)
            for model in state.apps.get_models(include_auto_created=True)
            if self.is_ours(model, state)
            and model._meta.can_migrate(connection)
            # Django asks no router about the table of a many-to-many field, but about its model.
            and router.allow_migrate_model(connection.alias, model._meta.auto_created or model)
        ]

    @staticmethod
    def is_ours(model, state):
        """Whether migrations make the table of a model."""
        owner = model._meta.auto_created or model
        managed = owner._meta.managed and not owner._meta.proxy and not owner._meta.swapped
        return managed and (owner._meta.app_label, owner._meta.model_name) in state.models

    def is_wanted(self, table, names):
        """Whether a migration with SQL of its own names a table and its columns."""
        if self.words is None:
            texts = (self.text(migration) for migration in self.migrations if any(map(is_own, migration.operations)))
            self.words = [set(re.findall(r"\w+", text.lower())) for text in texts]
        last = re.split(r"[.\"]+", table.name.strip('"'))[-1].lower()
        return any(
            (last in words or table.key[1] in words) and words.issuperset(name.lower() for name in names)
            for words in self.words
        )

    def text(self, migration):
        """The source of a migration; none of one that cannot be read, or that changes rows only."""
        try:
            text = self.source_of(migration).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        only_rows = all(isinstance(op, ops.RunPython) or not is_own(op) for op in migration.operations)
        return "" if only_rows and not WRITES_SQL.search(text) else text

    def entry(self, kind, table, column, wanted, found, migration):
        """One difference."""
        return {
            "kind": kind,
            "table": table,
            "column": column,
            "expected": wanted,
            "found": found,
            "app": migration.app_label if migration is not None else None,
            "name": migration.name if migration is not None else None,
            "file": self.near(self.source_of(migration)) if migration is not None else None,
            "line": None,
        }


def is_own(op):
    """Whether an operation does more than the state tells."""
    doing = (ops.RunSQL, ops.RunPython, ops.SeparateDatabaseAndState)
    return isinstance(op, doing) or not type(op).__module__.startswith("django.")


# -- the comparison --------------------------------------------------------------------------------------------------


def differences(connection, expected, entries):
    """Where the database is not what it should be; ``entries`` are those of the plan."""
    quote = connection.ops.quote_name
    named = {quote(name) for entry in entries for op in entry["operations"] for name in tables_of(op)}
    there = database.catalogue(connection, named | {table.quoted for table in expected.tables})
    found, lost, kept = [], {}, set()
    for table in expected.tables:
        relation = there.get(table.quoted)
        maker = expected.origins.of_model(table.key)
        if table.field is not None:
            maker = expected.origins.of_field(table.key, table.field)
        if relation is None or relation.kind not in HOLDS_ROWS:
            if table.name in expected.origins.given_away:
                kept.add(maker)
                continue
            found.append(expected.entry("missing-table", table.name, None, "a table", "nothing", maker))
            lost.setdefault(maker, []).append((table.name, None))
            continue
        kept.add(maker)
        missing = [column for column in table.columns if column.name not in relation.columns]
        for column in table.columns if table.field is None else ():
            origin = expected.origins.of_field(table.key, column.field) or maker
            if column not in missing:
                kept.add(origin)
                continue
            found.append(
                expected.entry("missing-column", table.name, column.name, column.type or "a column", "nothing", origin)
            )
            lost.setdefault(origin, []).append((table.name, column.name))
        if table.field is None and relation.kind in "rp":  # a view or a foreign table has no constraints of its own
            found.extend(finer(expected, table, relation, missing))
    found = faked(expected, found, {maker: names for maker, names in lost.items() if maker and maker not in kept})
    return found + existing(connection, there, entries)


def faked(expected, found, lost):
    """The differences, with those of a migration of which nothing is there told as one."""
    whole = {(maker.app_label, maker.name) for maker in lost}
    merged = []
    for maker, places in lost.items():
        made = ", ".join(".".join(filter(None, place)) for place in places)
        merged.append(expected.entry("fake-applied", *places[0], made, "nothing", maker))
    missing = ("missing-table", "missing-column")
    return merged + [
        entry for entry in found if entry["kind"] not in missing or (entry["app"], entry["name"]) not in whole
    ]


def finer(expected, table, relation, missing):
    """Differences of type, NULL and uniqueness in a table that is there."""
    absent = {column.name for column in missing}
    for column in table.columns:
        if column.name in absent:
            continue
        type_name, not_null, _, kind = relation.columns[column.name]
        origin = expected.origins.of_field(table.key, column.field, changed=True)
        wanted, real = database.normalised(column.type), database.normalised(type_name)
        told = []
        if kind == "b" and wanted and real and wanted != real:
            told.append(("type", wanted, real))
        # A domain may have a NOT NULL of its own, and a CHECK does the same.
        is_null = not (not_null or kind == "d" or column.name in relation.checked)
        if not column.generated and not column.key and is_null != column.null and (not_null or is_null):
            told.append(("null", "NULL" if column.null else "NOT NULL", "NULL" if is_null else "NOT NULL"))
        if told and not expected.is_wanted(table, [column.name]):
            for difference in told:
                yield expected.entry(difference[0], table.name, column.name, *difference[1:], origin)
    if relation.kind == "r":  # in a partitioned table the key of the partitions has to be among the columns
        yield from uniqueness(expected, table, relation, absent)
    known = {column.name for column in table.columns}
    for name, (type_name, not_null, has_default, _) in relation.columns.items():
        if not_null and not has_default and name not in known and not relation.filled:
            yield expected.entry("extra-not-null", table.name, name, "no column", f"{type_name} NOT NULL", None)


def uniqueness(expected, table, relation, absent):
    """Columns whose duplicates nobody refuses."""
    for names in table.uniques:
        wanted = set(names)
        if wanted & absent or any(columns <= wanted and valid for columns, valid in relation.uniques):
            continue
        if expected.is_wanted(table, names):
            continue
        invalid = any(columns == wanted for columns, _ in relation.uniques)
        fields = [column.field for column in table.columns if column.name == names[0]]
        origin = expected.origins.of_field(table.key, fields[0], changed=True) if len(names) == 1 and fields else None
        yield expected.entry(
            "invalid-unique" if invalid else "missing-unique",
            table.name,
            ", ".join(names),
            "UNIQUE",
            "an INVALID index" if invalid else "nothing that refuses duplicates",
            origin or expected.origins.of_model(table.key),
        )


# -- what pending migrations would make ------------------------------------------------------------------------------


def tables_of(op):
    """The tables that an operation names."""
    names = [op["table"]]
    if op["kind"] in ("RenameModel", "AlterModelTable"):
        names.append(op["new_name"])
    names += [field["new"]["many_to_many_table"] for field in op["fields"] if field["new"]]
    return [name for name in names if name]


def existing(connection, there, entries):
    """What pending migrations would make and is there already."""
    found, gone, statements = [], set(), ""
    for entry in entries:
        stock = {op["position"]: op["class"].startswith("django.") for op in entry["operations"]}
        for op in entry["operations"] if not entry["backwards"] else ():
            if (op["code"] or not stock[op["position"]]) and removes(entry["file"]):
                return found  # what it removes is not known
            statements += " ".join(op["sql"] or ()) + " "
            if not op["allowed"] or op["state_only"] or not all(stock[place] for place in around(op["position"])):
                continue
            for kind, table, column in made_by(op):
                relation = there.get(connection.ops.quote_name(table))
                is_there = relation is not None and (column is None or database.cut(column) in relation.columns)
                if not is_there or gone & {(table, column), (table, None)} or table in statements:
                    continue
                what = {"expected": "nothing", "found": "a column" if column else "a table"}
                place = {"app": entry["app"], "name": entry["name"], "file": entry["file"], "line": op["line"]}
                found.append({"kind": kind, "table": table, "column": column, **what, **place})
            gone.update(removed_by(op))
    return found


def around(position):
    """The positions of an operation and of those that hold it: "2.database.0" and "2"."""
    parts = position.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1, 2)]


def removes(file):
    """Whether code of a file may remove or rename tables or columns, for all that is known."""
    try:
        return bool(REMOVES.search(Path(file).read_text(encoding="utf-8", errors="replace")))
    except OSError:
        return True


def made_by(op):
    """What an operation makes, as (kind, table, column)."""
    new = [field["new"] for field in op["fields"] if field["new"]]
    joins = [("table-exists", field["many_to_many_table"], None) for field in new if field["many_to_many_table"]]
    if op["kind"] == "CreateModel":
        return [("table-exists", op["table"], None), *joins]
    if op["kind"] == "AddField":
        return joins or [("column-exists", op["table"], op["column"])] if op["column"] or joins else []
    if op["old_name"] != op["new_name"] and op["kind"] in ("RenameModel", "AlterModelTable"):
        return [("table-exists", op["new_name"], None)]
    if op["old_name"] != op["new_name"] and op["kind"] == "RenameField":
        return [("column-exists", op["table"], op["new_name"])]
    return []


def removed_by(op):
    """What an operation takes away, as (table, column)."""
    if op["kind"] == "DeleteModel":
        return [(op["table"], None)]
    if op["kind"] in ("RenameModel", "AlterModelTable") and op["old_name"] != op["new_name"]:
        return [(op["old_name"], None)]
    if op["kind"] in ("RemoveField", "RenameField"):
        return [(op["table"], op["old_name"] or op["column"])]
    return []
