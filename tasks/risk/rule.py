"""What a rule is: one class that knows one way in which a migration hurts."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tasks.release.plan import Migration
from tasks.release.risk import Finding, Harm, Severity
from tasks.risk.facts import Facts
from tasks.risk.history import History, Operation

# A `db_table` that names a schema, as people write it into a model and not as SQL has it.
_IN_SCHEMA = re.compile(r'(?<![\w"])([\w$]+)"\."([\w$]+)(?![\w"])')


def readable(sentence: str) -> str:
    """A sentence with `schema"."table` as `schema.table`; quoted names of SQL stay as they are."""
    return _IN_SCHEMA.sub(r"\1.\2", sentence)


@dataclass(frozen=True)
class Case:
    """One pending migration, or one operation of it, in its surroundings."""

    migration: Migration
    operation: Operation  # empty where the migration is judged as a whole
    history: History  # until the moment before it
    facts: Facts
    source: Path  # the checkout whose migrations these are: the code that runs after the release
    serving: Path | None  # the checkout that runs during it; None: not known
    pending: tuple[Migration, ...] = ()  # all of the plan, this one among them


class Rule(ABC):
    """One way in which a migration hurts.

    A subclass says in `catches`, in one sentence, what it finds; `judge` yields findings, and nothing for what is
    harmless or refuted by a fact. What no fact settles is a finding (of severity "unknown", or the rule's own where the
    harm is likely), never nothing.
    """

    id: ClassVar[str]
    catches: ClassVar[str]
    severity: ClassVar[Severity]
    harm: ClassVar[Harm]

    @abstractmethod
    def judge(self, case: Case) -> Iterable[Finding]:
        """The findings of one case."""

    def finding(
        self,
        case: Case,
        message: str,
        *,
        evidence: Sequence[str] = (),
        mitigation: Sequence[str],
        subject: str,
        severity: Severity | None = None,
        harm: Harm | None = None,
        file: str | None = None,
        line: int | None = None,
    ) -> Finding:
        """A finding of this rule, with the rule's severity and harm and the operation's place unless told."""
        return Finding(
            rule=self.id,
            migration=case.migration.label,
            severity=severity or self.severity,
            harm=harm or self.harm,
            message=readable(message),
            evidence=tuple(readable(sentence) for sentence in evidence if sentence),
            mitigation=tuple(readable(step) for step in mitigation),
            file=file or case.migration.file,
            line=line if line is not None or file not in (None, case.migration.file) else case.operation.get("line"),
            subject=readable(subject),
        )
