# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""Record what each statement of a migration does: time, rows, locks and new files of the relations that were there.

Locks are read on the migrating connection itself, right after a statement and before its transaction ends, so that not
even the shortest is missed. Of SELECT, INSERT, UPDATE and DELETE only the first of each text is looked at in a
transaction, and after WATCHED transactions only texts that are new: a loop over rows must stay as fast as it is. What
our own looks cost is taken out of all times.

Outside a transaction a statement that may stand in one gets one, which changes nothing for it; for the others (CREATE
INDEX CONCURRENTLY) a second connection looks on while they run.
"""

import contextlib
import time

from .resident_locks import (
    BLOCKS_WRITES,
    EXISTING,
    HELD,
    INDEXES,
    MODES,
    OF_ROWS,
    REMADE,
    ROW_EXCLUSIVE,
    SHARE_UPDATE,
    STRENGTH,
    TABLE_OF,
    TOUCHED,
    Sampler,
    ask,
    blocked,
)
from .resident_statement import ALONE, CONCURRENTLY, IGNORED, WRITTEN, Entry, masked, readable

TOLD = 2000  # characters of a statement
MOST = 1000  # texts of one migration; what comes then is one entry
WATCHED = 100  # transactions of one migration that are looked at whatever they do
LONG = 10000  # characters of a text, of which many are not kept
SAMPLER_STARTS_WITHIN_S = 10
IN_ERROR = 3  # PQTRANS_INERROR
OTHER = "(other statements)"
RAW = "(statements that did not go through Django's cursors)"


class Transaction:
    """One transaction: which locks it took when."""

    def __init__(self, before, watched=True):
        self.before = before  # rows touched, as the server counted them for this session; None: not asked
        self.watched = watched
        self.taken = {}  # relation to [(strength, began)], growing in strength
        self.written = {}  # relation to rows, by the statements' own counts
        self.changed = set()  # relations of which rows that were there are locked: updated or deleted


class Recorder:
    """Records between ``begin`` and ``end`` what goes over one of Django's connections."""

    def __init__(self, connection, bookkeeping, known=()):
        self.connection = connection
        self.known = known  # strings and numbers that may be told, since they are not taken from rows
        self.bookkeeping = connection.ops.quote_name(bookkeeping)  # the table of applied migrations
        self.spent = 0.0  # by our own looks
        self.entries = {}  # by what is told of the text
        self.texts = {}  # the entry of a text as it was sent
        self.transaction, self.transactions = None, 0
        self.held, self.rows, self.blocking = {}, {}, 0.0
        self.row_locked = set()  # relations of which rows that were there were changed
        self.touched = {}  # rows per table, as the server counted them at the end of the last transaction

    def now(self):
        """Seconds, without those that were spent on looking."""
        return time.monotonic() - self.spent

    @contextlib.contextmanager
    def looking(self):
        """Keep the time of a look out of the record."""
        began = time.monotonic()
        try:
            yield self.connection.connection
        finally:
            self.spent += time.monotonic() - began

    # -- beginning and end ---------------------------------------------------------------------------------------------

    def begin(self):
        """Note what is there, and begin to record."""
        self.connection.ensure_connection()
        with self.looking() as raw:
            there = ask(raw, EXISTING)
            self.existing = {oid: (label, kind) for oid, label, kind, _ in there}
            self.files = {oid: file for oid, _, _, file in there}
            [(self.pid, self.own)] = ask(
                raw, "SELECT pg_backend_pid(), to_regclass(%s)::oid::bigint", [self.bookkeeping]
            )
        self.kept = self.connection._commit, self.connection._rollback
        self.connection._commit, self.connection._rollback = self.commit, self.roll_back
        self.connection.execute_wrappers.append(self.statement)
        self.began = self.ended = self.now()

    def end(self):
        """Stop recording; what was recorded."""
        seconds = self.now() - self.began
        self.finish()
        self.connection.execute_wrappers.remove(self.statement)
        del self.connection._commit, self.connection._rollback
        held = sorted(self.held.items(), key=lambda item: (-item[1][0], -item[1][1], item[0]))
        statements = sorted(self.entries.values(), key=lambda entry: entry.began)
        return {
            "seconds": seconds,
            "blocking_s": self.blocking,
            "statements": [
                {
                    "sql": entry.text[:TOLD],
                    "count": entry.count,
                    "began_s": max(0.0, entry.began - self.began),
                    "seconds": entry.seconds,
                    "rows": entry.rows,
                    "locks": {label: MODES[strength] for label, strength in sorted(entry.locks.items())},
                    "rewrites": sorted(entry.rewrites),
                }
                for entry in statements
                if entry.count
            ],
            "locks": [
                {
                    "relation": label,
                    "mode": MODES[strength],
                    "held_s": held_s,
                    "blocks": blocked(strength) or (OF_ROWS if label in self.row_locked else ""),
                }
                for label, (strength, held_s) in held
            ],
            "rewrites": sorted(set().union(*(entry.rewrites for entry in statements))),
            "rows": dict(sorted(self.rows.items())),
        }

    # -- statements ----------------------------------------------------------------------------------------------------

    def entry(self, text):
        """The entry of a text: texts that differ only in values of rows have one."""
        found = self.texts.get(text)
        if found is not None:
            return found
        told = masked(text, self.known)
        found = self.entries.get(told)
        if found is None and len(self.entries) >= MOST:
            told = OTHER
            found = self.entries.get(told)
        if found is None:
            found = self.entries[told] = Entry(told, self.now())
            written = WRITTEN.match(told)
            if written:
                found.table = self.named(written.group(1))
        if len(self.texts) < MOST and len(text) < LONG:
            self.texts[text] = found
        return found

    def named(self, name):
        """The relation that a statement calls so, or None."""
        if not self.usable():
            return None
        with self.looking() as raw:
            [(oid,)] = ask(raw, "SELECT to_regclass(%s)::oid::bigint", [name])
        return self.existing.get(oid, (None,))[0] if oid != self.own else None

    def usable(self):
        """Whether the server would answer: not in a transaction that has failed."""
        raw = self.connection.connection
        return raw is not None and not raw.closed and int(raw.info.transaction_status) != IN_ERROR

    def statement(self, execute, sql, params, many, context):
        """Django's wrapper around each statement."""
        connection = self.connection
        text = sql if isinstance(sql, str) else readable(sql, connection.connection)
        entry = self.entry(text)
        if entry.word in IGNORED or self.bookkeeping in text:
            return execute(sql, params, many, context)
        inside = connection.in_atomic_block or not connection.autocommit
        if inside and self.transaction is None:
            self.open(entry)
        with contextlib.ExitStack() as around:
            if not inside and not entry.plain:
                around.enter_context(self.around(entry))
            began = self.now()
            entry.count += 1
            try:
                result = execute(sql, params, many, context)
            finally:
                entry.seconds += self.now() - began
            rows = max(0, context["cursor"].rowcount)
            entry.rows += rows
            if inside:
                transaction = self.transaction
                if entry.table:
                    transaction.written[entry.table] = transaction.written.get(entry.table, 0) + rows
                if not entry.plain or entry.looked is None or (transaction.watched and entry.looked != transaction):
                    entry.looked = transaction
                    self.look(transaction, entry, began)
            elif entry.table:
                self.rows[entry.table] = self.rows.get(entry.table, 0) + rows
        return result

    @contextlib.contextmanager
    def around(self, entry):
        """Look at a statement outside a transaction, by a transaction of its own or from a second connection."""
        if not ALONE.match(entry.text):
            with self.sampled(entry):
                yield
            return
        raw = self.connection.connection
        ask(raw, "BEGIN")
        began, transaction = self.now(), Transaction({})
        try:
            yield
        except BaseException:
            ask(raw, "ROLLBACK")
            raise
        self.look(transaction, entry, began)
        ask(raw, "COMMIT")
        self.settle(transaction)

    @contextlib.contextmanager
    def sampled(self, entry):
        """Look at a statement from a second connection while it runs."""
        with self.looking():
            sampler = Sampler(self.connection, self.pid)
            sampler.start()
            sampler.ready.wait(SAMPLER_STARTS_WITHIN_S)
            seen = sampler.seen
            known = CONCURRENTLY.match(entry.text)
            if known:
                [(table,)] = ask(self.connection.connection, TABLE_OF, [known.group(1)] * 2)
                seen.add((table, "ShareUpdateExclusiveLock"))
        began, transaction = self.now(), Transaction({})
        try:
            yield
        finally:
            with self.looking():
                sampler.done.set()
                sampler.join(SAMPLER_STARTS_WITHIN_S)
                oids = sorted({oid for oid, _mode in seen} & set(self.existing))
                if oids and self.usable():
                    found = ask(
                        self.connection.connection,
                        "SELECT oid::bigint, relfilenode::bigint FROM pg_class WHERE oid::bigint = ANY(%s)",
                        [oids],
                    )
                    files = dict(found)
                    rows = [(oid, mode, files.get(oid)) for oid, mode in seen]
                    self.note(transaction, entry, began, rows)
            self.settle(transaction)

    # -- transactions --------------------------------------------------------------------------------------------------

    def open(self, entry):
        """Note that a transaction begins."""
        self.transactions += 1
        watched = self.transactions <= WATCHED or entry.looked is None
        before = None
        if watched and entry.word != "set":  # SET TRANSACTION must come first
            with self.looking() as raw:
                before = {oid: (count, changed) for oid, _, count, changed in ask(raw, TOUCHED)}
        self.transaction = Transaction(before, watched)

    def look(self, transaction, entry, began):
        """Read the session's locks and note those that are new."""
        if not self.usable():
            return
        with self.looking() as raw:
            rows = ask(raw, HELD + "pg_backend_pid()")
            self.note(transaction, entry, began, rows)

    def note(self, transaction, entry, began, rows):
        """Note locks and files that a statement changed."""
        gone = set()
        for oid, mode, file in rows:
            label, kind = self.existing.get(oid, (None, None))
            strength = STRENGTH.get(mode, 0)
            weak_on_index = kind in (*INDEXES, "S") and strength < SHARE_UPDATE
            if label is None or oid == self.own or weak_on_index:
                continue
            taken = transaction.taken.setdefault(label, [])
            if not taken or strength > taken[-1][0]:
                taken.append((strength, began))
                entry.locks[label] = max(strength, entry.locks.get(label, 0))
            if kind in INDEXES and file is None:
                gone.add(label)
            elif kind != "t" and file is not None and file != self.files[oid]:
                self.files[oid] = file
                entry.rewrites.add(label)
        if gone and self.usable():
            for oid, label, kind, file in ask(self.connection.connection, REMADE, [sorted(gone)]):
                if oid not in self.existing:  # the same name on a new relation: ALTER TABLE makes it anew
                    self.existing[oid], self.files[oid] = (label, kind), file
                    entry.rewrites.add(label)

    def commit(self):
        """In place of the connection's _commit."""
        self.last_look()
        try:
            return self.kept[0]()
        finally:
            self.finish()

    def roll_back(self):
        """In place of the connection's _rollback."""
        if self.transaction is not None:
            self.transaction.before, self.transaction.written, self.transaction.changed = None, {}, set()
        try:
            return self.kept[1]()
        finally:
            self.finish()

    def last_look(self):
        """Look at a transaction before it is committed: what raw cursors did, and which rows were touched."""
        transaction = self.transaction
        if transaction is None and self.transactions < WATCHED:  # only raw cursors were used in it
            self.transactions += 1
            transaction = self.transaction = Transaction(self.touched)
        if transaction is None or transaction.before is None or not self.usable():
            return
        raw_entry = self.entries.get(RAW) or Entry(RAW, self.ended)
        self.look(transaction, raw_entry, self.ended)
        with self.looking() as raw:
            touched = ask(raw, TOUCHED)
        # The server's counts go on from the transactions before, until it has handed them over and begins anew.
        self.touched = {oid: (count, changed) for oid, _, count, changed in touched}
        nothing = (0, 0)
        anew = any(self.touched.get(oid, nothing)[0] < count for oid, (count, _) in transaction.before.items())
        transaction.written, transaction.changed = {}, set()
        for oid, label_now, total, changed in touched:
            count_before, changed_before = nothing if anew else transaction.before.get(oid, nothing)
            label = self.existing.get(oid, (label_now,))[0]
            if oid != self.own and total > count_before:
                transaction.written[label] = total - count_before
            if oid in self.existing and oid != self.own and changed > changed_before:
                transaction.changed.add(label)
        if raw_entry.locks or raw_entry.rewrites:
            raw_entry.count += 1
            self.entries[RAW] = raw_entry

    def finish(self):
        """Note that the transaction has ended."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            for label, count in transaction.written.items():
                self.rows[label] = self.rows.get(label, 0) + count
            self.settle(transaction)

    def settle(self, transaction):
        """Count how long the locks of a transaction were held."""
        self.ended = self.now()
        for label, taken in transaction.taken.items():
            strength, began = taken[-1]
            self.held[label] = max(self.held.get(label, (-1, 0.0)), (strength, self.ended - began))
            # Who writes a row that was changed waits for the end of the transaction, whatever the table's lock.
            rows = label in transaction.changed
            self.row_locked.update({label} if rows else ())
            blocking = [
                began for strength, began in taken if strength >= BLOCKS_WRITES or (rows and strength >= ROW_EXCLUSIVE)
            ]
            if blocking:
                self.blocking = max(self.blocking, self.ended - blocking[0])
