# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""Locks, files and touched rows as PostgreSQL's catalogue tells them."""

import itertools
import sys
import threading

MODES = (
    "AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock",
    "ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock",
)  # fmt: skip
STRENGTH = {mode: strength for strength, mode in enumerate(MODES)}
ROW_EXCLUSIVE = STRENGTH["RowExclusiveLock"]
SHARE_UPDATE = STRENGTH["ShareUpdateExclusiveLock"]
BLOCKS_WRITES = STRENGTH["ShareLock"]
BLOCKS_READS = STRENGTH["AccessExclusiveLock"]
OF_ROWS = "writes to the changed rows"
SAMPLE_S = 0.01
INDEXES = ("i", "I")  # relkind
OWN_TABLES = "c.oid >= 16384 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
NAMED = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)"
FROM_CLASS = " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
EXISTING = (
    f"SELECT c.oid::bigint, {NAMED}, c.relkind::text, c.relfilenode::bigint{FROM_CLASS}"
    f" WHERE {OWN_TABLES} AND c.relkind IN ('r', 'p', 'm', 'v', 'f', 'S', 'i', 'I')"
    f" UNION ALL SELECT t.oid::bigint, {NAMED}, 't', 0::bigint{FROM_CLASS}"
    f" JOIN pg_class t ON t.oid = c.reltoastrelid WHERE {OWN_TABLES}"
)
HELD = (
    "SELECT l.relation::bigint, l.mode, c.relfilenode::bigint"
    " FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation"
    " WHERE l.locktype = 'relation' AND l.granted AND l.pid = "
)
TOUCHED = (
    "SELECT relid::bigint, quote_ident(schemaname) || '.' || quote_ident(relname),"
    " n_tup_ins + n_tup_upd + n_tup_del, n_tup_upd + n_tup_del"
    " FROM pg_stat_xact_user_tables WHERE n_tup_ins + n_tup_upd + n_tup_del > 0"
)
REMADE = (
    f"SELECT c.oid::bigint, {NAMED}, c.relkind::text, c.relfilenode::bigint{FROM_CLASS}"
    f" WHERE c.relkind IN ('i', 'I') AND {NAMED} = ANY(%s)"
)
# The table of an index, or the table itself.
TABLE_OF = (
    "SELECT coalesce((SELECT indrelid FROM pg_index WHERE indexrelid = to_regclass(%s)), to_regclass(%s))::oid::bigint"
)


def ask(raw, sql, params=None):
    """Send one statement of ours over a driver's connection, past Django and its wrappers."""
    cursor = raw.cursor()
    try:
        cursor.execute(sql, params) if params is not None else cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []
    finally:
        cursor.close()


def blocked(strength):
    """Whom of the application a lock keeps waiting."""
    if strength >= BLOCKS_READS:
        return "reads and writes"
    return "writes" if strength >= BLOCKS_WRITES else ""


class Sampler(threading.Thread):
    """Reads the locks of a session from another one until it is told to stop."""

    def __init__(self, connection, pid):
        super().__init__(daemon=True)
        self.connection, self.pid = connection, pid
        self.ready, self.done, self.seen = threading.Event(), threading.Event(), set()

    def run(self):
        """Read and read again."""
        own = self.connection.copy()
        try:
            own.connect()
            self.sample(own)
            self.ready.set()
            waits = itertools.chain(itertools.repeat(0, 100), itertools.repeat(SAMPLE_S))  # for short ones, dense
            while not self.done.wait(next(waits)):
                self.sample(own)
        except Exception as error:  # noqa: BLE001 - without it the locks of one statement are not known
            print("no second connection to look at locks from:", type(error).__name__, file=sys.stderr)  # noqa: T201
        finally:
            self.ready.set()
            own.close()

    def sample(self, own):
        """Read once."""
        self.seen.update((oid, mode) for oid, mode, _ in ask(own.connection, f"{HELD}{int(self.pid)}"))
