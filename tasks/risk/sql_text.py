"""SQL as text: split into statements and words, without understanding them.

The whole of PostgreSQL's lexical rules that matters for that: comments (nested), strings, dollar quotes, quoted names.
Any text can be given; what is not closed is a broken token, never an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "quoted", "string", "number", "sign", "broken"]

_TOKEN = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<escaped> [eE]'(?:[^'\\]|\\.|'')*' )
    | (?P<string> (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*' )
    | (?P<quoted> (?:[uU]&)?"(?:[^"]|"")+" )
    | (?P<dollar> \$(?:[^\W\d]\w*)?\$ )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<number> \d+(?:\.\d+)? )
    | (?P<sign> [^'"] )
    | (?P<broken> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS: dict[str, Kind] = {"word": "word", "quoted": "quoted", "number": "number", "sign": "sign", "broken": "broken"}
_COMMENT_MARK = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Token:
    """A word of a statement."""

    kind: Kind
    text: str  # a quoted name or string without its quotes
    start: int
    end: int

    @property
    def upper(self) -> str:
        """A keyword as PostgreSQL reads it; "" for what cannot be one."""
        return self.text.upper() if self.kind in ("word", "sign") else ""

    @property
    def name(self) -> str:
        """An identifier as PostgreSQL stores it: lower case unless quoted."""
        return self.text if self.kind == "quoted" else self.text.lower()


@dataclass(frozen=True)
class Statement:
    """One statement of a text."""

    text: str  # without the semicolon, and without comments before it
    line: int  # on which it begins, counted from 0 in the text
    tokens: tuple[Token, ...]  # their places are those in `text`

    @property
    def broken(self) -> bool:
        """Whether a string, name or comment in it is not closed."""
        return any(token.kind == "broken" for token in self.tokens)

    def shown(self, length: int = 120) -> str:
        """The statement on one line, for a message; what is in quotes may be a value of somebody and is left out."""
        one, end = "", 0
        for token in self.tokens:
            value = "'…'" if token.kind == "string" else self.text[token.start : token.end]
            one += (" " if token.start > end else "") + value
            end = token.end
        return one if len(one) <= length else one[: length - 1] + "…"


def split(text: str) -> list[Statement]:
    """The statements of a text; empty ones and comments are left out."""
    statements: list[Statement] = []
    tokens: list[Token] = []
    for token in _tokens(text):
        if token.kind == "sign" and token.text == ";" and not _inside_a_body(tokens):
            if tokens:
                statements.append(_statement(text, tokens))
            tokens = []
        else:
            tokens.append(token)
    if tokens:
        statements.append(_statement(text, tokens))
    return statements


def without_placeholders(statement: Statement) -> str:
    """The statement's text with NULL for each of psycopg's placeholders (%s, %(name)s)."""
    pieces, done, tokens = [], 0, statement.tokens
    for number, token in enumerate(tokens):
        if token.text != "%" or token.kind != "sign" or token.start < done:
            continue
        following = tokens[number + 1 : number + 5]
        words = [each.text for each in following]
        if words[:1] == ["s"] and following[0].start == token.end:
            end = following[0].end
        elif len(words) == 4 and words[0] == "(" and words[2:] == [")", "s"] and following[0].start == token.end:
            end = following[3].end
        else:
            continue
        pieces += [statement.text[done : token.start], " NULL "]
        done = end
    return "".join([*pieces, statement.text[done:]])


def _statement(text: str, tokens: list[Token]) -> Statement:
    start = tokens[0].start
    moved = tuple(Token(token.kind, token.text, token.start - start, token.end - start) for token in tokens)
    return Statement(text[start : tokens[-1].end], text.count("\n", 0, start), moved)


def _inside_a_body(tokens: list[Token]) -> bool:
    """Whether tokens are the beginning of a function whose body is written as SQL: BEGIN ATOMIC ... END."""
    words = [token.upper for token in tokens]
    if words[:1] != ["CREATE"] or "ATOMIC" not in words:
        return False
    depth = words.count("BEGIN") + words.count("CASE") - words.count("END")
    return depth > 0


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    place = 0
    while match := _TOKEN.match(text, place):
        end = match.end()
        inner = match.group()
        if match.lastgroup == "comment":
            end = _end_of_comment(text, place)
        elif match.lastgroup == "dollar":
            close = text.find(inner, end)
            end = close + len(inner) if close >= 0 else -1
            found.append(Token("string", text[match.end() : close], place, end))
        elif match.lastgroup in ("escaped", "string"):
            found.append(Token("string", inner[inner.index("'") + 1 : -1].replace("''", "'"), place, end))
        elif match.lastgroup != "space":
            found.append(Token(_KINDS[match.lastgroup or ""], inner, place, end))
            if match.lastgroup == "quoted":
                found[-1] = Token("quoted", inner[inner.index('"') + 1 : -1].replace('""', '"'), place, end)
        if end < 0:  # a comment or a dollar quote that is not closed takes the rest
            return [*(token for token in found if token.start < place), Token("broken", text[place:], place, len(text))]
        place = end
    return found


def _end_of_comment(text: str, start: int) -> int:
    """Where a comment that begins at a place ends; -1 when it does not."""
    depth = 0
    for mark in _COMMENT_MARK.finditer(text, start):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return -1
