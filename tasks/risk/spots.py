"""Where SQL stands in a migration: RunSQL, what Python executes, what operations of third parties are rendered as."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tasks.risk.data_migrations import Raw, read_code
from tasks.risk.history import Operation
from tasks.risk.rule import Case
from tasks.risk.sql_actions import Action, understood
from tasks.risk.sql_text import Statement
from tasks.risk.vocabulary import words

_DJANGO = ("django.db.migrations.operations.", "django.contrib.postgres.operations.")


@dataclass(frozen=True)
class Spot:
    """One action of one statement, and what stands around it."""

    action: Action
    statement: Statement
    before: tuple[Action, ...]  # earlier in the same migration
    together: tuple[Action, ...]  # of those, in the same transaction
    in_transaction: bool  # with other statements; else it is committed by itself
    looped: bool = False  # executed again and again, over parts
    held: bool = False  # with every other turn of the loop in one transaction
    file: str | None = None  # None: the migration's
    line: int | None = None


def runs(operation: Operation) -> bool:
    """Whether an operation does anything to this database."""
    return bool(operation) and not operation["state_only"] and operation["allowed"]


def is_unknown(operation: Operation) -> bool:
    """Whether an operation is neither Django's own by name, nor SQL or Python of the team."""
    if operation["sql"] is not None or operation["code"] is not None:
        return False
    return not operation["class"].startswith(_DJANGO) and operation["kind"] not in DJANGO_OPERATIONS


def spots(case: Case) -> list[Spot]:
    """The actions of an operation that are written as SQL, in order."""
    operation = case.operation
    if not runs(operation):
        return []
    if operation["sql"] is not None:
        return list(_of_texts(case, [(text, None) for text in operation["sql"]], case.migration.atomic))
    if operation["code"] is not None:
        code = read_code(case)
        return [spot for raw in code.raw for spot in _of_texts(case, [(raw.sql, raw)], raw.in_transaction)]
    if is_unknown(operation) and _is_first_unknown(case):
        return [spot for spot in _of_rendered(case) if spot.action.table not in _judged_tables(case)]
    return []


def written_as_sql(operation: Operation) -> tuple[Action, ...]:
    """What a RunSQL does, for those that come after it."""
    texts = operation["sql"] or [] if runs(operation) else []
    return tuple(action for text in texts for _, found in understood(text) for action in found)


def _of_texts(case: Case, texts: list[tuple[str, Raw | None]], atomic: bool) -> Iterator[Spot]:
    before = _before(case)
    together = before if case.migration.atomic else ()
    for text, raw in texts:
        statements = understood(text)
        # Statements that are sent in one text are one transaction, even where nobody opened one.
        sent_together = len(statements) > 1
        within: tuple[Action, ...] = ()
        for statement, found in statements:
            for action in found:
                yield Spot(
                    action,
                    statement,
                    before,
                    (*together, *within),
                    atomic or sent_together,
                    looped=raw is not None and raw.looped,
                    held=raw is not None and raw.held,
                    file=raw.file if raw else None,
                    line=raw.line + statement.line if raw else _line_of(case, statement),
                )
                before, within = (*before, action), (*within, action)
        together = before if case.migration.atomic else ()


def _of_rendered(case: Case) -> list[Spot]:
    statements = case.migration.sql.forward.statements or ()
    return list(_of_texts(case, [(text, None) for text in statements], case.migration.atomic))


def _before(case: Case) -> tuple[Action, ...]:
    found: list[Action] = []
    for operation in case.history.within:
        constraint = operation["constraint"]
        if runs(operation) and constraint and constraint["not_valid"]:
            name, marks = constraint["name"], frozenset({"not valid"})
            found.append(Action("add-check", operation["table"], name, constraint["sql"] or "", marks))
        found += written_as_sql(operation)
    return tuple(found)


def _is_first_unknown(case: Case) -> bool:
    """The statements of a migration are not told apart by operation: they are judged once."""
    return not any(runs(operation) and is_unknown(operation) for operation in case.history.within)


def _judged_tables(case: Case) -> set[str]:
    """Tables of the migration that only operations known by name touch: their rules have judged them."""
    known = {each["table"] for each in case.migration.operations if runs(each) and not is_unknown(each)}
    return known - {each["table"] for each in case.migration.operations if is_unknown(each)} - {None}


def _line_of(case: Case, statement: Statement) -> int | None:
    """The line of the migration's file on which a statement is written."""
    if case.migration.file is None:
        return None
    try:
        content = (case.source / case.migration.file).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    place = content.find(statement.text.splitlines()[0])
    return content.count("\n", 0, place) + 1 if place >= 0 else None


DJANGO_OPERATIONS = words(
    "CreateModel DeleteModel RenameModel AlterModelTable AlterModelTableComment AlterModelOptions AlterModelManagers"
    " AlterUniqueTogether AlterIndexTogether AlterOrderWithRespectTo AddField RemoveField AlterField"
    " RenameField AddIndex"
    " RemoveIndex RenameIndex AddConstraint RemoveConstraint AlterConstraint SeparateDatabaseAndState RunSQL RunPython"
    " AddIndexConcurrently RemoveIndexConcurrently AddConstraintNotValid ValidateConstraint CreateExtension"
    " CreateCollation RemoveCollation BloomExtension BtreeGinExtension BtreeGistExtension"
    " CITextExtension CryptoExtension"
    " HStoreExtension TrigramExtension UnaccentExtension"
)
