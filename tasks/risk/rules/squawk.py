"""Rules over what our own judgement has no verdict on: squawk is asked, and what stays open is said to be open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tasks.release.risk import Finding
from tasks.risk.rule import Case, Rule
from tasks.risk.rules.sql_rule import weight_of
from tasks.risk.spots import is_unknown, runs, spots
from tasks.risk.sql_actions import understood
from tasks.risk.squawk import Violation, opinions


class Unjudged(Rule):
    """A statement that no rule knows."""

    id = "unjudged-sql"
    catches = "A statement has a form that no rule knows; what squawk says of it is shown as `squawk-<its rule>`."
    severity = "unknown"
    harm = "open"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Findings of squawk on unknown statements; a finding of severity "unknown" where it has none."""
        open_ones = [spot for spot in spots(case) if spot.action.kind == "unknown"]
        try:
            said = _said(case, [spot.statement.text for spot in open_ones])
        except OSError as error:
            said, failed = [()] * len(open_ones), str(error)
        else:
            failed = ""
        for spot, violations in zip(open_ones, said, strict=True):
            weight = weight_of(case, spot) if spot.action.table else None
            heard = (
                [each for each in violations if each.rule != "syntax-error"] if not (weight and weight.small) else []
            )
            evidence = (f"statement: {spot.statement.shown()}", failed, *(weight.evidence if weight else ()))
            for violation in heard:
                yield self.finding(
                    case,
                    violation.message,
                    evidence=evidence,
                    mitigation=[violation.help or f"https://squawkhq.com/docs/{violation.rule}"],
                    subject=spot.action.table or spot.action.name,
                    severity="high",
                    file=spot.file,
                    line=spot.line,
                ).model_copy(update={"rule": f"squawk-{violation.rule}"})
            if not heard:
                yield self.finding(
                    case,
                    f"what this statement does to the running code is not known: {spot.action.text}",
                    evidence=evidence,
                    mitigation=["write it as plain statements, one thing each", "or let the rehearsal tell"],
                    subject=spot.action.table or spot.action.name,
                    file=spot.file,
                    line=spot.line,
                )


class UnknownOperation(Rule):
    """An operation that no rule knows."""

    id = "unknown-operation"
    catches = "An operation of a third party does something that is not, or not only, SQL."
    severity = "unknown"
    harm = "open"

    def judge(self, case: Case) -> Iterable[Finding]:
        """Operations that no rule knows and that cannot be judged by the SQL they render."""
        operation, sql = case.operation, case.migration.sql.forward
        if not runs(operation) or not is_unknown(operation):
            return
        because = [reason for reason in sql.because if reason.startswith(f"{operation['kind']} ")]
        if because and sql.statements is not None:
            yield self.finding(
                case,
                f"what {operation['class']} ({operation['describe']}) does is not known: {'; '.join(because)}",
                mitigation=["write it with Django's own operations or RunSQL", "or let the rehearsal tell"],
                subject=operation["table"] or operation["kind"],
            )


def _said(case: Case, texts: Sequence[str]) -> list[tuple[Violation, ...]]:
    """What squawk says about statements; one process for all of the plan that are written down in it.

    Raises:
        OSError: squawk does not answer.
    """
    planned = list(dict.fromkeys(_open_statements(case)))
    heard = dict(zip(planned, opinions(planned), strict=True))
    rest = [text for text in texts if text not in heard]  # what Python executes
    heard |= zip(rest, opinions(rest), strict=True)
    return [heard[text] for text in texts]


def _open_statements(case: Case) -> Iterator[str]:
    for migration in case.pending:
        operations = [operation for operation in migration.operations if runs(operation)]
        texts = [text for operation in operations for text in operation["sql"] or ()]
        if any(is_unknown(operation) for operation in operations):
            texts += migration.sql.forward.statements or ()
        for text in texts:
            for statement, found in understood(text):
                if any(action.kind == "unknown" for action in found):
                    yield statement.text


RULES: tuple[Rule, ...] = (Unjudged(), UnknownOperation())
