# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""Carry out commands on a scratch database, inside a Django application's own interpreter.

Nothing but the standard library, the application's Django (3.2 to 6.0) and its driver is needed. It is started through
the application's management command, whatever that is:

    <manage> shell -c "import runpy; runpy.run_path('.../resident.py', run_name='__main__')"

RUNBOOK_RESIDENT_FD names an inherited socket. One JSON object per line goes each way. The first is the target, to which
the settings and the drivers are bound (resident_guard.py): before any code of the application runs (resident_early.py)
or, where its interpreter does not look at PYTHONPATH, now. Each command that follows gets one answer, {"ok": ...} or
{"error": {"type", "message", "sqlstate", "where"}}:
- ``hello`` what is reached; ``plan`` the probe's answer.
- ``migrate`` the application's own command, wholly or ``to`` [app, name]. With ``events``, {"event": "before"} and
  {"event": "after"} are sent around each migration, and "go" is waited for; the latter holds the migration's record
  (resident_recorder.py).
- ``reverse`` one ``migration`` [app, name]; ``use`` the models' queries (resident_queries.py); ``requests`` to its
  URLs, in process (resident_requests.py).

When the socket is closed at the other end, the process and its children end at once. Messages hold no DETAIL and no
CONTEXT of PostgreSQL's, since rows are in them.
"""

import contextlib
import importlib
import json
import os
import platform
import queue
import re
import signal
import sys
import threading
import time
import types
from pathlib import Path

import django
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connections
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

PACKAGE = "runbook_inside"
VALUED = (ValueError, KeyError, TypeError, ArithmeticError, ValidationError)  # they quote what they were given
MESSAGE = 1000  # characters of an error
CHUNK = 65536  # bytes


def beside(name):
    """A module that lies beside this file, of a package of its own: the application's search path stays as it is."""
    if PACKAGE not in sys.modules:
        sys.modules[PACKAGE] = types.ModuleType(PACKAGE)
        sys.modules[PACKAGE].__path__ = [str(Path(__file__).parent)]
    return importlib.import_module(f"{PACKAGE}.{name}")


class Channel:
    """The socket to whoever started us; without it, there is nothing to live for."""

    def __init__(self, descriptor):
        os.set_inheritable(descriptor, False)
        self.descriptor, self.incoming = descriptor, queue.Queue()
        self.outgoing = os.fdopen(os.dup(descriptor), "wb")
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        """Take what comes in; end the process when nobody is there any more."""
        rest = b""
        with contextlib.suppress(OSError):
            while True:
                chunk = os.read(self.descriptor, CHUNK)  # no buffer, whose lock would hinder the interpreter's end
                if not chunk:
                    break
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self.incoming.put(json.loads(line.decode("utf-8")))
        if os.getpgrp() == os.getsid(0):  # a session of our own: nobody else is hit
            os.killpg(0, signal.SIGKILL)
        os._exit(3)

    def send(self, message):
        """Send one message."""
        self.outgoing.write(json.dumps(message, default=str).encode("utf-8") + b"\n")
        self.outgoing.flush()

    def receive(self):
        """Wait for one message."""
        return self.incoming.get()


def sqlstate_of(error):
    """The SQLSTATE of an error of Django's or a driver's, or None, and the driver's error."""
    while error is not None:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        if state:
            return state, error
        error = error.__cause__
    return None, None


class Resident:
    """Carries out commands until it is told to end."""

    def __init__(self, channel):
        self.channel = channel
        self.probe = beside("probe")
        target = channel.receive()["target"]
        self.alias = target["alias"]
        early = getattr(sys.modules[PACKAGE], "early", None)  # of early/sitecustomize.py
        self.early = bool(early and early.guard and not early.missed)
        self.guard = early.guard if early and early.guard else beside("resident_guard").Guard(target)
        self.redirected, self.cut_off = self.guard.install()
        self.records = []

    @property
    def connection(self):
        """Django's connection to the target."""
        return connections[self.alias]

    def problem(self, error):
        """What is told of an error: PostgreSQL's primary message, without values; else its first line."""
        state, driver = sqlstate_of(error)
        kind = type(error)
        message = str(error)
        if driver is not None:
            message = driver.diag.message_primary or message
            if state.startswith("22") or state == "P0001":  # 'invalid input syntax for type integer: "..."', RAISE
                message = re.sub(r'"[^"]*"', '"***"', message)
        elif isinstance(error, VALUED):  # "invalid literal for int() with base 10: '...'"
            message = re.sub(r"""'[^']*'|"[^"]*"|“[^”]*”""", "'***'", message)
        message = (message.strip().splitlines() or [""])[0][:MESSAGE]
        for secret in sorted(filter(None, self.guard.secrets), key=len, reverse=True):
            message = message.replace(secret, "***")
        return {
            "type": f"{kind.__module__}.{kind.__qualname__}",
            "message": self.probe.told(Exception(message))["message"],
            "sqlstate": state,
            "where": self.probe.where(error),
        }

    # -- commands ------------------------------------------------------------------------------------------------------

    def hello(self, _request):
        """What was reached."""
        reached = self.probe.identity(self.connection)
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            server_pid = cursor.fetchone()[0]
        raw = self.connection.connection
        driver = sys.modules["psycopg" if "psycopg" in sys.modules and hasattr(raw, "pgconn") else "psycopg2"]
        return {
            "django": django.get_version(),
            "python": platform.python_version(),
            "driver": "{} {}".format(driver.__name__, driver.__version__.split(" ")[0]),
            "database": reached["database"],
            "database_oid": reached["database_oid"],
            "system_identifier": reached["system_identifier"],
            "server_version_num": reached["server_version_num"],
            "user": reached["user"],
            "client_pid": raw.info.backend_pid,
            "server_pid": server_pid,
            "redirected": self.redirected,
            "cut_off": self.cut_off,
            "early": self.early,
            "refused": list(self.guard.refused),
            "pid": os.getpid(),
        }

    def plan(self, request):
        """The probe's answer; afterwards the migrations are as if nobody had rendered them."""
        answer = {
            "format": self.probe.FORMAT,
            "django": django.get_version(),
            "python": platform.python_version(),
            "settings": getattr(settings, "SETTINGS_MODULE", None),
            "database": self.alias,
            "code": self.probe.code_in_use(),
            "identity": self.probe.identity(self.connection),
            "error": None,
        }
        try:
            self.probe.describe_migrations(self.connection, request.get("targets", []), answer)
        finally:
            self.connection.close()  # the probe leaves autocommit off
            forget_migrations()
        return answer

    def migrate(self, request):
        """The application's own `migrate`."""
        self.records, began, error = [], time.monotonic(), None
        to = request.get("to") or []
        with self.watched(request.get("events", True)):
            try:
                call_command("migrate", *to, database=self.alias, interactive=False, no_color=True)
            except (Exception, SystemExit) as caught:  # noqa: BLE001 - it is the answer
                error = self.problem(caught)
                forget_migrations()
        return {"migrations": self.records, "error": error, "seconds": time.monotonic() - began}

    def reverse(self, request):
        """`migrate app <predecessor>`, unless that would reverse others too."""
        app, name = request["migration"]
        label = f"{app}.{name}"
        executor = MigrationExecutor(self.connection)
        graph = executor.loader.graph
        if (app, name) not in graph.nodes:
            return refused(label, f"{label} is not among the application's migrations")
        before = sorted(key for key in (parent.key for parent in graph.node_map[app, name].parents) if key[0] == app)
        if (app, name) not in executor.loader.applied_migrations:
            return refused(label, f"{label} is not applied")
        also = set()
        for target in before or [(app, None)]:
            plan = [(f"{step.app_label}.{step.name}", back) for step, back in executor.migration_plan([target])]
            if plan == [(label, True)]:
                return self.reversed(label, target, graph.nodes[app, name])
            also.update(step for step, _back in plan if step != label)
        return refused(label, "{} would be reversed with it: {}".format(label, ", ".join(sorted(also))))

    def reversed(self, label, target, migration):
        """Reverse one migration; its record."""
        self.records, because = [], ""
        with self.watched(False, record=True):
            try:
                call_command(
                    "migrate", target[0], target[1] or "zero", database=self.alias, interactive=False, no_color=True
                )
            except IrreversibleError as caught:
                stuck = [self.probe.irreversible_because(operation) for operation in migration.operations]
                because = "; ".join(filter(None, stuck)) or str(caught)
            except (Exception, SystemExit) as caught:  # noqa: BLE001 - it is the answer
                if not self.records:
                    return refused(label, "", self.problem(caught))
                self.records[-1]["error"] = self.records[-1]["error"] or self.problem(caught)
                forget_migrations()
        if not self.records:
            return refused(label, because or "`migrate` reversed nothing")
        return dict(self.records[-1], irreversible_because=because)

    def use(self, request):
        """The models' queries."""
        return beside("resident_queries").use(self.alias, request.get("tables"), self.problem)

    def requests(self, request):
        """Requests to the application's URLs."""
        return beside("resident_requests").answers(request, self.problem)

    # -- migrations ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self, events, record=None):
        """Have Django's executor tell of each migration that it applies or reverses."""
        kept = MigrationExecutor.apply_migration, MigrationExecutor.unapply_migration
        record = events if record is None else record

        def telling(original):
            def one(executor, state, migration, *args, **kwargs):
                if executor.connection.alias != self.alias:
                    return original(executor, state, migration, *args, **kwargs)
                with self.one(migration, events, record):
                    return original(executor, state, migration, *args, **kwargs)

            return one

        MigrationExecutor.apply_migration, MigrationExecutor.unapply_migration = map(telling, kept)
        try:
            yield
        finally:
            MigrationExecutor.apply_migration, MigrationExecutor.unapply_migration = kept

    @contextlib.contextmanager
    def one(self, migration, events, record):
        """Tell of one migration and record it."""
        label = f"{migration.app_label}.{migration.name}"
        if events:
            self.channel.send({"event": "before", "migration": label})
            self.channel.receive()
        del self.guard.refused[:]
        known = beside("resident_statement").brought_along(migration) if record else ()
        bookkeeping = MigrationRecorder.Migration._meta.db_table
        recorder = beside("resident_recorder").Recorder(self.connection, bookkeeping, known) if record else None
        found, began = dict(EMPTY, migration=label), time.monotonic()
        if recorder:
            recorder.begin()
        try:
            yield
        except BaseException as error:
            found["error"] = self.problem(error)
            raise
        finally:
            found["seconds"] = time.monotonic() - began
            if recorder:
                found.update(recorder.end())
            found["refused"] = list(self.guard.refused)
            self.records.append(found)
            if events:
                self.channel.send({"event": "after", "record": found})
                self.channel.receive()

    def serve(self):
        """Answer commands until the process is ended."""
        while True:
            request = self.channel.receive()
            try:
                answer = {"ok": getattr(self, request["command"])(request)}
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whoever asked must learn of it
                answer = {"error": self.problem(error)}
            self.channel.send(answer)


EMPTY = {
    "seconds": 0.0, "blocking_s": 0.0, "statements": [], "locks": [], "rewrites": [], "rows": {},
    "error": None, "refused": [],
}  # fmt: skip


def forget_migrations():
    """Have them imported anew: an operation whose reversal fails may stay changed (RenameModel swaps its names)."""
    loader = MigrationLoader(None, load=False)
    with contextlib.suppress(Exception):  # whoever needs them will be told
        loader.load_disk()
        for migration in loader.disk_migrations.values():
            sys.modules.pop(migration.__module__, None)


def refused(label, sentence, error=None):
    """The record of a reversal that was not begun."""
    error = error or {"type": "Refused", "message": sentence, "sqlstate": None, "where": None}
    return dict(EMPTY, migration=label, error=error)


def main():
    """Bind the application to the target, say so, and serve."""
    channel = Channel(int(os.environ["RUNBOOK_RESIDENT_FD"]))
    try:
        resident = Resident(channel)
    except Exception as error:  # noqa: BLE001 - whoever asked must learn of it
        kind = type(error)
        told = {"type": f"{kind.__module__}.{kind.__qualname__}", "message": str(error).splitlines()[0][:MESSAGE]}
        channel.send({"error": dict(told, sqlstate=None, where=None)})
        return
    channel.send({"ok": {}})
    resident.serve()


if __name__ == "__main__":
    main()
