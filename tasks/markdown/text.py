"""The pieces of a page: cells, code, tables, times and sizes, none of which a strange text can break out of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "[": "&#91;"}  # the ampersand goes first


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; its cells must be such already."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    """A text that stays within one cell: no line ends, bars, tags or links, nothing that a terminal would obey."""
    line = "".join(character for character in " ".join(text.split()) if character.isprintable())
    # Entities, since a bar behind a backslash ends the cell in one Markdown and not in another.
    for character, entity in ENTITIES.items():
        line = line.replace(character, entity)
    return line


def code(text: str) -> str:
    """A text as code within one cell; what cannot stand there as code stands there as text."""
    safe = cell(text)
    return f"`{text}`" if safe == text and "`" not in text else safe


def block(text: str, language: str = "") -> str:
    """A fenced block; the fence is longer than any run of backquotes inside, so that the text cannot end it."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=2))
    return f"{fence}{language}\n{text}\n{fence}"


def without_charts(markdown: str) -> str:
    """A page for a terminal, which draws no charts: what they show stands in a table too."""
    return re.sub(r"^```mermaid\n.*?^```\n\n?", "", markdown, flags=re.MULTILINE | re.DOTALL)


def moment(at: datetime) -> str:
    """A point in time, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 120 else f"{minutes} min {rest} s"


def count(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def size(number: float) -> str:
    """A size given in bytes."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.2f} TiB"
