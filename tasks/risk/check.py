"""The text of a CHECK: its expression, and the parts of it that are joined by AND."""

from __future__ import annotations

import re

# Text that holds no structure: an escape string, a string, a quoted name, a dollar-quoted string. Then words,
# brackets, and every other character for itself.
_TOKEN = re.compile(
    r"""[eE]'(?:\\.|''|[^'\\])*' | '(?:''|[^'])*' | "(?:""|[^"])*" | (\$\w*\$).*?\1 | \w+ | .""",
    re.DOTALL | re.VERBOSE,
)


def expression_of(check: str) -> str:
    """The expression of a CHECK given as such or as a clause, `CONSTRAINT "name" CHECK (...) NOT VALID`.

    Django doubles per cent signs where its driver would take them for placeholders; PostgreSQL itself has no `%%`.
    """
    text = check.strip().rstrip(";").replace("%%", "%")
    if not re.match(r"(CONSTRAINT\b|CHECK\s*\()", text, re.IGNORECASE):
        return text
    depth, begin, is_check = 0, None, False
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word == "(":
            if depth == 0 and is_check and begin is None:
                begin = token.end()
            depth += 1
        elif word == ")":
            depth -= 1
            if depth == 0 and begin is not None:
                return text[begin : token.start()].strip()
        elif depth == 0 and word.upper() == "CHECK":
            is_check = True
    return text


def conjuncts(expression: str) -> list[str]:
    """The parts of an expression that AND joins at its outermost level, without brackets around them."""
    text = _bare(expression)
    parts, depth, begin, between = [], 0, 0, False
    for token in _TOKEN.finditer(text):
        word = token.group()
        depth += (word == "(") - (word == ")")
        if depth != 0:
            continue
        upper = word.upper()
        if upper == "OR":
            return [text]
        if upper == "BETWEEN":
            between = True
        elif upper == "AND" and between:
            between = False  # BETWEEN's own
        elif upper == "AND":
            parts.append(text[begin : token.start()])
            begin = token.end()
    if begin == 0:
        return [text]
    return [found for part in [*parts, text[begin:]] for found in conjuncts(part)]


def _bare(expression: str) -> str:
    """An expression without the brackets around the whole of it."""
    text = expression.strip()
    while text.startswith("(") and text.endswith(")"):
        depth = 0
        for token in _TOKEN.finditer(text):
            depth += (token.group() == "(") - (token.group() == ")")
            if depth == 0:
                if token.end() != len(text):
                    return text
                break
        text = text[1:-1].strip()
    return text
