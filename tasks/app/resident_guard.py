# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""Keep an application from every database but one.

``lead`` leads the alias to migrate, and those that named the same database (replicas, mirrors), to the target and
cuts all others off; what was open is closed. The guard looks at every connection that psycopg or psycopg 3 makes,
whoever asked for it: unless the server says that it is the target, it is closed and an error is raised. Drivers that
are written in Python, which could not be asked, are kept from the ports of the settings' databases. Statements that
Django sends are refused where they reach beyond the target (resident_reach.py). Programs are not started, since they
would bring their own settings; mail stays in memory.
"""

import gc
import importlib
import multiprocessing.util
import os
import subprocess
import sys

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.utils import Error, NotSupportedError, OperationalError

from .resident_reach import reaches
from .resident_statement import readable

# Options by which libpq, or Django, would go elsewhere than HOST, PORT, USER and NAME say.
LEADING = {
    "service", "servicefile", "dsn", "conninfo", "host", "hostaddr", "port", "dbname", "database", "user", "password",
    "passfile", "target_session_attrs", "load_balance_hosts", "replication", "pool", "sslmode",
}  # fmt: skip
NOWHERE = "cut-off.invalid"
# Where nothing else is said; of the file of a local socket, the end tells the port.
PORTS = {"postgresql": "5432", "postgis": "5432", "mysql": "3306", "oracle": "1521"}
OWN_SERVER_HINT = "name a server of its own in [backup] scratch_server, where that does no harm"
UNTRIED_HINT = 'it cannot be rehearsed: [backup] verify = "read" goes without'
IDENTITY = (
    "SELECT oid::text, datname, has_function_privilege('pg_control_system()', 'execute')::text"
    " FROM pg_database WHERE datname = current_database()"
)
SYSTEM = "SELECT system_identifier::text FROM pg_control_system()"


class CutOff(OperationalError):  # noqa: N818 - said of what was tried
    """A connection that a rehearsal must not make."""


class Beyond(NotSupportedError):  # noqa: N818
    """A statement that a rehearsal must not carry out."""


class NotStarted(PermissionError):  # noqa: N818
    """A program that a rehearsal must not start."""


def same_database(one, other):
    """Whether two entries of DATABASES name the same data: one address, or a standby that differs in the host only."""
    if not one.get("NAME") or one.get("NAME") != other.get("NAME") or one.get("ENGINE") != other.get("ENGINE"):
        return False
    address = [(entry.get("HOST") or "", str(entry.get("PORT") or "")) for entry in (one, other)]
    return address[0] == address[1] or (one.get("USER") or "") == (other.get("USER") or "")


def ports(databases):
    """The ports of all databases of the settings, as text."""
    found = set()
    for entry in databases.values():
        kind = (entry.get("ENGINE") or "").rpartition(".")[2]
        found.add(str(entry.get("PORT") or PORTS.get(kind, "")))
    return found - {""}


def redirect(databases, target):
    """Lead the settings to the target; the aliases that now lead there.

    User and password stay the alias's own where the target says so.
    """
    alias = target["alias"]
    if alias not in databases:
        known = ", ".join(sorted(databases))
        raise LookupError(f"the application has no database {alias!r} in its DATABASES, but {known}")
    mirrors = {name: (entry.get("TEST") or {}).get("MIRROR") for name, entry in databases.items()}
    there = {name for name, entry in databases.items() if same_database(databases[alias], entry)} | {alias}
    there |= {name for name, mirror in mirrors.items() if mirror in there}
    for name, entry in databases.items():
        kept = {key: value for key, value in (entry.get("OPTIONS") or {}).items() if key.lower() not in LEADING}
        entry["OPTIONS"] = kept  # a dictionary of its own: aliases may share one
        if name in there:
            kept["sslmode"] = target["sslmode"]
            entry.update({key: target[key] for key in ("HOST", "PORT", "NAME")})
            if not (target["own_role"] and entry.get("USER")):
                entry.update({key: target[key] for key in ("USER", "PASSWORD")})
        else:
            entry.update(HOST=NOWHERE, PORT="", PASSWORD="")
    for name in list(os.environ):
        if name.startswith("PG"):  # libpq's
            del os.environ[name]
    if settings.EMAIL_BACKEND:
        settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    return there


class Guard:
    """Lets no connection through but those to the target, and keeps what it refused."""

    def __init__(self, target):
        self.target = target
        self.secrets = {target["PASSWORD"]}
        self.allowed, self.tried = set(), set()  # aliases that lead to the target; those that have connected there
        self.ports = set()
        self.refused = []
        self.drivers = {}  # by name, the class of their connections and what closes one
        self.django = False  # whether it is watched

    def refuse(self, kind, sentence):
        """Note what was refused, and raise."""
        if sentence not in self.refused and len(self.refused) < 20:
            self.refused.append(sentence)
        raise kind(sentence)

    def install(self):
        """Watch what is not watched yet, and close what is open; aliases that lead to the target, and nowhere.

        Of what a guard from the first moment on (resident_early.py) has done, only what came later is done again: the
        application may have added aliases.
        """
        for name in ("psycopg", "psycopg2"):
            self.watch_driver(name)
        self.watch_django()
        self.lead(connections.databases)
        alias = self.target["alias"]
        if connections[alias].vendor != "postgresql":
            engine = connections.databases[alias]["ENGINE"].rpartition(".")[2]
            raise LookupError(f"the application's database {alias!r} is {engine}, not PostgreSQL")
        self.close_open()
        self.watch_programs()
        return sorted(self.allowed), sorted(set(connections.databases) - self.allowed)

    def lead(self, databases):
        """Lead the settings to the target, and keep drivers in Python from the ports that they named."""
        self.secrets.add(databases.get(self.target["alias"], {}).get("PASSWORD"))
        if not self.ports:
            self.watch_sockets()
        self.ports |= ports(databases)
        self.allowed = redirect(databases, self.target)

    def watch_driver(self, name):
        """Look at every connection of a driver, where it is installed."""
        if name in self.drivers:
            return
        try:
            driver = importlib.import_module(name)
        except ImportError:
            return
        if name not in self.drivers:  # its import may have told of itself
            self.drivers[name] = self.watch_psycopg(driver) if name == "psycopg" else self.watch_psycopg2(driver)

    def check(self, ask):
        """Compare what a connection says with the target; ``ask`` sends one statement and returns the first row."""
        oid, name, may_ask = ask(IDENTITY)
        system = ask(SYSTEM)[0] if may_ask == "true" else None
        expected = self.target["system_identifier"]
        same_server = system is None or expected is None or system == expected
        if same_server and int(oid) == self.target["oid"] and name == self.target["NAME"]:
            return
        self.refuse(
            CutOff,
            f"a connection to database {name} (oid {oid}, server {system or 'unknown'}) was closed: only"
            f" {self.target['NAME']} may be reached",
        )

    def watch_psycopg(self, psycopg):
        """Look at every connection of psycopg 3, synchronous or not, the moment that it is made."""
        base = next(kind for kind in psycopg.Connection.__mro__ if kind.__name__ == "BaseConnection")
        make, check = base.__init__, self.check

        def look(connection, pgconn, *args, **kwargs):
            make(connection, pgconn, *args, **kwargs)

            def ask(statement):
                result = pgconn.exec_(statement.encode())
                if result.ntuples < 1:
                    raise psycopg.OperationalError("a connection could not be identified")
                return [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]

            try:
                check(ask)
            except BaseException:
                pgconn.finish()
                raise

        base.__init__ = look
        return base, lambda connection: connection.pgconn.finish()

    def watch_psycopg2(self, psycopg2):
        """Look at every connection of psycopg2; asynchronous ones, which cannot be asked at once, are not made."""
        make = psycopg2._connect  # what connect() calls, under whatever name somebody imported that

        def look(dsn, connection_factory=None, **kwargs):
            if any(kwargs.values()):
                self.refuse(CutOff, "an asynchronous connection was not made: it cannot be identified")
            connection = make(dsn, connection_factory=connection_factory, **kwargs)

            def ask(statement):
                with psycopg2.extensions.connection.cursor(connection, cursor_factory=psycopg2.extensions.cursor) as c:
                    c.execute(statement)
                    return c.fetchone()

            try:
                self.check(ask)
                connection.rollback()
            except BaseException:
                connection.close()
                raise
            return connection

        psycopg2._connect = look
        return psycopg2.extensions.connection, lambda connection: connection.close()

    def watch_django(self):
        """Refuse aliases that are cut off before anything is sent; connect as the target's user where need be."""
        if self.django:
            return
        self.django = True
        connect, guard = BaseDatabaseWrapper.connect, self

        def look(wrapper):
            alias = wrapper.alias
            if alias not in guard.allowed and wrapper.settings_dict.get("HOST") == NOWHERE:
                guard.refuse(CutOff, f"the database {alias!r} is cut off: only {guard.target['NAME']} is there")
            if wrapper.vendor != "postgresql":
                guard.refuse(CutOff, f"a connection to {alias!r}, which is {wrapper.vendor}, was not made")
            first = alias in guard.allowed and alias not in guard.tried
            guard.tried.add(alias)
            try:
                with wrapper.wrap_database_errors:
                    return connect(wrapper)
            except CutOff:
                raise
            except Error:
                if not (first and guard.let_in(wrapper.settings_dict)):
                    raise
            return connect(wrapper)

        BaseDatabaseWrapper.connect = look
        self.watch_statements()

    def let_in(self, entry):
        """Have an alias connect as the target's user, since the server does not take its own; False: it is the same."""
        if entry["USER"] == self.target["USER"]:
            return False
        entry.update({key: self.target[key] for key in ("USER", "PASSWORD")})
        entry["OPTIONS"].pop("assume_role", None)
        return True

    def watch_statements(self):
        """Refuse what reaches beyond the target, whichever connection of Django's it is sent by."""
        guard, target = self, self.target

        def watched(original):
            def execute(cursor, sql, *args, **kwargs):
                text = sql if isinstance(sql, str) else readable(sql, cursor.db.connection)
                found = reaches(text, target["shared"], target["NAME"])
                if found:
                    what, elsewhere = found
                    where = "other databases, files or programs" if elsewhere else "all databases of the server"
                    hint = UNTRIED_HINT if elsewhere else OWN_SERVER_HINT
                    guard.refuse(Beyond, f"`{what} ...` was not carried out, since it reaches {where}; {hint}")
                return original(cursor, sql, *args, **kwargs)

            return execute

        CursorWrapper._execute = watched(CursorWrapper._execute)
        CursorWrapper._executemany = watched(CursorWrapper._executemany)

    def watch_sockets(self):
        """Keep drivers in Python from the ports of databases; libpq's connections are none of Python's."""
        if not hasattr(sys, "addaudithook"):  # Python 3.6 and 3.7
            return

        def look(event, args):
            if event == "socket.connect":
                address = args[1]
                to = address[1] if isinstance(address, tuple) and len(address) > 1 else address
                port = (os.fsdecode(to) if isinstance(to, (str, bytes)) else str(to)).rpartition(".")[2]
                if port in self.ports:
                    self.refuse(CutOff, f"a connection to port {port} was not made: it is that of a database")

        sys.addaudithook(look)

    def watch_programs(self):
        """Start no program: psql, or another manage.py, would read the settings anew. A fork keeps the guard."""

        def refuse(*args, **kwargs):
            command = kwargs.get("args", args[0] if args else "")
            program = command.split() if isinstance(command, str) else list(map(os.fsdecode, command))
            name = os.path.basename(program[0]) if program else "?"
            self.refuse(NotStarted, f"the program {name} was not started: it could reach another database")

        def refuse_process(_process, *args, **kwargs):
            refuse(*args, **kwargs)

        subprocess.Popen.__init__ = refuse_process
        multiprocessing.util.spawnv_passfds = lambda path, *_args: refuse([path])
        for name in ("system", "posix_spawn", "posix_spawnp", "execv", "execve"):
            if hasattr(os, name):
                setattr(os, name, lambda path, *_args: refuse([path]))

    def close_open(self):
        """Close what is open, AppConfig.ready()'s for one, in whatever thread, pool or variable it is."""
        for alias in connections:
            try:
                wrapper = connections[alias]
            except ImproperlyConfigured:  # a driver that is not installed: nothing can be open
                continue
            for pool in getattr(wrapper, "_connection_pools", {}).values():
                pool.close()
            getattr(wrapper, "_connection_pools", {}).clear()
            wrapper.close()
        drivers = list(self.drivers.values())
        kinds = tuple(kind for kind, _close in drivers)
        for thing in gc.get_objects():
            if kinds and issubclass(type(thing), kinds):
                next(close for kind, close in drivers if issubclass(type(thing), kind))(thing)
