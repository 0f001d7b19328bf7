# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""Ask a Django application about its database and its migrations, from inside its own interpreter.

Nothing but the standard library and the application's Django (3.2 to 6.0) is needed. It is started through the
application's own management command, whatever that is:

    <manage> shell -c "import runpy; runpy.run_path('.../probe.py', run_name='__main__')"

RUNBOOK_PROBE_REQUEST holds the request as JSON; the answer is written, in one rename, to the file that
RUNBOOK_PROBE_ANSWER names, so that noise on standard output does no harm.

Request: ``database`` (alias, "default"), ``what`` (["identity", "plan"]), ``targets`` ([{"app", "name"}]; a null name
is "before the first", an empty list is every leaf).

Answer, always: ``format`` (1), ``django``, ``python``, ``settings`` (module), ``database`` (alias) and ``error``: null
or {"type", "message", "where"}; what was found before the error is kept. ``code`` names the file of the settings module
and the directory of each app. With "identity": ``identity``, what the connection really reached;
``migrations_schema`` is where its session finds django_migrations, or null. With "plan":

- ``broken`` migrations that cannot be loaded or followed, and pending ones that depend on them: {"app", "name",
  "kind", "because", "file", "line", "applied"}, as probe_loading.py describes them. They are not in the plan.
- ``applied`` rows of django_migrations by id; a missing table is an empty list and is not created.
- ``consistent`` null or the text of InconsistentMigrationHistory; ``conflicts`` apps with several leaves.
- ``squashes`` of each squashed migration: "unapplied", "partly_applied", "unrecorded" (all it replaces is) or
  "applied"; ``gone`` are those it replaces that are not applied and have no file.
- ``unmigrated`` changes of models that no migration holds, as in ``makemigrations --check``; null when not
  computable, as where one is broken.
- ``drift`` where the database is not what the applied migrations say, or has what a pending one makes, as
  probe_drift.py describes it; null when not computable, ``drift_because`` says why.
- ``showmigrations`` everything, in the order of ``showmigrations --plan``.
- ``plan`` what ``migrate`` would do, in execution order. ``sql.forward`` and ``sql.backward`` each hold
  ``statements`` (null: unknown or irreversible), ``partial`` (something is missing from, or guessed in, the
  statements) and ``because`` (the reasons). ``operations`` is flat: what SeparateDatabaseAndState and RunSQL hold
  follows its holder with a position such as "2.database.0" or "2.state.0". Tables, columns, ``old_name`` and
  ``new_name`` are the database's names; ``fields[].old`` and ``.new`` are the facts of a column before and after.
  ``default`` says what fills existing rows: "constant", "callable", "empty" (Django's empty string), "now" (auto_now)
  or null. ``line`` is that of the operation in ``file``, or null where the list is computed.

The project state is walked once, and of it only what an operation needs is rendered; each migration is rendered by
itself from the state before it, in a read-only transaction of its own that is rolled back. No Python of a migration
is run.
"""

import contextlib
import dis
import hashlib
import inspect
import json
import os
import platform
import runpy
import sys
import traceback
import types
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.core.exceptions import FieldDoesNotExist, FieldError
from django.db import connections, router
from django.db.migrations import operations as ops
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.fields import FieldOperation
from django.db.migrations.operations.models import AlterTogetherOptionOperation, ModelOperation
from django.db.migrations.questioner import MigrationQuestioner
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import InvalidBasesError, ProjectState
from django.db.models import NOT_PROVIDED
from django.db.utils import NotSupportedError
from django.utils import translation


def part(name):
    """Another file of the probe, by its place: the application may have a module of that name."""
    return types.SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name(name + ".py"))))


loading, drifting = part("probe_loading"), part("probe_drift")

FORMAT = 1
NOTHING = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST"}  # what Python makes of `pass`
INSTALLED = {"site-packages", "dist-packages"}
BARE_OPTIONS = ("db_table", "db_tablespace", "managed", "proxy", "swappable")
# Local to the transaction: behind a pooler a session setting would reach the application's own queries. One statement,
# because several in one text cannot be prepared.
READ_ONLY = (
    "SELECT set_config('transaction_read_only', 'on', true), set_config('statement_timeout', '10s', true), "
    "set_config('lock_timeout', '2s', true), set_config('idle_in_transaction_session_timeout', '0', true)"
)
SERVER = (
    "database",
    "database_oid",
    "server_version_num",
    "user",
    "server_addr",
    "server_port",
    "server_started",
    "migrations_schema",
)
SESSION_FACTS = ("lock_timeout_ms", "statement_timeout_ms", "application_name", "system_identifier")
IDENTITY = (
    "SELECT current_database(), (SELECT oid::bigint FROM pg_database WHERE datname = current_database()), "
    "current_setting('server_version_num')::int, current_user, host(inet_server_addr()), inet_server_port(), "
    "extract(epoch FROM pg_postmaster_start_time())::text, "
    "(SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.oid = to_regclass('django_migrations')), pg_backend_pid()"
)
SESSION = (
    "SELECT name, setting FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout', 'application_name')"
)


# -- what is said about errors and code ------------------------------------------------------------------------------


def told(error):
    """The type and message of an error on one line, without any password of the settings."""
    message = " ".join(str(error).split())
    for database in settings.DATABASES.values():
        secrets = [value for key, value in (database.get("OPTIONS") or {}).items() if "pass" in key]
        for secret in [database.get("PASSWORD"), *secrets]:
            if secret and isinstance(secret, str):
                message = message.replace(secret, "***")
    return {"type": type(error).__name__, "message": message}


def reason(error):
    """An error as one sentence."""
    return "{type}: {message}".format(**told(error))


def where(error):
    """The innermost line that an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{near(frames[-1].filename)}:{frames[-1].lineno} in {frames[-1].name}" if frames else None


def near(path):
    """A path relative to the application's directory, where it lies below it."""
    path = Path(path).absolute()
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def dotted(thing):
    """The full name of a class or function."""
    return f"{thing.__module__}.{thing.__qualname__}"


def code_facts(function):
    """Name, file and line of a function that a migration calls."""
    if function is None:
        return None
    inner = function
    while hasattr(inner, "func"):
        inner = inner.func
    inner = inspect.unwrap(inner)
    if not hasattr(inner, "__qualname__"):
        inner = type(inner)
    code = getattr(inner, "__code__", None)
    return {
        "name": dotted(inner),
        "file": near(code.co_filename) if code else None,
        "line": code.co_firstlineno if code else None,
    }


def code_in_use():
    """Where the settings module and the apps were imported from, by their names; links are not followed."""
    module = sys.modules.get(getattr(settings, "SETTINGS_MODULE", None))
    found = {module.__name__: module.__file__} if getattr(module, "__file__", None) else {}
    found.update((config.name, config.path) for config in apps.get_app_configs())
    return {name: str(Path(path).absolute()) for name, path in found.items()}


# -- the database ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def reading(connection):
    """One transaction that cannot write, ended by a rollback whatever happens.

    Django's autocommit is off rather than an atomic block open, so that operations which refuse to run in a transaction
    (AddIndexConcurrently) see what they would see in ``migrate``.
    """

    def refuse(*_args, **_kwargs):
        raise NotSupportedError("a migration being rendered must not end the read-only transaction")

    if connection.get_autocommit():
        connection.set_autocommit(False)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(READ_ONLY)
    connection.commit = connection.set_autocommit = refuse
    try:
        yield
    finally:
        del connection.commit, connection.set_autocommit
        connection.rollback()


def identity(connection):
    """Which server, database and session the settings really lead to."""
    configured = connection.settings_dict
    found = dict.fromkeys((*SERVER, *SESSION_FACTS, "pooled"))
    found["vendor"] = connection.vendor
    found["host"], found["port"] = configured.get("HOST") or None, str(configured.get("PORT") or "") or None
    if connection.vendor != "postgresql":
        connection.ensure_connection()
        found["database"] = str(configured.get("NAME"))
        return found
    with connection.cursor() as cursor:  # before anything is set in this session
        cursor.execute(SESSION)
        session = dict(cursor.fetchall())
        cursor.execute(IDENTITY)
        row = cursor.fetchone()
    found.update(zip(SERVER, row))
    # A pooler tells its clients a number of its own, since it lends them now this backend, now that.
    client = getattr(connection.connection, "info", None)
    told_pid = getattr(client, "backend_pid", None)
    found["pooled"] = told_pid != row[-1] if told_pid is not None else None
    found["lock_timeout_ms"] = int(session["lock_timeout"])
    found["statement_timeout_ms"] = int(session["statement_timeout"])
    found["application_name"] = session["application_name"]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
            found["system_identifier"] = cursor.fetchone()[0]
    except django.db.Error:  # some providers do not let it be read
        found["system_identifier"] = None
    return found


def applied(connection):
    """The rows of django_migrations."""
    recorder = MigrationRecorder(connection)
    if not recorder.has_table():
        return []
    return [
        {"app": row.app, "name": row.name, "applied_at": row.applied.isoformat()}
        for row in recorder.migration_qs.order_by("id")
    ]


# -- facts about one operation ---------------------------------------------------------------------------------------


def default_kind(field):
    """What fills the rows that exist when the column is added."""
    if field.has_default():
        return "callable" if callable(field.default) else "constant"
    if not field.null and field.blank and field.empty_strings_allowed:
        return "empty"
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return "now"
    return None


def db_default_facts(field, connection):
    """Kind and SQL of a database default (Django 5.0 and newer)."""
    expression = getattr(field, "db_default", NOT_PROVIDED)
    if expression is NOT_PROVIDED:
        return None, None
    kind = "expression" if hasattr(expression, "resolve_expression") else "constant"
    try:
        sql, params = connection.schema_editor(collect_sql=True).db_default_sql(field)
        return kind, connection.ops.compose_sql(sql, params)
    except Exception:  # noqa: BLE001 - the kind alone is still worth telling
        return kind, None


def field_facts(field, declared, connection):
    """One column: ``declared`` is the field as written in the migration, which alone has a one-off default."""
    remote = field.remote_field
    target = remote.model if remote is not None and not isinstance(remote.model, str) else None
    db_default, db_default_sql = db_default_facts(field, connection)
    generated = getattr(field, "generated", False) and ("stored" if field.db_persist else "virtual")
    kind = default_kind(declared)
    return {
        "name": field.name,
        "column": field.column,
        "class": dotted(type(field)),
        "type": field.db_type(connection),
        "null": field.null,
        "default": kind,
        "default_callable": code_facts(declared.default)["name"] if kind == "callable" else None,
        "db_default": db_default,
        "db_default_sql": db_default_sql,
        "generated": generated or None,
        "unique": field.unique,
        "index": field.db_index,
        "primary_key": field.primary_key,
        "max_length": field.max_length,
        "references": {
            "table": target._meta.db_table,
            "column": field.target_field.column,
            "constraint": field.db_constraint,
        }
        if target is not None and not field.many_to_many and field.concrete
        else None,
        "many_to_many_table": field.m2m_db_table() if field.many_to_many and hasattr(field, "m2m_db_table") else None,
    }


def changed_fields(op, old, new):
    """The (name, field before, field after) of an operation; ``old`` and ``new`` are the model before and after."""
    if isinstance(op, ops.CreateModel):
        return [(f.name, None, f) for f in list(new._meta.local_fields) + list(new._meta.local_many_to_many)]
    if isinstance(op, ops.DeleteModel):
        return [(f.name, f, None) for f in list(old._meta.local_fields) + list(old._meta.local_many_to_many)]
    if isinstance(op, ops.RenameField):
        return [(op.new_name, old._meta.get_field(op.old_name), new._meta.get_field(op.new_name))]
    if isinstance(op, FieldOperation):
        before = None if isinstance(op, ops.AddField) else old._meta.get_field(op.name)
        after = None if isinstance(op, ops.RemoveField) else new._meta.get_field(op.name)
        return [(op.name, before, after)]
    return []


def columns(model, names):
    """Column names for field names, as an index lists them ("-name" is descending)."""
    return [model._meta.get_field(name.lstrip("-")).column for name in names]


def index_facts(op, leaf):
    """The index that an operation adds, removes or renames."""
    name = getattr(op, "new_name", None) or getattr(op, "name", None)
    if isinstance(op, ops.AddIndex):
        index, model = op.index, leaf.new
    elif isinstance(op, ops.RemoveIndex):
        index, model = leaf.before.models[leaf.app, op.model_name.lower()].get_index_by_name(name), leaf.old
    elif type(op).__name__ == "RenameIndex":  # Django 4.1
        index, model = leaf.after.models[leaf.app, op.model_name.lower()].get_index_by_name(name), leaf.new
    else:
        return None
    return {
        "name": index.name,
        "columns": columns(model, index.fields),
        "expressions": bool(getattr(index, "expressions", ())),
        "condition": index.condition is not None,
        "method": getattr(index, "suffix", "") or "btree",
        "unique": False,
        "concurrent": type(op).__name__.endswith("Concurrently"),
    }


def constraint_facts(op, leaf, connection):
    """The constraint that an operation adds, removes or validates."""
    constraint = getattr(op, "constraint", None)
    if constraint is None and type(op).__name__ in ("RemoveConstraint", "ValidateConstraint"):
        constraint = leaf.before.models[leaf.app, op.model_name.lower()].get_constraint_by_name(op.name)
    if constraint is None:
        return None
    model = leaf.new if leaf.new is not None else leaf.old
    editor = connection.schema_editor(collect_sql=True)
    editor.deferred_sql = []  # where a unique constraint with a condition goes: it is an index of its own
    sql = constraint.constraint_sql(model, editor) or "; ".join(map(str, editor.deferred_sql))
    return {
        "name": constraint.name,
        "kind": type(constraint).__name__,
        "columns": columns(model, getattr(constraint, "fields", ())),
        "condition": getattr(constraint, "condition", getattr(constraint, "check", None)) is not None,
        "unique": type(constraint).__name__ == "UniqueConstraint",
        "deferrable": getattr(constraint, "deferrable", None) is not None,
        "not_valid": type(op).__name__ == "AddConstraintNotValid",
        "sql": str(sql) or None,
    }


def together_facts(op, leaf):
    """unique_together or index_together before and after, in column names."""
    if not isinstance(op, AlterTogetherOptionOperation):
        return None
    found = {}
    for side, state, model in (("old", leaf.before, leaf.old), ("new", leaf.after, leaf.new)):
        sets = state.models[leaf.app, op.name.lower()].options.get(op.option_name) or ()
        found[side] = sorted(columns(model, names) for names in sets)
    return found


def statements_of(sql):
    """The statements of one side of RunSQL as written, without their parameters."""
    if sql is None:
        return None
    listed = sql if isinstance(sql, (list, tuple)) else [sql]
    return [str(item[0] if isinstance(item, (list, tuple)) else item) for item in listed]


def irreversible_because(op):
    """Why an operation cannot be reversed, or None."""
    name = type(op).__name__
    if isinstance(op, ops.RunPython):
        return None if op.reversible else f"{name} {code_facts(op.code)['name']} has no reverse_code"
    if isinstance(op, ops.RunSQL):
        return None if op.reversible else f"{name} has no reverse_sql"
    if not op.reversible or type(op).database_backwards is Operation.database_backwards:
        return f"{name} is not reversible"
    return None


# -- the part of the project state that one operation needs ----------------------------------------------------------


def key_of(reference, app, name):
    """The (app, model) that a relation or base names, seen from a model."""
    if not isinstance(reference, str):
        return (reference._meta.app_label, reference._meta.model_name) if hasattr(reference, "_meta") else None
    if reference == "self":
        return app, name
    label, _, model = reference.rpartition(".")
    return label or app, model.lower()


def relations(state, key, bare):
    """The models that a model must have beside it to be rendered; ``bare`` models keep only what identifies them."""
    model = state.models[key]
    found = {key_of(base, *key) for base in model.bases if isinstance(base, str)}
    for field in kept_fields(model, key, bare, ()).values():
        if field.remote_field is not None:
            found.add(key_of(field.remote_field.model, *key))
            if getattr(field.remote_field, "through", None):
                found.add(key_of(field.remote_field.through, *key))
    return found - {None}


def kept_fields(model, key, bare, present):
    """The fields to render; a bare model keeps its relations only where their targets are there anyway."""
    if not bare:
        return model.fields
    return {
        name: field
        for name, field in model.fields.items()
        if not getattr(field, "generated", False)
        and (field.remote_field is None or field.primary_key or key_of(field.remote_field.model, *key) in present)
    }


def part_of(state, wanted, incoming):
    """A project state of the ``wanted`` models and what they refer to, with ``incoming`` also what refers to them.

    Django renders every model that is related over any number of steps, several hundred in a large project, after
    each operation. The SQL of an operation depends on its own model and the keys of the neighbours.
    """
    wanted = {key for key in wanted if key in state.models}
    names = set(wanted)
    if incoming:
        for key, model in state.models.items():
            related = (field.remote_field.model for field in model.fields.values() if field.remote_field is not None)
            if any(key_of(target, *key) in wanted for target in related):
                names.add(key)
    queue = list(names)
    while queue:
        key = queue.pop()
        if key in state.models:
            new = relations(state, key, bare=key not in wanted) - names
            names |= new
            queue.extend(new)
    models = {}
    for key in names & set(state.models):
        model = models[key] = state.models[key].clone()
        if key not in wanted:
            model.fields = kept_fields(model, key, True, names)
            model.options = {name: value for name, value in model.options.items() if name in BARE_OPTIONS}
            model.managers = []
    return ProjectState(models=models, real_apps=state.real_apps)


def shared_part(state, wanted, incoming):
    """The part, made once where the state after one operation is the state before the next (a clone starts anew)."""
    parts = state.__dict__.setdefault("runbook_parts", {})
    if (wanted, incoming) not in parts:
        parts[wanted, incoming] = part_of(state, wanted, incoming)
    return parts[wanted, incoming]


def models_of(op, app):
    """The models that an operation and the operations in it name, before and after."""
    names = [getattr(op, "model_name", None), getattr(op, "old_name", None), getattr(op, "new_name", None)]
    if isinstance(op, ModelOperation):
        names.append(op.name)
    found = {(app, name.lower()) for name in names if name}
    for held in ("database_operations", "state_operations"):
        found.update(*(models_of(inner, app) for inner in getattr(op, held, None) or []))
    return found


def reaches_neighbours(op):
    """Whether an operation changes what refers to its model: a renamed model, or the type of a key."""
    if isinstance(op, ops.AlterField):
        return op.field.primary_key or op.field.unique
    return isinstance(op, ops.RenameModel) or any(
        map(reaches_neighbours, getattr(op, "database_operations", None) or [])
    )


class Leaf:
    """One operation with the project state before and after it."""

    def __init__(self, op, app, states, position, side, runs, whole):
        self.op, self.app, self.position, self.side, self.runs = op, app, position, side, runs
        wanted = models_of(op, app)
        if wanted and not whole:
            states = [shared_part(state, frozenset(wanted), reaches_neighbours(op)) for state in states]
        self.before, self.after = states
        renamed = isinstance(op, ops.RenameModel)
        self.model = getattr(op, "model_name", None) or (op.name if isinstance(op, ModelOperation) else None)
        self.old = self.find(self.before, op.old_name if renamed else self.model)
        self.new = self.find(self.after, op.new_name if renamed else self.model)
        self.tables = {model._meta.db_table for model in (self.old, self.new) if model is not None}
        self.is_python = isinstance(op, ops.RunPython) or not op.reduces_to_sql

    def find(self, state, name):
        """The rendered model, or None."""
        try:
            return state.apps.get_model(self.app, name) if name else None
        except LookupError:
            return None

    def not_allowed(self, alias):
        """Why Django would pass over the operation on this database, or None."""
        model = self.new if self.new is not None else self.old
        if model is not None:
            if not model._meta.can_migrate(alias):
                return "the model is not managed, a proxy or swapped"
            return None if router.allow_migrate_model(alias, model) else "router"
        return None if router.allow_migrate(alias, self.app, **getattr(self.op, "hints", {})) else "router"

    def facts(self, migration, connection):
        """Everything that is told of the operation."""
        op = self.op
        fields = [
            {
                "name": name,
                "old": before and field_facts(before, before, connection),
                "new": after and field_facts(after, getattr(op, "field", None) or after, connection),
            }
            for name, before, after in changed_fields(op, self.old, self.new)
        ]
        column = (fields[0]["old"] or fields[0]["new"])["column"] if isinstance(op, FieldOperation) else None
        old_name, new_name = self.names(fields)
        not_allowed = self.not_allowed(connection.alias)
        shown = self.old if self.old is not None else self.new
        return {
            "position": self.position,
            "line": None,  # filled in for the migration as a whole
            "kind": type(op).__name__,
            "class": dotted(type(op)),
            "describe": str(op.describe()),
            "state_only": self.side == "state",
            "database_only": self.side == "database",
            "allowed": not_allowed is None,
            "not_allowed_because": not_allowed,
            "reversible": irreversible_because(op) is None,
            "irreversible_because": irreversible_because(op),
            "elidable": bool(op.elidable),
            "atomic": migration.atomic if op.atomic is None else bool(op.atomic),
            "model": self.model,
            "table": shown._meta.db_table if shown is not None else None,
            "column": column,
            "old_name": old_name,
            "new_name": new_name,
            "fields": fields,
            "index": index_facts(op, self),
            "constraint": constraint_facts(op, self, connection),
            "together": together_facts(op, self),
            "sql": statements_of(op.sql) if isinstance(op, ops.RunSQL) else None,
            "reverse_sql": statements_of(op.reverse_sql) if isinstance(op, ops.RunSQL) else None,
            "code": code_facts(op.code) if isinstance(op, ops.RunPython) else None,
            "reverse_code": code_facts(op.reverse_code) if isinstance(op, ops.RunPython) else None,
        }

    def names(self, fields):
        """Old and new name in the database of what is renamed."""
        if isinstance(self.op, (ops.RenameModel, ops.AlterModelTable)) and self.old is not None:
            return self.old._meta.db_table, self.new._meta.db_table
        if isinstance(self.op, ops.RenameField):
            return fields[0]["old"]["column"], fields[0]["new"]["column"]
        if type(self.op).__name__ == "RenameIndex":
            return self.op.old_name, self.op.new_name
        return None, None


def chain(operations, app, state, place, whole):
    """The leaves of operations one after the other, and the state after the last."""
    position, side, runs = place
    found = []
    for number, op in enumerate(operations):
        before, state = state, state.clone()
        op.state_forwards(app, state)
        found.extend(unfold(op, app, (before, state), (f"{position}{number}", side, runs), whole))
    return found, state


def unfold(op, app, states, place, whole):
    """An operation and what it holds; exactly those that Django would run on the database are marked so."""
    position, side, runs = place
    holder = isinstance(op, ops.SeparateDatabaseAndState)
    # A subclass with a way of its own (checks, timeouts around the operations it holds) is run as a whole.
    stock = holder and type(op).database_forwards is ops.SeparateDatabaseAndState.database_forwards
    found = [Leaf(op, app, states, position, side, runs and not stock, whole)]
    for inner, attribute in (("database", "database_operations"), ("state", "state_operations")):
        held = getattr(op, attribute, None) or []
        inside = (f"{position}.{inner}.", side or inner, runs and stock and inner == "database")
        found.extend(chain(held, app, states[0], inside, whole)[0])
    return found


# -- the plan --------------------------------------------------------------------------------------------------------


class Renderer:
    """Walks the project state once and renders each wanted migration from the state before it."""

    def __init__(self, connection):
        self.connection = connection
        self.touched = set()  # tables that pending migrations before the current operation change
        self.asked = set()  # tables whose constraints the current operation asked the database for
        self.skipped = []  # Python that a holder of a kind unknown to us wanted to run

    @contextlib.contextmanager
    def guarded(self):
        """Keep Python from running and note what is asked of the database."""
        introspection, look = self.connection.introspection, self.connection.introspection.get_constraints
        kept = ops.RunPython.database_forwards, ops.RunPython.database_backwards

        def noting(cursor, table):
            self.asked.add(table)
            return look(cursor, table)

        def skip(op, *_args, **_kwargs):
            self.skipped.append(not_sql(op))

        introspection.get_constraints = noting
        ops.RunPython.database_forwards = ops.RunPython.database_backwards = skip
        try:
            yield
        finally:
            del introspection.get_constraints
            ops.RunPython.database_forwards, ops.RunPython.database_backwards = kept

    def migration(self, migration, state, backwards, whole=False):
        """The entry of one migration, and the state after it."""
        entry = migration_facts(migration, backwards)
        try:
            with reading(self.connection):
                leaves, after = chain(migration.operations, migration.app_label, state, ("", None, True), whole)
                entry["operations"] = [leaf.facts(migration, self.connection) for leaf in leaves]
            lines = loading.source.lines_of(loading.source.parsed(source_of(migration)), migration.operations)
            for operation in entry["operations"]:
                operation["line"] = lines.get(operation["position"])
            stuck = [irreversible_because(leaf.op) for leaf in leaves if leaf.side != "state"]
            stuck = [because for because in stuck if because]
            entry["reversible"], entry["irreversible_because"] = not stuck, "; ".join(stuck) or None
            entry["sql"] = {
                "forward": self.sql(migration, leaves, False, backwards, whole),
                "backward": unknown(stuck) if stuck else self.sql(migration, leaves[::-1], True, backwards, whole),
            }
        except Exception as error:  # noqa: BLE001 - one unknown migration must not hide the others
            if not whole and may_miss_a_model(error):
                rendered = state.clone()
                rendered.apps  # noqa: B018 - once; after each operation Django then renders only what it changed
                return self.migration(migration, rendered, backwards, whole=True)[0], advanced(migration, state)
            entry["sql"] = {"forward": unknown([reason(error)]), "backward": unknown([reason(error)])}
            return entry, advanced(migration, state)
        return entry, after

    def sql(self, migration, leaves, backward, known, whole):
        """The statements of one direction, as far as they can be known before anything has run."""
        because = []
        try:
            editor = self.connection.schema_editor(collect_sql=True, atomic=migration.atomic)
            self.guess_names(editor)
            with reading(self.connection), self.guarded(), editor:
                for leaf in leaves:
                    self.one(leaf, editor, backward, because)
                    if not backward and not known:
                        self.touched |= leaf.tables
        except Exception as error:
            if not whole and may_miss_a_model(error):
                raise
            self.touched.update(*(leaf.tables for leaf in leaves))
            return unknown([reason(error)])
        return {"statements": list(editor.collected_sql), "partial": bool(because), "because": because}

    def guess_names(self, editor):
        """Have it drop what an earlier pending operation is going to make under the name that Django gives it."""
        drop = editor._delete_composed_index

        def guessing(model, fields, constraint_kwargs, sql):
            try:
                return drop(model, fields, constraint_kwargs, sql)
            except ValueError:  # not exactly one constraint is there
                if model._meta.db_table not in self.touched:
                    raise
            suffix = "_uniq" if constraint_kwargs.get("unique") else "_idx"
            name = editor._create_index_name(model._meta.db_table, columns(model, fields), suffix=suffix)
            return editor.execute(editor._delete_constraint_sql(sql, model, name))

        editor._delete_composed_index = guessing

    def one(self, leaf, editor, backward, because):
        """Render one operation; add to ``because`` what is missing from it or guessed in it."""
        if not leaf.runs:
            return
        if leaf.is_python:
            if not is_noop(leaf.op, backward) and not is_empty(leaf.op, backward):
                because.append(not_sql(leaf.op))
            return
        self.asked, self.skipped = set(), []
        if backward:
            leaf.op.database_backwards(leaf.app, editor, leaf.after, leaf.before)
        else:
            leaf.op.database_forwards(leaf.app, editor, leaf.before, leaf.after)
        because.extend(self.skipped)
        because.extend(
            f"{type(leaf.op).__name__}: the constraints of {table} are not known before earlier operations have run"
            for table in sorted(self.asked & self.touched)
        )


def unknown(because):
    """One direction without statements."""
    return {"statements": None, "partial": False, "because": because}


def may_miss_a_model(error):
    """Whether an error may come from rendering a part of the project only."""
    missing = (LookupError, AttributeError, FieldDoesNotExist, FieldError, InvalidBasesError)
    return isinstance(error, missing) or "lazy reference" in str(error)


def not_sql(op):
    """Said of an operation that runs Python."""
    code = getattr(op, "code", None)
    return f"{type(op).__name__} {code_facts(code)['name'] if code else op.describe()} is not SQL"


def is_noop(op, backward):
    """Whether RunPython does nothing in this direction, by its own word."""
    return isinstance(op, ops.RunPython) and (op.reverse_code if backward else op.code) is ops.RunPython.noop


def is_empty(op, backward):
    """Whether an operation's method for a direction is written without a statement: only a marker in the list."""
    method = type(op).database_backwards if backward else type(op).database_forwards
    code = getattr(method, "__code__", None)
    return code is not None and {each.opname for each in dis.get_instructions(code)} <= NOTHING


def advanced(migration, state):
    """The state after a migration that could not be rendered; the state before it where even that fails."""
    fresh = state.clone()
    fresh.__dict__.pop("apps", None)
    try:
        return migration.mutate_state(fresh)
    except Exception:  # noqa: BLE001 - told already, by the attempt to render it
        return fresh


def source_of(migration):
    """The file of a migration."""
    return Path(sys.modules[migration.__module__].__file__).absolute()


def migration_facts(migration, backwards):
    """What a migration says of itself."""
    path = source_of(migration)
    try:
        file_sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # imported from an archive
        file_sha256 = None
    return {
        "app": migration.app_label,
        "name": migration.name,
        "backwards": backwards,
        "atomic": migration.atomic,
        "initial": bool(migration.initial if migration.initial is not None else not same_app(migration)),
        "replaces": [{"app": app, "name": name} for app, name in migration.replaces],
        "dependencies": [{"app": key[0], "name": key[1]} for key in migration.dependencies],
        "file": near(path),
        "file_sha256": file_sha256,
        "from_dependency": not INSTALLED.isdisjoint(path.parts),
        "reversible": None,
        "irreversible_because": None,
        "sql": None,
        "operations": [],
    }


def same_app(migration):
    """Whether a migration has a predecessor in its own app; Django takes it for the initial one if not."""
    return any(key[0] == migration.app_label for key in migration.dependencies)


def plan(executor, targets):
    """The entries of the plan in execution order."""
    broken = executor.loader.broken
    steps = [step for step in executor.migration_plan(targets) if (step[0].app_label, step[0].name) not in broken]
    wanted = {migration: backwards for migration, backwards in steps}
    everything = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    state = executor._create_project_state(with_applied_migrations=False)
    renderer, entries = Renderer(executor.connection), {}
    for migration, _ in everything:
        if migration in wanted:
            entries[migration], state = renderer.migration(migration, state, wanted[migration])
        elif (migration.app_label, migration.name) in executor.loader.applied_migrations:
            state = follow(executor.loader, migration, state)
    backwards = any(wanted.values())
    return [entries[migration] for migration, _ in (steps if backwards else everything) if migration in entries]


def follow(loader, migration, state):
    """The state after an applied migration; one that cannot be followed is told, and passed over."""
    try:
        return migration.mutate_state(state, preserve=False)
    except Exception as error:  # noqa: BLE001 - it must not hide the others
        loader.tell((migration.app_label, migration.name), "state-error", reason(error))
        return state


def applied_state(executor):
    """The models as the applied migrations leave them, and those migrations in order."""
    state, followed = executor._create_project_state(with_applied_migrations=False), []
    for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True):
        if (migration.app_label, migration.name) in executor.loader.applied_migrations:
            state = follow(executor.loader, migration, state)
            followed.append(migration)
    return state, followed


def expected(executor):
    """What the applied migrations say of the database, or why that cannot be found out."""
    try:
        state, followed = applied_state(executor)
        if any(fact["applied"] for fact in executor.loader.broken.values()):
            return None, "an applied migration is broken"
        return drifting.Expected(executor.connection, state, followed, source_of, near), None
    except Exception as error:  # noqa: BLE001 - the plan is worth telling without it
        return None, reason(error)


def drift(connection, said, entries):
    """Where the database differs, or why that cannot be found out."""
    try:
        with reading(connection):
            return drifting.differences(connection, said, entries), None
    except Exception as error:  # noqa: BLE001 - the plan is worth telling without it
        return None, reason(error)


def squashes(loader, recorded):
    """How far each squashed migration is recorded."""
    found = []
    for (app, name), migration in sorted(loader.replacements.items()):
        done = [key for key in migration.replaces if tuple(key) in recorded]
        missing = [key for key in migration.replaces if tuple(key) not in recorded]
        if (app, name) in recorded:
            state = "applied"
        elif not missing:
            state = "unrecorded"
        else:
            state = "partly_applied" if done else "unapplied"
        found.append(
            {
                "app": app,
                "name": name,
                "state": state,
                "applied": [".".join(key) for key in done],
                "missing": [".".join(key) for key in missing],
                "gone": [".".join(key) for key in missing if tuple(key) not in loader.disk_migrations],
            }
        )
    return found


def unmigrated(loader):
    """Changes of the models that no migration holds, or None."""
    if loader.broken:
        return None  # what the broken ones hold would be among them
    try:
        detector = MigrationAutodetector(
            loader.project_state(), ProjectState.from_apps(apps), MigrationQuestioner(dry_run=True)
        )
        changes = detector.changes(graph=loader.graph)
    except (Exception, SystemExit):  # noqa: BLE001 - a question we cannot answer is not an answer
        return None
    return [
        f"{app}: {op.describe()}"
        for app, migrations in sorted(changes.items())
        for migration in migrations
        for op in migration.operations
    ]


@translation.override(None)
def describe_migrations(connection, wanted, answer):
    """Fill in everything that is told about migrations, untranslated as in `migrate`: names of models are compared."""
    with reading(connection):
        answer["applied"] = applied(connection)
        executor = loading.executor_of(connection, reason, near)
        loader = executor.loader
        try:
            loader.check_consistent_history(connection)
            answer["consistent"] = None
        except InconsistentMigrationHistory as error:
            answer["consistent"] = str(error)
        answer["conflicts"] = [{"app": app, "names": names} for app, names in sorted(loader.detect_conflicts().items())]
        answer["squashes"] = squashes(loader, {(row["app"], row["name"]) for row in answer["applied"]})
        answer["showmigrations"] = [
            {"app": m.app_label, "name": m.name, "applied": (m.app_label, m.name) in loader.applied_migrations}
            for m, _ in executor.migration_plan(loader.graph.leaf_nodes(), clean_start=True)
        ]
        # Before the plan: an operation that fails while it is reversed may stay changed (RenameModel swaps names).
        answer["unmigrated"] = unmigrated(loader)
        said, answer["drift_because"] = expected(executor)
    targets = [(target["app"], target["name"]) for target in wanted] or loader.graph.leaf_nodes()
    answer["plan"] = plan(executor, targets)
    answer["drift"] = None
    if said is not None:
        answer["drift"], answer["drift_because"] = drift(connection, said, answer["plan"])
    answer["broken"] = [loader.broken[key] for key in sorted(loader.broken)]


def main():
    """Answer the request; every failure is an answer too."""
    request = json.loads(os.environ["RUNBOOK_PROBE_REQUEST"])
    alias = request.get("database", "default")
    answer = {
        "format": FORMAT,
        "django": django.get_version(),
        "python": platform.python_version(),
        "settings": getattr(settings, "SETTINGS_MODULE", None),
        "database": alias,
        "error": None,
    }
    try:
        answer["code"] = code_in_use()
        connection = connections[alias]
        if "identity" in request["what"]:
            answer["identity"] = identity(connection)
        if "plan" in request["what"]:
            describe_migrations(connection, request.get("targets", []), answer)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whoever asked must learn of it
        answer["error"] = dict(told(error), where=where(error))
    path = Path(os.environ["RUNBOOK_PROBE_ANSWER"])
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(answer, default=str), encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    main()
