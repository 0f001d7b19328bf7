# mypy: ignore-errors
# Part of probe.py: runs inside the application's interpreter, Python >= 3.6 and Django 3.2 to 6.0.
"""Load an application's migrations so that one that is broken is told and does not hide the others.

Django's own loader does the work. What it stumbles over is noted in `Loader.broken` and kept out of its way: a pending
migration leaves the graph, together with those that depend on it; one that is recorded as applied stays, as far as it
can be read, without the dependency that cannot be followed. Kinds:

- ``syntax-error``, ``import-error``: the module cannot be loaded.
- ``no-migration-class``, ``invalid``: it can, and holds no migration, or one of another form.
- ``missing-dependency``: it depends on a migration that there is not.
- ``circular``: it depends on itself.
- ``bad-replaces``: what it replaces cannot be replaced.
- ``state-error``: it is applied, and what it does to the models cannot be followed.
- ``depends-on-broken``: it is pending and depends on a broken one.
"""

import importlib
import importlib.util
import runpy
import traceback
import types
from pathlib import Path

from django.apps import apps
from django.core.management.base import CommandError
from django.db.migrations import executor as executor_module
from django.db.migrations import loader as loader_module
from django.db.migrations.exceptions import CircularDependencyError, NodeNotFoundError
from django.db.migrations.loader import MIGRATIONS_MODULE_NAME, MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder

source = types.SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("probe_source.py"))))

PACKAGE = "__init__"  # stands for all migrations of an app whose package cannot be loaded


def label(key):
    """`app.name`, as people say it."""
    return "{}.{}".format(*key)


def complaint(module, key):
    """What is wrong with the form of a loaded migration, as (kind, because), or None."""
    if not hasattr(module, "Migration"):
        return "no-migration-class", "the module has no class Migration"
    if not isinstance(module.Migration, type) or not issubclass(module.Migration, Migration):
        return "invalid", "its Migration is no django.db.migrations.Migration"
    migration = module.Migration(key[1], key[0])
    for attribute in ("dependencies", "run_before", "replaces"):
        for entry in getattr(migration, attribute):
            if not source.is_key(entry):
                return "invalid", f"{attribute} holds {entry!r}, which is no (app, name)"
    for operation in migration.operations:
        if not isinstance(operation, Operation):
            return "invalid", f"operations holds {operation!r}, which is no operation"
    if key in migration.replaces:
        return "bad-replaces", "it replaces itself"
    return None


# -- the loader ------------------------------------------------------------------------------------------------------


class Loader(MigrationLoader):
    """Django's loader, which goes on where a migration is broken."""

    def __init__(self, connection, reason, near):
        self.reason, self.near = reason, near
        self.broken = {}  # key to what is told
        self.out = set()  # keys that are kept out of the graph
        self.stubs = {}  # applied, and not readable: key to the dependencies that its source lists, or None
        self.cut = {}  # applied: key to the dependencies that cannot be followed
        self.recorded = frozenset()
        super().__init__(connection)

    def tell(self, key, kind, because, line=None):
        """Note what is broken; the first word about a migration counts."""
        file = self.file_of(key)
        if kind in ("missing-dependency", "depends-on-broken", "circular", "bad-replaces"):
            node = source.assigned(source.parsed(file), "replaces" if kind == "bad-replaces" else "dependencies")
            line = getattr(node, "lineno", None)
        fact = {
            "app": key[0],
            "name": key[1],
            "kind": kind,
            "because": because,
            "file": self.near(file) if file else None,
            "line": line,
            "applied": self.is_recorded(key),
        }
        self.broken.setdefault(key, fact)

    def file_of(self, key):
        """The file of a migration, or None."""
        package = self.migrations_module(key[0])[0]
        try:
            spec = importlib.util.find_spec(package if key[1] == PACKAGE else f"{package}.{key[1]}")
        except Exception:  # noqa: BLE001 - the package itself may be what is broken
            return None
        return spec.origin if spec is not None and spec.has_location else None

    def is_recorded(self, key):
        """Whether the database says that a migration, or all that it replaces, is applied."""
        migration = (self.disk_migrations or {}).get(key)
        replaced = migration.replaces if migration is not None else ()
        return key in self.recorded or (bool(replaced) and self.recorded.issuperset(replaced))

    def load_disk(self):
        """Load what can be loaded."""
        self.recorded = frozenset(MigrationRecorder(self.connection).applied_migrations())
        packages = {self.migrations_module(config.label)[0]: config.label for config in apps.get_app_configs()}
        kept = loader_module.import_module
        loader_module.import_module = lambda path: self.imported(path, packages)
        try:
            super().load_disk()
        finally:
            loader_module.import_module = kept
        self.link_stubs()
        for key in self.out:
            self.disk_migrations.pop(key, None)
        for key, lost in self.cut.items():
            self.forget(key, lost)
        self.leave_out_dependents()

    def imported(self, path, packages):
        """The module of that name; where it is broken, one that Django can go on with."""
        if path in packages:
            return self.package(path, packages[path])
        package, _, name = path.rpartition(".")
        key = packages[package], name
        if key not in self.broken or self.broken[key]["kind"] not in ("syntax-error", "import-error"):
            try:
                module = importlib.import_module(path)
                wrong = complaint(module, key)
                if wrong is None:
                    return module
                self.tell(key, *wrong)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - one broken module must not hide the others
                self.tell_error(key, error)
            if self.is_recorded(key):
                self.stubs[key] = source.written_dependencies(source.parsed(self.file_of(key)))
            else:
                self.out.add(key)
        stub = {"dependencies": self.stubs.get(key) or [], "__module__": path}
        return types.SimpleNamespace(Migration=type("Migration", (Migration,), stub))

    def package(self, path, app):
        """The package with the migrations of an app."""
        key = app, PACKAGE
        if key not in self.broken:
            try:
                return importlib.import_module(path)
            except (Exception, SystemExit) as error:  # one broken app must not hide the others
                absent = isinstance(error, ModuleNotFoundError) and MIGRATIONS_MODULE_NAME in str(error.name).split(".")
                if absent and not self.migrations_module(app)[1]:
                    raise  # Django takes it for an app without migrations
                self.tell_error(key, error)
                self.out.add(key)
        return types.ModuleType(path)  # no package: Django goes on as if the app had no migrations

    def tell_error(self, key, error):
        """Note that a module cannot be loaded, with the line in its own file where there is one."""
        file = self.file_of(key)
        if isinstance(error, SyntaxError) and file and error.filename and Path(error.filename) == Path(file):
            self.tell(key, "syntax-error", self.reason(error), error.lineno)
            return
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        self.tell(key, "import-error", self.reason(error), lines[-1] if lines else None)

    def link_stubs(self):
        """Put what is applied and not readable where it was: behind the migration before it."""
        for key in self.stubs:
            if self.stubs[key] is None and key in self.disk_migrations:
                before = [
                    name
                    for app, name in self.disk_migrations
                    if app == key[0] and name < key[1] and (app, name) in self.recorded
                ]
                self.disk_migrations[key].dependencies = [(key[0], max(before))] if before else []

    def forget(self, key, lost):
        """Let go of dependencies that cannot be followed."""
        migration = self.disk_migrations.get(key)
        if migration is not None:
            migration.dependencies = [other for other in migration.dependencies if other not in lost]
            migration.run_before = [other for other in migration.run_before if other not in lost]

    def is_out(self, key):
        """Whether a dependency leads to what is kept out."""
        latest = key[1] == "__latest__" and any(app == key[0] for app, _ in self.out)
        return latest or key in self.out or (key[0], PACKAGE) in self.out

    def leave_out_dependents(self):
        """Keep out what depends on what is kept out, unless a squashed migration stands in for it."""
        replaced = {old for migration in self.disk_migrations.values() for old in migration.replaces}
        children = {}
        for key, migration in self.disk_migrations.items():
            for parent in migration.dependencies:
                children.setdefault(parent, []).append(key)
        queue = [parent for parent in children if self.is_out(parent)]
        while queue:
            parent = queue.pop()
            for key in children.get(parent, ()) if parent not in replaced else ():
                if self.is_recorded(key):
                    self.forget(key, {parent})
                elif key not in self.out:
                    self.tell(key, "depends-on-broken", f"it depends on {label(parent)}, which is broken")
                    self.out.add(key)
                    queue.append(key)
        for key in self.out:
            self.disk_migrations.pop(key, None)
        for key in self.disk_migrations:
            self.forget_children(key)

    def forget_children(self, key):
        """Let go of what a migration wants to run before, where that is kept out."""
        migration = self.disk_migrations[key]
        if migration.run_before:
            migration.run_before = [child for child in migration.run_before if child not in self.out]

    def check_key(self, key, current_app):
        """Say of the first and last migration of an app that has none what is said of any other missing one."""
        try:
            return super().check_key(key, current_app)
        except ValueError as error:
            raise NodeNotFoundError(str(error), key) from None

    def add_external_dependencies(self, key, migration):
        """Say whose dependency is missing."""
        try:
            super().add_external_dependencies(key, migration)
        except NodeNotFoundError as error:
            error.origin = error.origin or migration
            raise

    def build_graph(self):
        """Build the graph; each time that Django gives up, what it names is told and left out."""
        while True:
            known = len(self.broken), len(self.out), sum(map(len, self.cut.values()))
            try:
                return super().build_graph()
            except NodeNotFoundError as error:
                self.missing(error)
                if known == (len(self.broken), len(self.out), sum(map(len, self.cut.values()))):
                    raise
            except (CircularDependencyError, CommandError) as error:  # the latter of squashed ones, in Django 6.0
                self.circular(error)
                if known == (len(self.broken), len(self.out), sum(map(len, self.cut.values()))):
                    raise

    def missing(self, error):
        """Note whose dependencies are not there."""
        origin = error.origin or getattr(error.__cause__, "origin", None)
        if origin is None:  # of two that replace each other the second finds that it is gone
            self.tell(error.node, "bad-replaces", f"{error}; do two migrations replace each other?")
            self.out.add(error.node)
            return
        named = [
            key
            for key, migration in self.disk_migrations.items()
            if error.node in migration.dependencies or error.node in migration.run_before
        ]
        for key in named or [(origin.app_label, origin.name)]:
            if self.is_out(error.node):
                self.tell(key, "depends-on-broken", f"it depends on {label(error.node)}, which is broken")
            else:
                self.tell(key, "missing-dependency", self.lacking(error))
            if self.is_recorded(key):
                self.cut.setdefault(key, set()).add(error.node)
            else:
                self.out.add(key)

    def lacking(self, error):
        """Why a dependency is not there."""
        squashes = [label(key) for key, migration in self.replacements.items() if error.node in migration.replaces]
        because = f"it depends on {label(error.node)}, which does not exist"
        if error.node[1] in ("__first__", "__latest__"):
            because = f"it depends on the migrations of {error.node[0]}, and there are none"
        if squashes:
            because += f"; {' and '.join(squashes)} replaces it, and is applied in part"
        return because

    def circular(self, error):
        """Note who depends on itself: the squashed migration of a circle, if there is one, else all of it."""
        words = {word.strip(",.") for word in str(error).split()}
        circle = [key for key in self.disk_migrations if label(key) in words or str(key) in str(error)]
        squashes = [key for key in circle if self.disk_migrations[key].replaces]
        pending = [key for key in circle if not self.is_recorded(key)]
        named = sorted(label(key) for key in circle)
        for key in squashes or pending or circle:
            self.tell(key, "circular", f"it depends on itself: {' → '.join([*named, named[0]])}")
            if squashes or pending:
                self.out.add(key)
            else:
                self.cut.setdefault(key, set()).update(circle)


def executor_of(connection, reason, near):
    """Django's executor on the tolerant loader.

    ``reason`` says an error as a sentence, ``near`` a path relative to the application's directory.
    """
    kept = executor_module.MigrationLoader
    executor_module.MigrationLoader = lambda connection: Loader(connection, reason, near)
    try:
        return executor_module.MigrationExecutor(connection)
    finally:
        executor_module.MigrationLoader = kept
