"""Which column or table a piece of SQL names, however much of it is put together at run time."""

from __future__ import annotations

import re
from collections.abc import Iterator

QUIET = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
STATEMENT = re.compile(
    r"\s*(?:explain\b[^;]{0,100}?)?\(*\s*(?:select\b.*\bfrom\b|with\b.*\bselect\b|insert\s+into\b|update\b.*\bset\b|delete\s+from\b"
    r"|merge\s+into\b|copy\b.*\b(?:from|to)\b|alter\s+table\b|create\s+(?:or\s+replace\s+)?(?:\w+\s+)*?(?:view|index|table|"
    r"function|trigger|rule|policy|procedure)\b|drop\s+table\b|truncate\b|comment\s+on\b|lock\s+table\b|grant\b|declare\b"
    r"|begin\b)",
    re.IGNORECASE | re.DOTALL,
)
IDENTIFIER = r'"[^"]+"|[^\W\d][\w$]*'
# A name where SQL expects a table, and its alias.
TABLE = re.compile(
    rf"(?:\b(?:from|join|into|update|only|table|copy|references|truncate|on|using|exists)\s+|,\s*)"
    rf"(?:(?:{IDENTIFIER})\s*\.\s*)?(?P<table>{IDENTIFIER})(?!\s*[.\w])?(?:\s+(?:as\s+)?(?P<alias>{IDENTIFIER}))?",
    re.IGNORECASE,
)


def uses(text: str, table: str, column: str | None) -> Iterator[tuple[int, bool]]:
    """Where a text names a table, or a column of it.

    Args:
        text: One or several statements, or a part of one.
        table: Of the database.
        column: None: the table itself is looked for.

    Yields:
        The offset, and whether it is certain that the column is this table's: that the text is a statement, and that
        the name is qualified by this table or there is no other.
    """
    quiet = QUIET.sub(lambda match: " " * len(match[0]), text)
    began = 0
    for statement in quiet.split(";"):
        tables, aliases = _tables(statement, table)
        if aliases:
            whole = STATEMENT.match(statement) is not None
            found = _columns(statement, column, aliases, len(tables) == 1) if column else _places(statement, table)
            for offset, certain in found:
                yield began + offset, certain and whole
        began += len(statement) + 1


def _found(statement: str) -> Iterator[re.Match[str]]:
    position = 0
    while match := TABLE.search(statement, position):
        yield match
        position = match.end("table")  # what looks like an alias may begin the next clause


def _tables(statement: str, table: str) -> tuple[set[str], set[str]]:
    """All tables of a statement, and the names that one of them goes by."""
    tables, aliases = set(), set()
    for match in _found(statement):
        name = _bare(match["table"])
        if not match[0].startswith(","):  # a comma stands between columns too
            tables.add(name)
        if name == table.lower():
            tables.add(name)
            aliases |= {name, _bare(match["alias"] or name)}
    return tables, aliases


def _places(statement: str, table: str) -> Iterator[tuple[int, bool]]:
    for match in _found(statement):
        if _bare(match["table"]) == table.lower():
            yield match.start("table"), not match[0].startswith(",")


def _columns(statement: str, column: str, aliases: set[str], alone: bool) -> Iterator[tuple[int, bool]]:
    name = re.escape(column)
    pattern = re.compile(
        rf'(?:(?P<of>{IDENTIFIER})\s*\.\s*)?(?P<name>"{name}"|(?<![\w$:%@]){name}(?![\w$]))', re.IGNORECASE
    )
    renamed = re.search(rf'\bas\s+"?{name}"?(?!\w)', statement, re.IGNORECASE) is not None
    for match in pattern.finditer(statement):
        before, after = statement[: match.start()], statement[match.end() :]
        if re.search(r"\bas\s+$|%\($", before, re.IGNORECASE) or re.match(r"\s*[.(]", after):
            continue  # the name of a result, a parameter, a qualifier, a function
        if match["of"] is None:
            yield match.start("name"), alone and not renamed and not before.endswith(".")
        elif _bare(match["of"]) in aliases:
            yield match.start("name"), True


def _bare(identifier: str) -> str:
    return identifier.strip('"').lower()
