"""What a check found, for a person, for a program, for code scanning (SARIF) and for GitHub's annotations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from deployments.check.run import Checked
from tasks.release.risk import Finding, Risk, Severity

FORMAT = 1  # of the JSON object; docs/check.md describes it
SARIF_LEVELS: dict[Severity, str] = {"blocked": "error", "high": "error", "unknown": "warning", "medium": "warning"}
GITHUB_LEVELS: dict[Severity, str] = {"blocked": "error", "high": "error", "unknown": "warning", "medium": "warning"}
ANNOTATION = 1000  # characters
ORDER: tuple[Severity, ...] = ("blocked", "high", "unknown", "medium")


def as_json(checked: Checked) -> str:
    """One object; docs/check.md describes it."""
    risk = checked.risk
    return json.dumps(
        {
            "format": FORMAT,
            "level": risk.level,
            "base": checked.base or None,
            "findings": [_plain(checked, finding) for finding in _open(risk)],
            "suppressed": [
                {
                    **_plain(checked, finding),
                    "reason": finding.suppressed.reason,
                    "expires": finding.suppressed.expires.isoformat(),
                }
                for finding in risk.findings
                if finding.suppressed
            ],
            "migrations": [{"migration": one.migration, "level": one.level} for one in risk.migrations],
            "notes": list(checked.notes),
            "facts": list(risk.facts),
        },
        indent=2,
        ensure_ascii=False,
    )


def as_text(checked: Checked) -> str:
    """For a terminal: each migration with its level, and below it what was found."""
    risk = checked.risk
    lines = []
    labels = [one.migration for one in risk.migrations]
    levels = {one.migration: one.level for one in risk.migrations}
    others = [finding.migration for finding in risk.findings if finding.migration not in levels]
    for label in dict.fromkeys([*labels, *others]):
        lines.append(f"{label or 'the migrations as a whole'}: {levels.get(label, '')}".rstrip(": "))
        for finding in sorted(risk.findings, key=lambda finding: ORDER.index(finding.severity)):
            if finding.migration == label:
                lines += _told(checked, finding)
    lines += [f"note: {note}" for note in checked.notes]
    found, accepted = len(_open(risk)), len(risk.findings) - len(_open(risk))
    total = f"{len(labels)} migration{'s' * (len(labels) != 1)}, {found} finding{'s' * (found != 1)}"
    lines.append(f"{total}{f', {accepted} accepted' if accepted else ''}: {risk.level}")
    return "\n".join(lines)


def as_sarif(checked: Checked) -> str:
    """SARIF 2.1.0, as code scanning takes it."""
    rules = sorted({finding.rule for finding in checked.risk.findings})
    results = [_result(checked, finding, rules.index(finding.rule)) for finding in checked.risk.findings]
    driver = {"name": "runbook", "rules": [{"id": rule, "shortDescription": {"text": rule}} for rule in rules]}
    return json.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "results": results}],
        },
        indent=2,
    )


def as_github(checked: Checked) -> str:
    """Workflow commands that GitHub shows beside the changed lines."""
    lines = []
    # GitHub shows the first ten of a step.
    for finding in sorted(checked.risk.findings, key=lambda finding: ORDER.index(finding.severity)):
        level = "notice" if finding.suppressed else GITHUB_LEVELS[finding.severity]
        place = f"file={_property(_file(checked, finding) or '')},line={finding.line or 1}," if finding.file else ""
        title = _property(f"{finding.migration}: {finding.rule}")
        lines.append(f"::{level} {place}title={title}::{_data(_shortened(_paragraphs(finding)))}")
    return "\n".join(lines)


FORMATS: dict[str, Callable[[Checked], str]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "github": as_github,
}


def _open(risk: Risk) -> list[Finding]:
    return [finding for finding in risk.findings if finding.suppressed is None]


def _plain(checked: Checked, finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "migration": finding.migration,
        "severity": finding.severity,
        "harm": finding.harm,
        "subject": finding.subject,
        "message": finding.message,
        "evidence": list(finding.evidence),
        "mitigation": list(finding.mitigation),
        "file": _file(checked, finding),
        "line": finding.line,
    }


def _file(checked: Checked, finding: Finding) -> str | None:
    """From the top of the repository; a file outside of it keeps its whole path."""
    if finding.file is None or PurePath(finding.file).is_absolute():
        return finding.file
    return f"{checked.prefix}{finding.file}"


def _told(checked: Checked, finding: Finding) -> list[str]:
    place = _file(checked, finding)
    where = f"  {place}{f':{finding.line}' if finding.line else ''}" if place else ""
    lines = [f"  {finding.rule} ({finding.severity}){where}", f"    {finding.message}"]
    if finding.suppressed:
        return [*lines, f"    accepted until {finding.suppressed.expires:%Y-%m-%d}: {finding.suppressed.reason}"]
    lines += [f"    - {sentence}" for sentence in finding.evidence]
    for number, step in enumerate(finding.mitigation, 1):
        first, *rest = step.splitlines() or [""]
        lines += [f"    {number}. {first}", *(f"       {line}" for line in rest)]
    return lines


def _result(checked: Checked, finding: Finding, index: int) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": SARIF_LEVELS[finding.severity],
        "message": {"text": _paragraphs(finding)},
        "partialFingerprints": {"runbook/v1": f"{finding.rule}:{finding.migration}:{finding.subject}"},
    }
    location: dict[str, Any] = {
        "artifactLocation": _artifact(checked, finding),
        "region": {"startLine": max(1, finding.line or 1)},
    }
    result["locations"] = [{"physicalLocation": location}]
    if finding.suppressed:
        result["suppressions"] = [{"kind": "inSource", "justification": finding.suppressed.reason}]
    return result


def _artifact(checked: Checked, finding: Finding) -> dict[str, str]:
    """Where a result is shown. Code scanning takes none without a place: what is of no file goes to the top."""
    place = _file(checked, finding) or f"{checked.prefix}manage.py"
    if PurePath(place).is_absolute():
        return {"uri": f"file://{quote(place)}"}
    return {"uri": quote(place), "uriBaseId": "%SRCROOT%"}


def _paragraphs(finding: Finding) -> str:
    steps = [f"{number}. {step}" for number, step in enumerate(finding.mitigation, 1)]
    return "\n".join([f"{finding.migration}: {finding.message}", *finding.evidence, *steps])


def _shortened(text: str) -> str:
    """What is read beside a line of code; the text form has all of it."""
    if len(text) <= ANNOTATION:
        return text
    kept = text[:ANNOTATION]
    whole = kept.rpartition("\n")[0] if "\n" in kept[ANNOTATION // 2 :] else kept
    return f"{whole}\n... (`runbook check` shows the rest)"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
