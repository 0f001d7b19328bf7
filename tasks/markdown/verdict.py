"""The verdict of a watch as a person reads it: a sentence, what is blamed, and charts of what was seen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from tasks.markdown.text import cell, code, count, duration, moment, table
from tasks.release.watch import Verdict

CHARTS = 4  # metrics that are drawn: the strongest evidence
CHART_POINTS = 60  # of a line; mermaid draws no more that could be told apart
TITLES = {
    "passed": "Nothing speaks against {ref}",
    "convicted": "{ref} does harm",
    "inconclusive": "{ref}: a person has to look",
    "superseded": "{ref} was superseded",
}
NO_TAGS = str.maketrans(
    "<>", "\u2039\u203a"
)  # mermaid leaves out of a title what looks like a tag: a route's variables
RED, GREEN, AMBER = "#ef4444", "#22c55e", "#f59e0b"
# The Prefect UI draws on a dark ground.
THEME = {
    "backgroundColor": "transparent",
    "titleColor": "#e2e8f0",
    **{f"{axis}Axis{part}Color": "#cbd5e1" for axis in "xy" for part in ("Label", "Title", "Tick", "Line")},
}

Seen = Sequence[tuple[float, float, float, float]]  # minutes, seen %, tolerated %, logarithm of the evidence


def verdict_report(ref: str, verdict: Verdict, series: Mapping[str, Seen], threshold: float, picture: str) -> str:
    """The report of a watch.

    Args:
        ref: What was released.
        verdict: What the watch came to.
        series: What was seen of the metrics.
        threshold: The evidence that convicts.
        picture: Where the same charts lie as a picture; "": nowhere.
    """
    parts = [
        f"# {TITLES[verdict.outcome].format(ref=cell(ref))}",
        f"**{cell(verdict.sentence)}.**",
        _facts(verdict),
        _blame(verdict),
        _findings(verdict),
        _watched(verdict, threshold),
        *(chart(one.metric, series[one.metric], threshold) for one in verdict.watched[:CHARTS] if one.metric in series),
        f"The same as a picture: {picture}" if picture else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def chart(metric: str, seen: Seen, threshold: float) -> str:
    """Two mermaid charts of a metric: what was seen against what is tolerated, and the evidence against its limit."""
    points = seen[:: max(1, -(-len(seen) // CHART_POINTS))]
    if len(points) < 2:
        return ""
    minutes, shares, tolerated, evidence = (
        [round(value, 4) for value in column] for column in zip(*points, strict=True)
    )
    top = max(1e-3, *shares, *tolerated) * 1.1
    limit = round(math.log10(threshold), 4)
    printable = "".join(one for one in metric if one.isprintable() and one not in '"\\;#')
    title = json.dumps(printable.translate(NO_TAGS), ensure_ascii=False)
    begin, end = minutes[0], max(minutes[-1], minutes[0] + 0.01)
    return "\n".join(
        [
            f"Red: seen. Green: tolerated. Of {code(metric)}:",
            "",
            *_xychart(title, (begin, end), ("% against the release", 0, top), ((RED, shares), (GREEN, tolerated))),
            "",
            "Red: evidence, as a power of ten. Amber: where it convicts.",
            "",
            *_xychart(
                title,
                (begin, end),
                ("evidence, power of ten", min(0, *evidence), max(limit, *evidence) * 1.05),
                ((RED, evidence), (AMBER, [limit] * len(evidence))),
            ),
        ]
    )


def _xychart(
    title: str,
    minutes: tuple[float, float],
    axis: tuple[str, float, float],
    lines: Sequence[tuple[str, Sequence[float]]],
) -> list[str]:
    colours = ", ".join(colour for colour, _ in lines)
    theme = {"theme": "base", "themeVariables": {"xyChart": {**THEME, "plotColorPalette": colours}}}
    what, low, high = axis
    return [
        "```mermaid",
        f"%%{{init: {json.dumps(theme)}}}%%",
        "xychart-beta",
        f"    title {title}",
        f'    x-axis "minutes since the release" {minutes[0]:g} --> {minutes[1]:g}',
        f'    y-axis "{what}" {low:g} --> {high:g}',
        *(f"    line [{', '.join(f'{value:g}' for value in values)}]" for _, values in lines),
        "```",
    ]


def _facts(verdict: Verdict) -> str:
    length_s = (verdict.ended_at - verdict.began_at).total_seconds()
    facts = [
        f"watched from {moment(verdict.began_at)} for {duration(length_s)}, {count(verdict.intervals, 'interval')}"
    ]
    if verdict.silent:
        facts.append(f"{count(verdict.silent, 'interval')} without traffic")
    if verdict.maintained:
        facts.append(f"{count(verdict.maintained, 'interval')} of these in maintenance mode, which is left out")
    if verdict.outcome == "convicted":
        may = "it may be rolled back by itself"
        facts.append(may if verdict.may_roll_back else f"nothing is rolled back by itself: {verdict.why_not}")
    if verdict.placebo:
        facts.append(
            f"on days without a release the judge was wrong {verdict.placebo.false_alarms} of"
            f" {count(verdict.placebo.replays, 'time')}, up to {moment(verdict.placebo.until)}"
        )
    elif verdict.outcome != "convicted":
        facts.append("the judge was not tried yet on days without a release")
    if verdict.power:
        facts.append(verdict.power)
    return "\n".join(f"- {cell(fact)}" for fact in facts)


def _blame(verdict: Verdict) -> str:
    if verdict.blame is None:
        return ""
    blame = verdict.blame
    row = (
        code(blame.migration) if blame.migration else "none",
        code(blame.relation) if blame.relation else "none",
        cell(blame.what),
        moment(blame.began_at) if blame.began_at else "unknown",
    )
    return "## What is blamed\n\n" + table(("Migration", "Relation", "What became worse", "Since"), [row])


def _findings(verdict: Verdict) -> str:
    if not verdict.findings:
        return ""
    rows = [
        (cell(one.what), code(one.remedy) + (" (done)" if one.mended else ""), "yes" if one.convicts else "")
        for one in verdict.findings
    ]
    return "## In the catalogue\n\n" + table(("Found", "Remedy", "Convicts"), rows)


def _watched(verdict: Verdict, threshold: float) -> str:
    if not verdict.watched:
        return ""
    rows = [
        (
            code(one.metric),
            "" if one.observed is None else f"{one.observed:.2%}",
            "" if one.tolerated is None else f"{one.tolerated:.2%}",
            f"{one.evidence:.3g}",
            f"{one.share:.0%}",
            "everything is" if one.general else "",
        )
        for one in verdict.watched
    ]
    head = ("Metric", "Seen", "Tolerated", "Evidence", "Share", "Worse as well")
    return f"## What was watched\n\nTogether, evidence of {threshold:g} convicts.\n\n" + table(head, rows)
