"""What one case of the set is: a migration of the shop, what it really does when run, and which reasons are right."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

# What running a migration on filled tables, with the old release still there, can show.
Danger = Literal[
    "fails",  # migrate ends with an error
    "blocks",  # a lock that keeps writers or readers waiting is held for a scan, a rewrite or a build
    "old code",  # the old release's ORM can no longer select, insert or update
    "new code",  # nor can the new release's
    "loss",  # rows or values that were there before are gone or changed once it is reversed
    "irreversible",  # it cannot be reversed
    "row locks",  # rows of most of a table are locked to the end of one transaction
    "row by row",  # the statements of one transaction grow with the rows
    "one value",  # a default that should differ from row to row is the same in all of them
    "not repeatable",  # interrupted and run again, it fails or ends otherwise
    "unguarded",  # the session's lock or statement timeout is lifted
    "real models",  # it fails once the models have moved on
]
IMPORTS = (
    ("uuid", "import uuid"),
    ("ExclusionConstraint", "from django.contrib.postgres.constraints import ExclusionConstraint"),
    ("RangeOperators", "from django.contrib.postgres.fields import RangeOperators"),
    ("DateTimeRangeField", "from django.contrib.postgres.fields import DateTimeRangeField"),
    ("RandomUUID", "from django.contrib.postgres.functions import RandomUUID"),
    ("AddConstraintNotValid", "from django.contrib.postgres.operations import AddConstraintNotValid"),
    ("AddIndexConcurrently", "from django.contrib.postgres.operations import AddIndexConcurrently"),
    ("RemoveIndexConcurrently", "from django.contrib.postgres.operations import RemoveIndexConcurrently"),
    ("ValidateConstraint", "from django.contrib.postgres.operations import ValidateConstraint"),
    ("Now()", "from django.db.models.functions import Now"),
    ("timezone", "from django.utils import timezone"),
)
PREVIOUS = "0001_initial"


@dataclass(frozen=True)
class Step:
    """One migration file."""

    operations: str
    atomic: bool = True
    head: str = ""  # functions that it calls

    def text(self, previous: str) -> str:
        """The file's content."""
        head, operations = textwrap.dedent(self.head).strip(), textwrap.dedent(self.operations).strip()
        imports = [line for name, line in IMPORTS if name in head + operations]
        return "\n".join(
            [
                *imports,
                "from django.db import migrations, models",
                *(["", "", head] if head else []),
                "",
                "",
                "class Migration(migrations.Migration):",
                *([] if self.atomic else ["    atomic = False"]),
                f"    dependencies = [('shop', {previous!r})]",
                "    operations = [",
                textwrap.indent(operations, " " * 8),
                "    ]",
                "",
            ]
        )


@dataclass(frozen=True)
class Case:
    """One migration, or a few that are released together.

    Args:
        name: Of the case, and of its migration file.
        operations: The list of operations, as in the file.
        dangers: What running it must show, at least; empty: it must show nothing.
        reasons: The right reasons, any of which names it (bench/reasons.py); empty for a safe one.
        models: What the new release's models.py says otherwise: (old text, new text).
        later: What the models.py of a later release says beside that.
        head: Functions of the migration.
        atomic: Whether it runs in a transaction.
        more: Migrations that are released with it, and run after it.
    """

    name: str
    operations: str
    dangers: tuple[Danger, ...] = ()
    reasons: tuple[str, ...] = ()
    models: tuple[tuple[str, str], ...] = ()
    later: tuple[tuple[str, str], ...] = ()
    head: str = ""
    atomic: bool = True
    more: tuple[Step, ...] = ()

    @property
    def dangerous(self) -> bool:
        """Whether it hurts anybody."""
        return bool(self.dangers)

    @property
    def has_python(self) -> bool:
        """Whether it runs Python over rows, whose number of statements may depend on theirs."""
        return any("RunPython" in step.operations for step in self.steps)

    @property
    def steps(self) -> tuple[Step, ...]:
        """Its migrations in order."""
        return (Step(self.operations, self.atomic, self.head), *self.more)

    def files(self) -> dict[str, str]:
        """Name (without .py) and content of its migrations, in order."""
        found: dict[str, str] = {}
        previous = PREVIOUS
        for number, step in enumerate(self.steps, 2):
            name = f"{number:04}_{self.name}"
            found[name], previous = step.text(previous), name
        return found
