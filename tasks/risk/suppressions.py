"""Suppressions: findings that a team has looked at and lives with until a day, written next to the migration's code.

    # runbook: accept add-index until 2026-12-31: the table is frozen for the weekend

The comment stands anywhere in the migration's file and holds for that rule's findings on that migration, up to and
including the day, which is at most 180 days ahead. It lowers no finding that blocks: nobody's word makes a migration
work. What is suppressed stays in the report, with the reason.
"""

from __future__ import annotations

import difflib
import io
import re
import tokenize
from collections.abc import Collection, Iterable, Iterator
from datetime import date, timedelta
from pathlib import Path

from tasks.release.plan import Migration, Plan
from tasks.release.risk import Finding, Suppression

RULE = "suppression"  # of the findings on suppressions themselves, which nobody can suppress
LONGEST = timedelta(days=180)
FORM = "# runbook: accept <rule> until <YYYY-MM-DD>: <reason>"
MARK = re.compile(r"#+\s*runbook\s*:\s*(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
ACCEPT = re.compile(r"accept\s+(?P<rule>[^\s:]+)(?:\s+until\s+(?P<day>[^\s:]+))?\s*(?::\s*(?P<reason>.*))?", re.DOTALL)


def suppressions(
    source: Path, plan: Plan, today: date, known: Collection[str]
) -> tuple[tuple[Suppression, ...], tuple[Finding, ...]]:
    """The suppressions in the pending migrations' files, and a finding on each that does not hold.

    Args:
        source: The checkout.
        plan: Whose migrations are read; those of installed packages are not.
        today: A suppression holds up to its last day.
        known: The ids of all rules.
    """
    valid: list[Suppression] = []
    findings: list[Finding] = []
    for migration in plan.pending:
        if migration.file is None or migration.from_dependency:
            continue
        for line, rest in _marked(source / migration.file):
            made = _read(rest, line, migration, today, known)
            if isinstance(made, Suppression):
                valid.append(made)
            else:
                findings.append(made)
    return tuple(valid), tuple(findings)


def apply(findings: Iterable[Finding], valid: Iterable[Suppression]) -> tuple[Finding, ...]:
    """The same findings, each with the suppression that holds for it."""
    by_place: dict[tuple[str, str], Suppression] = {}
    for suppression in valid:
        by_place.setdefault((suppression.migration, suppression.rule), suppression)
    return tuple(
        finding
        if finding.severity == "blocked" or finding.rule == RULE
        else finding.model_copy(update={"suppressed": by_place.get((finding.migration, finding.rule))})
        for finding in findings
    )


def _marked(file: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the comments that are meant for us; of a file that is no Python, those before it goes wrong."""
    try:
        for token in tokenize.tokenize(io.BytesIO(file.read_bytes()).readline):
            match = MARK.match(token.string) if token.type == tokenize.COMMENT else None
            if match is not None:
                yield token.start[0], match["rest"].strip()
    except (OSError, tokenize.TokenError, SyntaxError, ValueError):
        return


def _read(  # noqa: PLR0911 - one thing that may be wrong after the other
    rest: str, line: int, migration: Migration, today: date, known: Collection[str]
) -> Suppression | Finding:
    """What a comment says, or what is wrong with it."""
    match = ACCEPT.fullmatch(rest)
    if match is None:
        return _wrong(migration, line, "cannot be understood", f"Write it as `{FORM}`.")
    rule, day, reason = match["rule"], match["day"], (match["reason"] or "").strip()
    if rule not in known or rule == RULE:
        rules = sorted(set(known) - {RULE})
        near = difflib.get_close_matches(rule, rules, n=1)
        cure = f"Did you mean {near[0]}?" if near else f"The rules are {', '.join(rules)}."
        return _wrong(migration, line, f"names no rule: {rule!r}", cure)
    if day is None or not reason:
        what = "has no last day" if day is None else "gives no reason"
        return _wrong(migration, line, f"of {rule} {what}", f"Write it as `{FORM}`.")
    expires = _day(day)
    if expires is None:
        return _wrong(migration, line, f"of {rule} ends on no day: {day!r}", "Write the day as YYYY-MM-DD.")
    if expires < today:
        cure = "Mend the migration, or look at it again and renew it."
        return _wrong(migration, line, f"of {rule} has expired on {expires}", cure)
    if expires - today > LONGEST:
        what = f"of {rule} ends on {expires}, more than {LONGEST.days} days ahead"
        return _wrong(migration, line, what, f"The last day may be {today + LONGEST} at most.")
    return Suppression(
        rule=rule, migration=migration.label, reason=reason, expires=expires, file=str(migration.file), line=line
    )


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if len(text) == len("2026-12-31") else None
    except ValueError:
        return None


def _wrong(migration: Migration, line: int, what: str, cure: str) -> Finding:
    return Finding(
        rule=RULE,
        migration=migration.label,
        severity="medium",
        message=f"The suppression in line {line} of {migration.file} {what}: it suppresses nothing.",
        evidence=(),
        mitigation=(cure,),
        file=migration.file,
        line=line,
    )
