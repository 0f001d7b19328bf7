"""Sets of words, as the rules' tables are written."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text with spaces in between."""
    return frozenset(text.split())
