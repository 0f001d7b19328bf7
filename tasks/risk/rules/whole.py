"""Rules over migrations as a whole: what their operations do to each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tasks.release.risk import Finding
from tasks.risk.data_migrations import read_code
from tasks.risk.history import History, Operation
from tasks.risk.rule import Case, Rule
from tasks.risk.spots import Spot, is_unknown, runs, spots
from tasks.risk.sql_actions import understood
from tasks.risk.type_changes import Cost, cost
from tasks.risk.vocabulary import words
from tasks.risk.weight import weigh

# Operations that lock no table, or none that was there.
_LOCKLESS = words(
    "CreateModel AlterModelOptions AlterModelManagers AlterModelTableComment SeparateDatabaseAndState RunSQL RunPython"
    " CreateExtension CreateCollation RemoveCollation AddIndexConcurrently RemoveIndexConcurrently ValidateConstraint"
    " RenameIndex"
)
_LOCKING_ACTIONS = words(
    "add-column drop-column rename-column rename-table alter-type set-not-null add-check add-unique add-foreign-key"
    " add-exclusion create-trigger truncate lock drop-table create-index"
)
_LONG_ACTIONS = words(
    "create-index reindex rewrite-table refresh attach-partition add-exclusion alter-type"
    " set-not-null validate add-check"
    " add-unique add-foreign-key update delete"
)
# Operations that Django carries out by IF EXISTS, or that set what is set already.
_REPEATABLE = words(
    "AlterModelOptions AlterModelManagers AlterModelTableComment RemoveIndexConcurrently ValidateConstraint"
)
# Facts of a field whose change makes or renames something.
_MADE_BY_NAME = ("column", "unique", "index", "references")
_SETTINGS = frozenset({"drop-default", "drop-not-null"})
_TWICE = "fails, since it cannot be done twice"
# Facts of a field that only code looks at.
_OF_CODE = frozenset({"name", "class", "default", "default_callable", "max_length"})


@dataclass(frozen=True)
class Step:
    """One operation: the tables it locks until the transaction ends, and those it works on for long."""

    operation: Operation
    locked: tuple[str, ...]
    long: tuple[str, ...]
    rows: bool  # the long work changes rows
    lets_read: bool  # its own lock would let others read meanwhile
    keys: tuple[str, ...]  # "table.column" of foreign keys that it writes


class LockHeld(Rule):
    """A lock that outlives the work it was taken for."""

    id = "lock-held-during-long-work"
    catches = (
        "One transaction locks a table by one operation and then works for long: schema and data mixed, or two scans."
    )
    severity = "high"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """The first such pair of operations of an atomic migration."""
        if not case.migration.atomic:
            return
        held: dict[str, Operation] = {}
        for step in _steps(case):
            # A lock that the operation takes itself for as long is its own rule's finding.
            worse = step.rows or step.lets_read
            others = {table: first for table, first in held.items() if worse or table not in step.long}
            if step.long and others:
                table, first = next(iter(others.items()))
                works = f"{step.operation['kind']} ({step.operation['describe']})"
                on = ", ".join(name or "a table that the code does not name" for name in step.long)
                yield self.finding(
                    case,
                    f"{first['kind']} ({first['describe']}) locks {table}, and the lock is held while"
                    f" {works} goes over {on}:"
                    f" everybody who needs {table} waits until that is done",
                    evidence=[sentence for name in step.long for sentence in weigh(case, name).evidence],
                    mitigation=[
                        f"put {step.operation['kind']} into a migration of its own, after the one with {first['kind']}",
                        "rows are changed in batches there, with `atomic = False`" if step.rows else "",
                    ][: 2 if step.rows else 1],
                    subject=table,
                )
                return
            for table in step.locked:
                held.setdefault(table, step.operation)


class PendingTriggers(Rule):
    """A foreign key written, then its table altered."""

    id = "pending-trigger-events"
    catches = "Foreign keys are written and the same table is altered in one transaction, which PostgreSQL refuses."
    severity = "high"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """A deferred check that waits for the end of the transaction when ALTER TABLE comes."""
        statements = case.migration.sql.forward.statements or ()
        # Django ends the waiting by that where it drops a foreign key, or fills a column before it becomes NOT NULL.
        if not case.migration.atomic or any("SET CONSTRAINTS" in statement for statement in statements):
            return
        written: dict[str, str] = {}
        for step in _steps(case):
            for table in step.locked:
                if table in written:
                    yield self.finding(
                        case,
                        f"{written[table]} is written, and then {step.operation['kind']} alters {table} in the same"
                        ' transaction: it fails with "cannot ALTER TABLE because it has pending trigger events" as soon'
                        " as a row was written",
                        mitigation=[
                            f"put {step.operation['kind']} ({step.operation['describe']}) into the next migration"
                        ],
                        subject=table,
                    )
                    return
            written |= {key.partition(".")[0]: key for key in step.keys}


class NotRepeatable(Rule):
    """A migration that can stop halfway and then not go on."""

    id = "not-repeatable"
    catches = (
        "A migration without a transaction that fails halfway fails again, or does things twice, when it is repeated."
    )
    severity = "medium"
    harm = "way back"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Operations of a non-atomic migration that cannot run twice, with others behind them."""
        if case.migration.atomic:
            return
        operations = [
            each for each in case.migration.operations if runs(each) and each["kind"] != "SeparateDatabaseAndState"
        ]
        for number, operation in enumerate(operations):
            here = replace(case, operation=operation)
            again = _second_time(here, is_last=number == len(operations) - 1)
            if again:
                yield self.finding(
                    case,
                    f"{case.migration.label} is not atomic: when it stops halfway, {operation['kind']}"
                    f" ({operation['describe']}) is there already, and the next attempt {again}",
                    mitigation=[
                        "one schema operation a migration where `atomic = False` is needed",
                        "SQL: IF NOT EXISTS / IF EXISTS; Python: get_or_create(), and a filter for what is left to do",
                    ],
                    subject=operation["table"] or operation["describe"],
                )
                return


class NotRendered(Rule):
    """A migration without SQL."""

    id = "not-rendered"
    catches = "A migration could not be rendered as SQL, so that nothing can be said about it."
    severity = "unknown"
    harm = "open"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Migrations without statements; CONCURRENTLY in a transaction has a rule of its own."""
        sql = case.migration.sql.forward
        if sql.statements is not None:
            return
        if case.migration.atomic and any(each["kind"].endswith("Concurrently") for each in case.migration.operations):
            return
        yield self.finding(
            case,
            f"{case.migration.label} could not be rendered as SQL: {'; '.join(sql.because) or 'no reason was given'}",
            evidence=sql.because,
            mitigation=[
                "where it needs what an earlier pending migration makes, the rehearsal tells what it does",
                "else mend it: does `manage.py sqlmigrate` work there?",
            ],
            subject=case.migration.label,
        )


def _steps(case: Case) -> Iterator[Step]:
    history = History(**{**vars(case.history), "within": []})
    for operation in case.migration.operations:
        here = replace(case, operation=operation, history=history)
        if runs(operation):
            yield from _of_operation(here)
        history.within.append(operation)


def _of_operation(case: Case) -> Iterator[Step]:
    operation, table = case.operation, case.operation["table"]
    if operation["code"] is not None or operation["sql"] is not None or is_unknown(operation):
        if operation["code"] is not None:
            yield _of_code(case)
        for spot in spots(case):
            yield _of_spot(case, spot)
    elif operation["kind"] not in _LOCKLESS and table is not None and not _is_new(case, table) and _changes(operation):
        long = (table,) if _is_long(operation) and not weigh(case, table).small else ()
        yield Step(operation, (table,), long, False, operation["kind"] == "AddIndex", ())


def _of_code(case: Case) -> Step:
    writes = read_code(case).writes
    heavy = [each.table for each in writes if each.verb != "create" and (each.whole or each.looped)]
    long = tuple(dict.fromkeys(table for table in heavy if not _is_new(case, table) and not weigh(case, table).small))
    keys = tuple(f"{each.table}.{name}" for each in writes for name in each.fields if _is_key(case, each.table, name))
    return Step(case.operation, (), long, True, False, keys)


def _of_spot(case: Case, spot: Spot) -> Step:
    action, table = spot.action, spot.action.table
    made = {each.table for each in spot.before if each.kind == "create-table"}
    if not table or table in made or _is_new(case, table):
        return Step(case.operation, (), (), False, False, ())
    is_long = (
        action.kind in _LONG_ACTIONS
        and not action.marks & {"not valid", "using index", "concurrently"}
        and ("limited" not in action.marks or spot.looped)
        and not weigh(case, table).small
    )
    locks = action.kind in _LOCKING_ACTIONS and "concurrently" not in action.marks
    rows = action.kind in ("update", "delete")
    keys = tuple(f"{table}.{name}" for name in action.columns if action.kind == "update" and _is_key(case, table, name))
    return Step(
        case.operation,
        (table,) if locks else (),
        (table,) if is_long else (),
        rows,
        action.kind in ("create-index", "validate"),
        keys,
    )


def _is_new(case: Case, table: str) -> bool:
    """Whether a pending migration makes a table, this one included."""
    made = {each["table"] for each in case.history.within if each["kind"] == "CreateModel"}
    return table in made or case.history.is_new(table)


def _changes(operation: Operation) -> bool:
    """Whether an operation changes more than what code looks at."""
    if operation["kind"] != "AlterField":
        return True
    return any(_of_database(told["old"]) != _of_database(told["new"]) for told in operation["fields"])


def _of_database(field: Operation | None) -> Operation:
    return {name: value for name, value in (field or {}).items() if name not in _OF_CODE}


def _is_long(operation: Operation) -> bool:
    """Whether an operation scans, rewrites or indexes its table."""
    kind, told = operation["kind"], operation["fields"]
    if kind == "AddIndex":
        return True
    if kind == "AddConstraint":
        return not operation["constraint"]["not_valid"]
    if kind in ("AlterUniqueTogether", "AlterIndexTogether"):
        return bool(set(map(tuple, operation["together"]["new"])) - set(map(tuple, operation["together"]["old"])))
    if kind == "AlterField" and told[0]["old"] and told[0]["new"]:
        old, new = told[0]["old"], told[0]["new"]
        narrows = old["null"] and not new["null"]
        if narrows or (new["unique"] and not old["unique"]) or (new["index"] and not old["index"]):
            return True
        return bool(old["type"] and new["type"]) and cost(old["type"], new["type"]) not in (Cost.NOTHING,)
    return False


def _is_key(case: Case, table: str, name: str) -> bool:
    """Whether an operation of the migration says that a field or column is a foreign key."""
    sides = [
        told[side]
        for each in case.migration.operations
        if each["table"] == table
        for told in each["fields"]
        for side in ("old", "new")
        if told[side]
    ]
    return any(side["references"] and name in (side["name"], side["column"]) for side in sides)


def _second_time(case: Case, *, is_last: bool) -> str:
    """What goes wrong when an operation that was carried out is carried out again; "" for nothing."""
    operation = case.operation
    if operation["code"] is not None:
        code = read_code(case)
        if is_last and operation["atomic"]:
            return ""
        for write in code.writes:
            if write.guarded:
                continue
            if write.verb == "create":
                return f"makes the rows of {write.table or 'a table'} once more"
            if write.own_value and write.asked.isdisjoint(write.fields):
                return f"changes {write.table or 'a table'} a second time, from values that were changed already"
        return _sql_second_time(spots(case))
    if operation["sql"] is not None:
        found = spots(case)
        if is_last and operation["sql"]:  # the last text is sent as one: it is carried out wholly, or not at all
            last = [action for _, actions in understood(operation["sql"][-1]) for action in actions]
            if not any(action.kind == "transaction" for action in last):
                found = found[: len(found) - len(last)]
        return _sql_second_time(found)
    return "" if is_last or is_unknown(operation) or _can_be_repeated(operation) else _TWICE


def _sql_second_time(found: Sequence[Spot]) -> str:
    """The same for statements; those that are sent as one text are undone as one where they stop halfway."""
    for spot in found:
        action, upper = spot.action, " ".join(spot.statement.text.upper().split())
        if "own value" in action.marks:
            return f"changes {action.table} a second time, from values that were changed already"
        schema = action.kind.startswith(("add-", "drop-", "rename-", "create-")) and action.kind not in _SETTINGS
        if schema and "EXISTS" not in upper and "OR REPLACE" not in upper:
            return _TWICE
    return ""


def _can_be_repeated(operation: Operation) -> bool:
    """Whether an operation of Django's ends as it did when it is carried out once more."""
    kind = operation["kind"]
    if kind == "AlterField":
        told = [(each["old"], each["new"]) for each in operation["fields"]]
        return all(old and new and all(old[key] == new[key] for key in _MADE_BY_NAME) for old, new in told)
    return kind in _REPEATABLE or kind.endswith("Extension")


RULES: tuple[Rule, ...] = (LockHeld(), PendingTriggers(), NotRepeatable(), NotRendered())
