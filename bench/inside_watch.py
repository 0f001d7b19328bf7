# mypy: ignore-errors
# Runs inside the shop's interpreter.
"""What every transaction of a migration locks, reads and writes, seen from its own session."""

import re
import threading
import time

import psycopg
from django.db import connection, transaction

MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
ALONE = re.compile(r"\bCONCURRENTLY\b|^\s*VACUUM\b", re.IGNORECASE)  # refused in a transaction
TABLES = (
    "SELECT c.oid::bigint, c.relname, c.relfilenode::bigint FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'i')"
    " AND c.relname NOT LIKE 'django_migrations%'"
)
# What a session has counted and not yet told, and what it has: the sum grows whenever it tells.
COUNTERS = (
    "SELECT s.relid::bigint, s.seq_tup_read + x.seq_tup_read + s.n_tup_ins + x.n_tup_ins + s.n_tup_upd + x.n_tup_upd"
    " + s.n_tup_del + x.n_tup_del, s.n_tup_upd + x.n_tup_upd + s.n_tup_del + x.n_tup_del"
    " FROM pg_stat_user_tables s JOIN pg_stat_xact_user_tables x USING (relid) WHERE s.schemaname = 'public'"
)
LOCKS = (
    "SELECT relation::bigint, mode FROM pg_locks WHERE pid = %s AND locktype = 'relation' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
TIMEOUTS = "SELECT name, setting::int FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')"
SAMPLE_S = 0.001


class InterruptedHereError(Exception):
    """The migration is stopped here."""


class Watch:
    """Notes what every transaction locks, reads and writes."""

    def __init__(self, stop_after):
        self.stop_after = stop_after
        self.units = []  # transactions and lone statements that changed or locked something
        self.unguarded = False
        self.current = None
        connection.ensure_connection()
        self.ask("SELECT set_config('stats_fetch_consistency', 'none', false)")
        self.pid = self.ask("SELECT pg_backend_pid()")[0][0]
        self.tables = {oid: (name, node) for oid, name, node in self.ask(TABLES)}
        self.timeouts = dict(self.ask(TIMEOUTS))
        self.commit, self.roll_back = connection._commit, connection._rollback
        connection._commit, connection._rollback = self.committed, self.rolled_back

    def ask(self, query, *parameters):
        """The rows of an answer on the migration's own connection, past Django."""
        with connection.connection.cursor() as cursor:
            return cursor.execute(query, parameters or None).fetchall()

    def end(self):
        """Look no more."""
        connection._commit, connection._rollback = self.commit, self.roll_back

    def __call__(self, execute, sql, params, many, context):
        """Run one statement for Django, and look."""
        if self.stop_after is not None and len(self.units) >= self.stop_after:
            raise InterruptedHereError
        text = str(sql)
        if connection.in_atomic_block:
            return self.inside(execute, text, (sql, params, many, context))
        if ALONE.search(text):
            return self.sampled(execute, text, (sql, params, many, context))
        if text.lstrip().upper().startswith("SELECT"):
            return execute(sql, params, many, context)
        with transaction.atomic():  # as it would be by itself, but the locks can be seen before they go
            return self.inside(execute, text, (sql, params, many, context))

    def inside(self, execute, text, call):
        """A statement in a transaction."""
        if self.current is None:
            self.current = {"statements": 0, "texts": set(), "sql": [], "taken": {}, "began": self.counters()}
            self.current["last"] = self.current["began"]
        unit = self.current
        unit["statements"] += 1
        begun = time.monotonic()
        result = execute(*call)
        if text[:150] not in unit["texts"]:
            unit["texts"].add(text[:150])
            unit["sql"].append(text[:150])
            self.look(begun)
        return result

    def look(self, begun):
        """Which locks there are now, and since which statement."""
        unit = self.current
        for oid, mode in self.ask(LOCKS, self.pid):
            if oid in self.tables:
                known = unit["taken"].get(oid)
                if known is None or MODES.index(mode) > MODES.index(known["mode"]):
                    unit["taken"][oid] = {"mode": mode, "since": begun, "before": unit["last"]}
        unit["last"] = self.counters()
        now = dict(self.ask(TIMEOUTS))
        self.unguarded |= any(now[name] == 0 or now[name] > limit for name, limit in self.timeouts.items())

    def counters(self):
        """Rows read and written, and rows changed, of each table that was there before."""
        return {oid: (work, written) for oid, work, written in self.ask(COUNTERS) if oid in self.tables}

    def committed(self):
        """Note what a transaction did, before it is over."""
        if self.current is not None:
            ended, counters = time.monotonic(), self.counters()
            self.note(self.current, ended, counters)
            self.current = None
        self.commit()

    def rolled_back(self):
        """Forget a transaction that did nothing."""
        self.current = None
        self.roll_back()

    def note(self, unit, ended, counters):
        """Keep what a transaction did to the tables that were there before."""
        locks = [
            {
                "relation": self.tables[oid][0],
                "mode": taken["mode"],
                "held_s": ended - taken["since"],
                "work": sum(work - taken["before"].get(table, (0, 0))[0] for table, (work, _) in counters.items()),
            }
            for oid, taken in unit["taken"].items()
        ]
        written = {self.tables[oid][0]: rows - unit["began"].get(oid, (0, 0))[1] for oid, (_, rows) in counters.items()}
        changes = [text for text in unit["sql"] if not re.match(r"\s*(SELECT|SAVEPOINT|RELEASE)", text, re.IGNORECASE)]
        if changes and not all("django_migrations" in text for text in changes):
            self.units.append(
                {
                    "sql": unit["sql"],
                    "statements": unit["statements"],
                    "locks": locks,
                    "written": {name: rows for name, rows in written.items() if rows},
                }
            )

    def sampled(self, execute, text, call):
        """A statement that refuses to be in a transaction: another session looks at its locks."""
        unit = {"statements": 1, "sql": [text[:150]], "taken": {}, "began": self.counters()}
        over = threading.Event()
        watcher = threading.Thread(target=self.sample, args=(unit, over))
        watcher.start()
        try:
            result = execute(*call)
        finally:
            over.set()
            watcher.join()
        self.note(unit, time.monotonic(), self.counters())
        return result

    def sample(self, unit, over):
        """Look at the locks of the migration's session until its statement is over."""
        own = {
            name: value
            for name, value in connection.get_connection_params().items()
            if name in ("host", "port", "user", "password", "dbname")
        }
        with psycopg.connect(**own, autocommit=True, application_name="bench sampler") as session:
            while not over.is_set():
                for oid, mode in session.execute(LOCKS, [self.pid]).fetchall():
                    known = unit["taken"].get(oid)
                    if oid in self.tables and (known is None or MODES.index(mode) > MODES.index(known["mode"])):
                        unit["taken"][oid] = {"mode": mode, "since": time.monotonic(), "before": unit["began"]}
                over.wait(SAMPLE_S)
