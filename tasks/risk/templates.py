"""Which attribute a Django or Jinja template reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


def uses(text: str, names: Iterable[str]) -> Iterator[int]:
    """Offsets of `.name` and `["name"]` within the tags of a template; whose attribute it is, nobody knows."""
    any_name = "|".join(map(re.escape, sorted(names)))
    pattern = re.compile(rf"""\.(?:{any_name})(?!\w)(?!\s*\()|\[\s*["'](?:{any_name})["']\s*\]""")
    for tag in TAG.finditer(text):
        for match in pattern.finditer(tag[0]):
            yield tag.start() + match.start()
