# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""What the text of a statement says: what kind it is, what it writes, whether it may stand in a transaction.

Texts are kept without the strings and numbers that a migration takes from rows; those that it brings along stay.
"""

import ast
import inspect
import re
import sys

FIRST_WORD = re.compile(r"(?:\s+|--[^\n]*\n|/\*.*?\*/)*([a-z]+)", re.IGNORECASE | re.DOTALL)
PLAIN = {"select", "insert", "update", "delete"}
IGNORED = {"savepoint", "release", "rollback"}
NAME = r'(?:"(?:[^"]|"")+"|\w+)'
WRITTEN = re.compile(
    rf"\s*(?:insert\s+into|update(?:\s+only)?|delete\s+from(?:\s+only)?)\s+({NAME}(?:\.{NAME})?)", re.IGNORECASE
)
# May stand in a transaction of its own; anything else outside one is left as it is.
ALONE = re.compile(
    r"\s*(?:set\s+constraints\b[^;]*;\s*)?(?:alter\s+(?:table|index)|create\s+(?:unique\s+)?index"
    r"|create\s+table|drop\s+(?:table|index)|truncate)\b"
    r"(?!.*\b(?:concurrently|detach)\b)[^;]*;?\s*$",
    re.IGNORECASE | re.DOTALL,
)
# What is built or dropped this way is locked as the manual says, which is too short to be seen on a small table.
CONCURRENTLY = re.compile(
    rf"\s*(?:create\s+(?:unique\s+)?index\s+concurrently\b.*?\bon\s+(?:only\s+)?"
    rf"|drop\s+index\s+concurrently\s+(?:if\s+exists\s+)?)({NAME}(?:\.{NAME})?)",
    re.IGNORECASE | re.DOTALL,
)
# Strings (the last one may have no end), and numbers; what is an identifier or a placeholder is passed over.
LITERAL = re.compile(
    r"""(?P<passed>"(?:[^"]|"")*")"""
    r"""|(?P<string>\b[eE]'(?:[^'\\]|\\.|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|$))"""
    r"""|(?P<number>(?<![\w"$.])\d+(?:\.\d+)?\b)""",
    re.DOTALL,
)
DEFINING = {"create", "alter", "drop", "comment", "set", "reset", "truncate", "reindex", "analyze", "vacuum"}
HIDDEN_STRING, HIDDEN_NUMBER = "'***'", "?"


class Entry:
    """One text of a statement."""

    def __init__(self, text, began):
        self.text, self.began = text, began
        self.count = self.rows = 0
        self.seconds = 0.0
        self.locks, self.rewrites = {}, set()
        self.table = None  # what it writes, where the text says so
        self.looked = None  # the last transaction in which it was looked at
        word = FIRST_WORD.match(text)
        self.word = word.group(1).lower() if word else ""
        self.plain = self.word in PLAIN


def readable(sql, raw):
    """A statement that a driver's own classes hold, as text."""
    if isinstance(sql, (bytes, bytearray)):
        return bytes(sql).decode("utf-8", "replace")
    return sql.as_string(raw) if hasattr(sql, "as_string") else str(sql)


def brought_along(migration):
    """The strings and numbers that stand in a migration's file, or in the SQL that it was loaded with."""
    texts = set(sql_of(migration.operations))
    try:
        tree = ast.parse(inspect.getsource(sys.modules[migration.__module__]))
    except (OSError, TypeError, KeyError, SyntaxError):  # only its bytecode is there
        tree = ast.Module(body=[], type_ignores=[])
    for node in ast.walk(tree):
        names = {"Constant": "value", "Str": "s", "Num": "n"}  # the latter two before Python 3.8
        value = getattr(node, names.get(type(node).__name__, ""), None)
        if isinstance(value, (str, int, float)):
            texts.add(str(value))
    inside = {content_of(found) for text in texts for found in LITERAL.finditer(text)}
    return texts | inside


def sql_of(operations):
    """The texts of RunSQL operations."""
    for operation in operations:
        yield from sql_of(getattr(operation, "database_operations", ()))
        for given in (getattr(operation, "sql", None), getattr(operation, "reverse_sql", None)):
            for one in given if isinstance(given, (list, tuple)) else [given]:
                text = one[0] if isinstance(one, (list, tuple)) and one else one
                if isinstance(text, str):
                    yield text


def content_of(literal):
    """What a literal stands for."""
    text = literal.group()
    if literal.group("string") is None:
        return text
    if text[0] == "$":
        return text.strip("$")
    return text[text.index("'") + 1 :].rstrip("'").replace("''", "'")


def masked(text, known):
    """A statement without the strings and numbers that are not known; numbers of definitions, such as lengths, stay."""
    word = FIRST_WORD.match(text)
    defines = word is not None and word.group(1).lower() in DEFINING

    def one(literal):
        if literal.group("passed") or content_of(literal) in known:
            return literal.group()
        if literal.group("number"):
            return literal.group() if defines else HIDDEN_NUMBER
        return HIDDEN_STRING

    return LITERAL.sub(one, text)
