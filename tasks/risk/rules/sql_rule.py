"""What the rules over statements of SQL have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from tasks.release.risk import Finding, Harm, Severity
from tasks.risk.python_texts import UNKNOWN_NAME
from tasks.risk.rule import Case, Rule
from tasks.risk.spots import Spot, spots
from tasks.risk.weight import Weight, weigh

ALONE = "in a migration of its own with `atomic = False`, so that nothing else waits for it"


class SqlRule(Rule):
    """A rule over single actions of statements."""

    kinds: ClassVar[frozenset[str]]  # of actions that it judges

    def judge(self, case: Case) -> Iterable[Finding]:
        """The findings of every action of the operation that is of the rule's kinds."""
        for spot in spots(case):
            if spot.action.kind in self.kinds:
                yield from self.judge_spot(case, spot)

    @abstractmethod
    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """The findings of one action."""

    def found(
        self,
        case: Case,
        spot: Spot,
        message: str,
        mitigation: Sequence[str],
        *,
        evidence: Sequence[str] = (),
        severity: Severity | None = None,
        harm: Harm | None = None,
    ) -> Finding:
        """A finding at the place of an action; the statement is its first evidence."""
        action = spot.action
        names = [name.replace('"."', ".") for name in (action.table, action.name) if name]
        return self.finding(
            case,
            message,
            evidence=(f"statement: {spot.statement.shown()}", *evidence),
            mitigation=mitigation,
            subject=".".join(dict.fromkeys(names)),
            severity=severity,
            harm=harm,
            file=spot.file,
            line=spot.line,
        )


def weight_of(case: Case, spot: Spot) -> Weight:
    """What the table of an action weighs; one that the migration's own SQL makes is new."""
    table = "" if UNKNOWN_NAME in spot.action.table else spot.action.table
    if table and any(action.kind == "create-table" and action.table == table for action in spot.before):
        return Weight(True, True, (f"{table} is made by this migration",))
    return weigh(case, table)


def now_in(case: Case, table: str) -> str:
    """What the database calls a table now; the name itself where it is not there yet."""
    return case.history.table_now(table) or table


def django_default(case: Case, column: str) -> str:
    """How AddField would have to be written so that the running code can still insert."""
    return f'Django: AddField("{case.operation.get("model") or "…"}", "{column}", …(null=True)) or db_default=…'
