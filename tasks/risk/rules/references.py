"""Code that names what a migration takes away: the code check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tasks.release.risk import Finding, Severity
from tasks.risk.references import Named, Reference, examine, told
from tasks.risk.rule import Case, Rule

FIELDS = {"RemoveField", "RenameField", "AlterField"}
TABLES = {"RenameModel", "AlterModelTable"}


def serving_uses(case: Case) -> tuple[Reference, ...] | None:
    """How the code that serves during the release names what an operation drops or renames.

    For the rules on removals and renames, which tell that harm; `still-named` is about the new code alone. Of the
    answer three things are to be told apart:

    - None: unknown (no serving checkout, an installed package's model, a model or a base of it that is not found):
      judge as if old code used it.
    - A certain reference is there: old code breaks. A "model definition" comes first and alone suffices, since the
      ORM names every field of a model in SELECT and INSERT. `told(references)` makes evidence of them.
    - None is certain, or nothing was found: old code does not name it (it was taken out of the model in an earlier
      release, or a pending migration makes it).
    """
    named = _in_serving(case)
    return serving_names(case, named) if named else None if _is_unknown(case) else ()


def serving_names(case: Case, named: Named) -> tuple[Reference, ...] | None:
    """The same for what hand-written SQL drops or renames, by the names that the database has now."""
    if case.serving is None or _is_unknown(case):
        return None
    found = examine(case.serving, named)
    if not found.complete and case.operation["model"]:  # its table's name may be made at run time
        by_name = Named(case.migration.app, case.operation["model"], named.table, named.field, named.column)
        found = examine(case.serving, by_name)
    certain = any(reference.certain for reference in found.references)
    return found.references if found.complete or certain else None


def _is_unknown(case: Case) -> bool:
    """Whether nothing can be told of the code that serves."""
    return case.serving is None or case.migration.from_dependency


def _in_serving(case: Case) -> Named | None:
    """What goes, as the database calls it now; None: nothing goes that there is."""
    operation = case.operation
    table = case.history.table_now(operation["old_name"] if operation["kind"] in TABLES else operation["table"] or "")
    if not _runs(case) or not table:
        return None
    if operation["kind"] in FIELDS:
        old, new = _sides(operation)
        if old is None or (new is not None and old["column"] == new["column"]):
            return None
        if old["type"] is None:  # many to many
            return Named(case.migration.app, operation["model"], table, old["name"])
        column = case.history.column_now(operation["table"], old["column"])
        return Named(case.migration.app, None, table, None, column) if column else None
    if operation["kind"] in TABLES and operation["old_name"] == operation["new_name"]:
        return None
    return Named(case.migration.app, None, table) if operation["kind"] in TABLES | {"DeleteModel"} else None


def _in_new_code(case: Case) -> Named | None:
    """What goes, as it was called until this operation."""
    operation, app = case.operation, case.migration.app
    kind, model, table = operation["kind"], operation["model"], operation["table"]
    if not _runs(case):
        return None
    if kind in FIELDS:
        old, new = _sides(operation)
        if old is None or (kind == "AlterField" and (new is None or old["column"] == new["column"])):
            return None
        return Named(app, model, table, old["name"], old["column"] if old["type"] else None)
    if kind == "DeleteModel":
        return Named(app, model, table)
    old_name = operation["old_name"] if operation["old_name"] != operation["new_name"] else None
    if kind == "RenameModel":
        return Named(app, model, old_name)
    return Named(None, None, old_name) if kind == "AlterModelTable" and old_name else None


def _runs(case: Case) -> bool:
    operation = case.operation
    return bool(operation["allowed"] and not operation["state_only"] and not case.migration.backwards)


def _sides(operation: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The facts of an operation's field, before and after."""
    fields = operation["fields"]
    return (fields[0]["old"], fields[0]["new"]) if fields else (None, None)


class StillNamed(Rule):
    """Code that fails after the release, since what it names is gone."""

    id = "still-named"
    catches = "The new code still names a column, a table or a model that the migration drops or renames."
    severity: ClassVar[Severity] = "high"
    harm = "new code"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Only what is certain counts: a word that may mean something else never decides.

        A model that has the field (again) is none of this: a later migration makes it, or the plan says that models
        and migrations differ. Only an operation that is kept from the models can leave them behind.
        """
        named = _in_new_code(case)
        if named is None:
            return
        references = examine(case.source, named).references
        defined = any(reference.kind == "model definition" for reference in references)
        certain = [reference for reference in references if reference.certain]
        if not certain or (defined and not case.operation["database_only"]):
            return
        subject = ".".join(part for part in (named.table, named.column or named.field) if part)
        subject = subject or f"{named.app}.{named.model}"
        verb = "drops" if case.operation["kind"] in ("RemoveField", "DeleteModel") else "renames"
        lines = "line of the new code" if len(certain) == 1 else "lines of the new code"
        first = certain[0]
        yield self.finding(
            case,
            f"{len(certain)} {lines} still name{'s' if len(certain) == 1 else ''} {subject}, which this migration "
            f"{verb}: they fail once it is applied.",
            evidence=told(references),
            mitigation=(
                f"Take it out of {', '.join(dict.fromkeys(reference.file for reference in certain))}.",
                f"Or leave {subject} as it is until a release whose code does not name it.",
            ),
            subject=subject,
            file=first.file,
            line=first.line,
        )


RULES: tuple[Rule, ...] = (StillNamed(),)
