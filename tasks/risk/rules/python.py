"""Rules over the Python of data migrations, and over what cannot be reversed."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.release.risk import Finding, Severity
from tasks.risk.asking import writers
from tasks.risk.batches import batched_write
from tasks.risk.data_migrations import Write, only_refuses, read_code
from tasks.risk.rule import Case, Rule
from tasks.risk.spots import runs
from tasks.risk.weight import SMALL_ROWS, Weight, weigh


class Irreversible(Rule):
    """No way back."""

    id = "irreversible"
    catches = "An operation has no way back."
    severity = "medium"
    harm = "way back"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Operations without reverse_code, without reverse_sql, that say so, or whose reverse only raises an error."""
        operation = case.operation
        refuses = runs(operation) and only_refuses(case, operation["reverse_code"])
        if not runs(operation) or (operation["reversible"] and not refuses):
            return
        because = operation["irreversible_because"] or operation["describe"]
        if refuses:
            because = f"its reverse, {operation['reverse_code']['name'].rpartition('.')[2]}(), only raises an error"
        if operation["sql"] is not None:
            step = "give RunSQL a reverse_sql; RunSQL.noop where nothing has to be undone"
        elif operation["code"] is not None:
            step = "give RunPython a reverse_code that undoes it; RunPython.noop where nothing has to be undone"
        else:
            step = (
                f"give {operation['kind']} a database_backwards() that undoes what its database_forwards() does, and"
                " leave `reversible` True"
            )
        yield self.finding(
            case,
            f"{case.migration.label} cannot be reversed: {because}; the quick way back is closed, and"
            " only the backup is left",
            mitigation=[step],
            subject=operation["describe"],
            line=operation["code"]["line"] if operation["code"] and _is_own(case) else None,
        )


class Unbatched(Rule):
    """As many row locks as rows, until the end."""

    id = "unbatched-data-migration"
    catches = "Python changes as many rows as the table has in one transaction."
    severity = "high"
    harm = "blocks"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Loops of save(), whole-table update() and delete(), bulk_update(), where all rows stay locked to the end."""
        told: set[str] = set()
        for write, weight in _writes(case):
            if write.verb == "create" or weight.small or not (write.whole or (write.looped and write.held)):
                continue
            if _few_nulls(case, write):
                continue
            what = {
                "save": "saves row after row",
                "update": "updates as many rows as there are by one statement"
                if write.whole
                else "updates part after part",
                "delete": "deletes as many rows as there are" if write.whole else "deletes part after part",
                "bulk_update": "updates as many rows as there are by bulk_update, which is one transaction"
                if write.whole
                else "updates batch after batch",
            }[write.verb]
            within = " within one transaction" if write.held and not write.whole else ""
            words = (
                f"{_name(case)} {what} of {write.table or 'a table'}{within}: each row stays locked"
                " against the running code's"
                " UPDATE and DELETE until the last one is done, and that takes the longer the more rows there are"
            )
            if words in told:
                continue
            told.add(words)
            yield self.finding(
                case,
                words,
                evidence=weight.evidence,
                mitigation=batched_write(case, write),
                subject=write.table or write.model,
                file=write.file,
                line=write.line,
            )


class ValuesLost(Rule):
    """A reversal that brings nothing back."""

    id = "values-do-not-come-back"
    catches = "Python overwrites values or deletes rows, and the reverse is a noop."
    severity = "medium"
    harm = "loss"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Filling a new column or a NULL loses nothing; what else is overwritten or deleted is gone."""
        reverse = case.operation.get("reverse_code") or {}
        if not str(reverse.get("name", "")).endswith("RunPython.noop"):
            return
        told = set()
        for write, weight in _writes(case):
            known_rows = case.facts.rows(case.history.table_now(write.table) or "") if write.table else None
            if write.verb == "create" or weight.new or (known_rows and known_rows.value == 0):
                continue
            severity: Severity = "medium"
            if write.verb == "delete":
                words = (
                    f"the rows that {_name(case)} deletes from {write.table or 'a table'} do not come"
                    " back by reversing it"
                )
                severity = "high" if (write.whole or write.looped) and not weight.small else "medium"
                steps = [f"keep them first: CREATE TABLE {write.table}_removed AS SELECT * FROM {write.table} WHERE …"]  # noqa: S608 - shown to people, never executed
            else:
                lost = [field for field in write.fields if _had_values(case, write, field)]
                if weight.small or not (write.whole or write.looped) or (write.fields and not lost):
                    continue
                names = (
                    ", ".join(f"{write.table}.{field}" for field in lost) or f"columns of {write.table or 'a table'}"
                )
                words = f"{_name(case)} overwrites {names}; reversed by a noop, the values before do not come back"
                steps = [
                    "write into a new column and let the code read that; drop the old one in a later release",
                    "or keep what was there in a table of its own, and give RunPython a reverse that puts it back",
                ]
            if words not in told:
                told.add(words)
                yield self.finding(
                    case,
                    words,
                    evidence=weight.evidence,
                    mitigation=steps,
                    subject=write.table,
                    severity=severity,
                    file=write.file,
                    line=write.line,
                )


class RealModels(Rule):
    """Classes of a later day."""

    id = "real-model-in-migration"
    catches = "A data migration uses the application's own model class instead of apps.get_model()."
    severity = "medium"
    harm = "fails"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Classes that have the columns of a later day."""
        for mark in read_code(case).real_models if _is_python(case) else ():
            app, _, model = mark.text.rpartition(".")
            yield self.finding(
                case,
                f"{_name(case)} uses the application's own {mark.text}: it has the columns of the"
                " newest code, and the migration"
                " fails on a database that has not all of them yet, such as a new one or this one two releases on",
                mitigation=[
                    f'Django: {model} = apps.get_model("{app}", "{model}") in the function, without the import'
                ],
                subject=mark.text,
                file=mark.file,
                line=mark.line,
            )


class Outside(Rule):
    """Effects beyond the database."""

    id = "outside-call-in-migration"
    catches = "A data migration talks to somebody else: HTTP, mail, a task queue, an object store."
    severity = "high"
    harm = "way back"

    def judge(self, case: Case) -> Iterable[Finding]:
        """What no rollback takes back, and what may keep the transaction waiting."""
        for mark in read_code(case).outside if _is_python(case) else ():
            waits = ", and the transaction with its locks stays open while it waits" if case.migration.atomic else ""
            yield self.finding(
                case,
                f"{_name(case)}: {mark.text}; a failed and repeated migration does it again, a"
                " rollback does not take it"
                f" back{waits}",
                mitigation=[
                    "move it into a management command that is run after the release",
                    "or note in a table what is to be sent, and let a worker send it",
                ],
                subject=mark.text,
                file=mark.file,
                line=mark.line,
            )


class NotUnderstood(Rule):
    """Code that cannot be followed."""

    id = "data-migration-unknown"
    catches = "Part of a data migration's code cannot be followed."
    severity = "unknown"
    harm = "open"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Sources that are not there, and calls that lead out of what is."""
        for mark in read_code(case).unknown if _is_python(case) else ():
            yield self.finding(
                case,
                f"what {_name(case)} does to rows is not known: {mark.text}",
                mitigation=[
                    "write it with apps.get_model() and querysets in the migration itself",
                    "or let the rehearsal tell",
                ],
                subject=case.operation["code"]["name"],
                file=mark.file or None,
                line=mark.line,
            )


def _is_python(case: Case) -> bool:
    return runs(case.operation) and case.operation["code"] is not None


def _writes(case: Case) -> list[tuple[Write, Weight]]:
    writes = read_code(case).writes if _is_python(case) else []
    return [(write, weigh(case, write.table)) for write in writes]


def _name(case: Case) -> str:
    return str(case.operation["code"]["name"].rpartition(".")[2]) + "()"


def _is_own(case: Case) -> bool:
    return bool(case.operation["code"]["file"] == case.migration.file)


def _column_now(case: Case, table: str, name: str) -> str | None:
    """The column of a field that is in the database already, by the field's name or that of its foreign key."""
    both = [case.history.column_now(table, column) for column in (name, f"{name}_id")]
    return None if None in both else both[0]


def _had_values(case: Case, write: Write, name: str) -> bool:
    """Whether a field that is written may hold values already."""
    if name in write.nulls:
        return False
    column = _column_now(case, write.table, name)
    if column is None:
        return False
    nulls = case.facts.nulls(case.history.table_now(write.table) or write.table, column)
    return nulls.value is None or nulls.value.count == 0 or nulls.value.count < nulls.value.of


def _few_nulls(case: Case, write: Write) -> bool:
    """Whether only rows with a NULL are touched of which the facts know a few."""
    for name in write.nulls:
        column = _column_now(case, write.table, name)
        if column is not None and not writers(case, write.table):
            nulls = case.facts.nulls(case.history.table_now(write.table) or write.table, column)
            if nulls.value is not None and not nulls.value.sampled and nulls.value.count <= SMALL_ROWS:
                return True
    return False


RULES: tuple[Rule, ...] = (Irreversible(), Unbatched(), ValuesLost(), RealModels(), Outside(), NotUnderstood())
