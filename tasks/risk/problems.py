"""What is wrong with the plan itself, as findings: what cannot be loaded, drift, conflicting leaves, and the like."""

from __future__ import annotations

from tasks.release.plan import Plan
from tasks.release.risk import Finding, Harm, Severity

HARMS: dict[Severity, Harm] = {"blocked": "fails", "unknown": "open", "medium": "open", "high": "open"}


# A migration that nobody has made yet harms nobody: it is told with the plan, and is no finding about another one.
FORGOTTEN = "unmigrated-changes"


def findings_of(plan: Plan) -> tuple[Finding, ...]:
    """A finding for each problem of a plan."""
    return tuple(
        Finding(
            rule=problem.rule,
            migration=problem.migration,
            severity=problem.severity,
            message=problem.message,
            evidence=(f"asked inside the application, Django {plan.django}, on {plan.database.database}",),
            mitigation=(problem.hint,) if problem.hint else (),
            file=problem.file,
            line=problem.line,
            harm=HARMS[problem.severity],
            subject=problem.subject,
        )
        for problem in plan.problems
        if problem.rule != FORGOTTEN
    )


def notes_of(plan: Plan) -> tuple[str, ...]:
    """What is worth knowing and is no finding: changes of models that no migration holds."""
    return tuple(problem.message for problem in plan.problems if problem.rule == FORGOTTEN)
