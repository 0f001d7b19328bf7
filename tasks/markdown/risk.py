"""The judgement as a person reads it: the checklist, and each finding with its evidence and what to do."""

from __future__ import annotations

from tasks.markdown.text import cell, code, count, table
from tasks.release.checklist import Checklist
from tasks.release.risk import Finding, Risk

TICKS = {"yes": "✓ yes", "no": "✗ **no**", "unknown": "? unknown"}
ORDER = ("blocked", "high", "unknown", "medium")  # the gravest first
EVIDENCE_LIMIT = 5  # sentences in one cell; the record has all of them


def checklist_table(checklist: Checklist) -> str:
    """§4.1: the boxes, what ticks them, and what would turn them to yes."""
    rows = [(cell(box.question), TICKS[box.tick], _several(box.evidence), cell(box.mend)) for box in checklist.boxes]
    demands = ", ".join(checklist.demands)
    return f"**Risk: {checklist.level}** · this environment demands: {demands}\n\n" + table(
        ("Checklist", "", "Evidence", "What would turn it to yes"), rows
    )


def findings_list(risk: Risk) -> str:
    """Every finding, the gravest first; suppressed ones at the end with their reason."""
    if not risk.findings:
        return "No finding: every rule was asked, and no fact speaks against any of the migrations."
    shown = sorted(
        (finding for finding in risk.findings if finding.suppressed is None),
        key=lambda finding: ORDER.index(finding.severity),
    )
    parts = [_finding(finding) for finding in shown]
    accepted = [(finding, finding.suppressed) for finding in risk.findings if finding.suppressed]
    if accepted:
        rows = [
            (
                code(finding.rule),
                code(finding.migration),
                cell(finding.message),
                cell(by.reason),
                f"{by.expires:%Y-%m-%d}",
            )
            for finding, by in accepted
        ]
        parts.append(
            f"{count(len(accepted), 'finding')} accepted by somebody:\n\n"
            + table(("Rule", "Migration", "What", "Reason", "Until"), rows)
        )
    return "\n\n".join(parts)


def facts_list(risk: Risk) -> str:
    """What was asked of the database."""
    if not risk.facts:
        return ""
    return "### Asked of the database\n\n" + "\n".join(f"- {cell(fact)}" for fact in risk.facts)


def _finding(finding: Finding) -> str:
    place = f" · {code(f'{finding.file}:{finding.line}' if finding.line else finding.file)}" if finding.file else ""
    lines = [
        f"#### {cell(finding.migration)}: {cell(finding.message)}",
        f"**{finding.severity}** · rule {code(finding.rule)}{place}",
    ]
    if finding.evidence:
        lines.append("\n".join(f"- {cell(sentence)}" for sentence in finding.evidence))
    if finding.mitigation:
        lines.append(
            "What to do:\n\n" + "\n".join(f"{n}. {_step(step)}" for n, step in enumerate(finding.mitigation, 1))
        )
    return "\n\n".join(lines)


def _step(step: str) -> str:
    """A step; lines after its first are code and are shown so."""
    first, *rest = step.splitlines()
    if not rest:
        return cell(first)
    indented = "\n".join(f"   {line}" for line in ["```", *(line.replace("```", "'''") for line in rest), "```"])
    return f"{cell(first)}\n{indented}"


def _several(sentences: tuple[str, ...]) -> str:
    shown = [cell(sentence) for sentence in sentences[:EVIDENCE_LIMIT]]
    more = len(sentences) - EVIDENCE_LIMIT
    return "; ".join([*shown, *([f"and {more} more"] if more > 0 else [])])
