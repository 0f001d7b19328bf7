"""The control group: what a release does not touch, measured in the same minutes as what it touches.

Where both become slower or fail more, the cause is common to both (the machine, the network, the database as a whole)
and is not held against the release: a difference in differences. What counts as touched is learned from the texts of
statements, and for endpoints from what the rehearsal saw them ask for, else from names: a route that names a table or
its model. Of what names none nothing is known: it is in no control group.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

Touch = Literal["touched", "untouched", "unknown"]
NAMED = re.compile(r'\b(?:from|join|into|update)\s+(?:only\s+)?(?:"?\w+"?\.)?"?(\w+)"?', re.IGNORECASE)
LEAST_REQUESTS = 5  # in the control group's intervals that are looked at; with fewer, nothing is said of them
MOST_FACTOR = 20.0  # a control group that is so much slower is broken itself


@dataclass(frozen=True)
class Share:
    """Bad events of one metric in one interval, and how many were to be expected."""

    bad: float
    total: float
    tolerated: float  # share


def relations_of(text: str) -> frozenset[str]:
    """The relations that a statement names, without schema."""
    try:
        parsed = sqlglot.parse(re.sub(r"\$\d+", "0", text), dialect="postgres")
    except (SqlglotError, RecursionError):
        return frozenset(NAMED.findall(text))  # such as one that was cut off
    return frozenset(table.name for tree in parsed if tree for table in tree.find_all(exp.Table))


def touch_of(
    metric: str,
    tables: Collection[str],
    texts: Mapping[str, str],
    routes: Mapping[str, Collection[str]],
    others: Collection[str],
) -> tuple[Touch, str]:
    """Whether a release touches what a metric measures, and the relation by which it does ("": none known).

    Args:
        metric: See Sample.
        tables: Which the release's migrations touch.
        texts: Digest to text of the statements that are known.
        routes: Route to the relations that it is known to use; none: it uses none.
        others: Tables that there are beside these.
    """
    source, _, subject = metric.partition(":")
    if not subject or not tables:
        return "unknown", ""
    if source.startswith("statement."):
        return _found(relations_of(texts[subject]), tables) if subject in texts else ("unknown", "")
    if source.startswith(("table.", "index.")):
        return _found({subject.rpartition(".")[2]}, tables)
    if not subject.startswith("/"):
        return "unknown", ""
    # A new release may use a table that its predecessor, which was rehearsed, did not.
    used = {*routes.get(subject, ()), *(table for table in tables if _names(subject, table))}
    if used & set(tables) or subject not in routes:
        return _found(used or {table for table in others if _names(subject, table)}, tables)
    return "untouched", ""


def _found(relations: Collection[str], tables: Collection[str]) -> tuple[Touch, str]:
    both = sorted(set(relations) & set(tables))
    if both:
        return "touched", both[0]
    return ("untouched", "") if relations else ("unknown", "")


def _names(route: str, table: str) -> bool:
    """Whether a path names a table or its model: /api/documents/7 and documents_document."""
    words = {_singular(word) for word in re.findall("[a-z]+", route.lower())}
    whole, last = table.lower(), table.lower().rpartition("_")[2]
    return bool(words & {_singular(whole), _singular(last)})


def _singular(word: str) -> str:
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")


def factor(control: Iterable[Share]) -> float:
    """How many times as many bad events as tolerated the control group has; at least 1: less is no excuse.

    The middle one of its members counts, by their weight in requests, so that one that is broken excuses nothing.
    """
    ratios = sorted(
        (share.bad / (share.total * share.tolerated), share.total)
        for share in control
        if share.total >= LEAST_REQUESTS and share.tolerated > 0
    )
    whole = sum(weight for _, weight in ratios)
    passed = 0.0
    for ratio, weight in ratios:
        passed += weight
        if passed >= whole / 2:
            return min(MOST_FACTOR, max(1.0, ratio))
    return 1.0
