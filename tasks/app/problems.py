"""What is wrong with the migrations and with the database that they meet, as the probe's answer tells it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from tasks.release.plan import Problem

Entry = Mapping[str, Any]
BEFORE_ITS_DEPENDENCY = re.compile(r"Migration (\S+) is applied before its dependency (\S+) on database")
PACKAGE = "__init__"  # what the probe calls the migrations of an app as a whole
LOADING = {
    "syntax-error": "{label} has a syntax error: {because}",
    "import-error": "{label} cannot be imported: {because}",
    "no-migration-class": "{label} is no migration: {because}",
    "invalid": "{label} is no valid migration: {because}",
    "bad-replaces": "what {label} replaces cannot be replaced: {because}",
    "circular": "{label} cannot be put in order: {because}",
    "missing-dependency": "{label} cannot be planned: {because}",
    "depends-on-broken": "{label} cannot be planned: {because}",
    "state-error": "{label} is applied, and what it does to the models cannot be followed: {because}",
}
MENDING = {
    "missing-dependency": "is a migration's file missing from the commit, or its name misspelt in `dependencies`?",
    "depends-on-broken": "mend the one that it depends on",
    "circular": "break the circle: split one of them",
    "bad-replaces": "correct `replaces`, or delete the squashed migration",
}
AS_SAID = "restore what is missing, or take its row out of django_migrations if it never ran"


def problems_of(answer: Entry) -> tuple[Problem, ...]:
    """Everything that is wrong, in the order of importance.

    Raises:
        LookupError, TypeError, ValidationError: The answer has another form.
    """
    pending = {f"{entry['app']}.{entry['name']}": entry for entry in answer["plan"]}
    return (
        *_broken(answer["broken"]),
        *_history(answer, pending),
        *_differences(answer, pending),
        *_models(answer),
    )


def _broken(broken: Iterable[Entry]) -> Iterator[Problem]:
    for fact in broken:
        label = f"{fact['app']}.{fact['name']}"
        called = f"the package with the migrations of {fact['app']}" if fact["name"] == PACKAGE else label
        yield Problem(
            rule="missing-dependency" if fact["kind"] == "missing-dependency" else "broken-migration",
            migration=label,
            severity="blocked",
            message=LOADING[fact["kind"]].format(label=called, because=fact["because"]),
            hint=MENDING.get(fact["kind"], "mend its file: until then `migrate` refuses to begin"),
            file=fact["file"],
            line=fact["line"],
        )


def _history(answer: Entry, pending: Mapping[str, Entry]) -> Iterator[Problem]:
    if answer["consistent"]:
        order = BEFORE_ITS_DEPENDENCY.search(answer["consistent"])
        label = order[2] if order else ""
        yield Problem(
            rule="inconsistent-history",
            migration=label,
            severity="blocked",
            message=f"the history of applied migrations is inconsistent: {answer['consistent']}",
            hint=f"if what {label or 'it'} does is there already, `migrate --fake` records it",
            file=pending[label]["file"] if label in pending else None,
        )
    for conflict in answer["conflicts"]:
        labels = [f"{conflict['app']}.{name}" for name in conflict["names"]]
        for label in [label for label in labels if label in pending] or [""]:
            yield Problem(
                rule="conflicting-leaves",
                migration=label,
                severity="blocked",
                message=f"{conflict['app']} has conflicting leaf nodes: {', '.join(conflict['names'])};"
                " `makemigrations --merge` joins them",
                hint=f"`makemigrations --merge {conflict['app']}`",
                file=pending[label]["file"] if label else None,
            )
    for squash in answer["squashes"]:
        if squash["state"] != "partly_applied":
            continue
        gone = f", and {', '.join(squash['gone'])} cannot be, having no file any more" if squash["gone"] else ""
        yield Problem(
            rule="squash-partly-applied",
            migration=f"{squash['app']}.{squash['name']}",
            severity="blocked" if squash["gone"] else "medium",
            message=f"{squash['app']}.{squash['name']} replaces migrations of which {', '.join(squash['missing'])}"
            f" are not applied{gone}",
            hint="deploy first a release that still has the files it replaces"
            if squash["gone"]
            else "`migrate` applies the replaced ones, and takes it for applied then; after that Django reverses none"
            " of them alone: the way back is the backup",
        )


def _models(answer: Entry) -> Iterator[Problem]:
    def unmigrated(severity: Literal["medium", "unknown"], message: str) -> Problem:
        hint = "run `makemigrations --check` in the checkout"
        return Problem(rule="unmigrated-changes", migration="", severity=severity, message=message, hint=hint)

    if changes := answer["unmigrated"]:
        message = f"the models differ from the migrations, `makemigrations` was forgotten: {', '.join(changes)}"
        yield unmigrated("medium", message)
    if answer["unmigrated"] is None and not answer["broken"]:  # else it is told by what is broken
        yield unmigrated("unknown", "whether the models differ from the migrations could not be found out")


def _differences(answer: Entry, pending: Mapping[str, Entry]) -> Iterator[Problem]:
    if answer["drift"] is None and not answer["broken"]:
        yield Problem(
            rule="drift",
            migration="",
            severity="unknown",
            message="whether the database is what the applied migrations say could not be found out:"
            f" {answer['drift_because']}",
        )
    touched = {
        operation["table"]
        for entry in pending.values()
        for operation in entry["operations"]
        if operation["allowed"] and not operation["state_only"]
    }
    for entry in answer["drift"] or ():
        yield _difference(entry, touched)


def _difference(entry: Entry, touched: set[str | None]) -> Problem:
    """One difference; what is missing under a pending migration makes it fail."""
    kind, table, column, wanted = entry["kind"], entry["table"], entry["column"], entry["expected"]
    label = f"{entry['app']}.{entry['name']}" if entry["app"] else ""
    says = f"the applied migration {label} says" if label else "the applied migrations say"
    place = f"{table}.{column}" if column else table
    rule, hint = "drift", AS_SAID
    severity: Literal["medium", "unknown", "blocked"] = "blocked" if table in touched else "unknown"
    if kind in ("table-exists", "column-exists"):
        rule, severity = "already-exists", "blocked"
        message = f"{label} makes {place}, which exists already: `migrate` fails"
        hint = f"if it is what {label} makes, `migrate --fake` records that; else remove or rename it first"
    elif kind == "fake-applied":
        rule = "fake-applied"
        message = f"{label} is recorded as applied, and nothing that it makes is there ({wanted})"
        hint = "was it applied with --fake, or undone by hand? take its row out of django_migrations, or make it so"
    elif kind in ("missing-table", "missing-column"):
        what = "the table" if column is None else "the column"
        message = f"{what} {place} is missing: {says} that it is there"
    elif kind in ("missing-unique", "invalid-unique"):
        severity, hint = "medium", "build the unique index again, after the duplicates are gone"
        message = f"{table} ({column}) has {entry['found']}: {says} that it is unique"
    elif kind == "extra-not-null":
        severity, hint = "medium", f"give it a default, or drop NOT NULL: ALTER COLUMN {column} DROP NOT NULL"
        message = f"{place} is {entry['found']} without a default, and no model knows it: every INSERT fails"
    else:
        severity, hint = "medium", "write a migration that says what is there, or change the column to what is said"
        message = f"{place} is {entry['found']}: {says} that it is {wanted}"
    return Problem(
        rule=rule,
        migration=label,
        severity=severity,
        message=message,
        hint=hint,
        file=entry["file"],
        line=entry["line"],
        subject=place,
    )
