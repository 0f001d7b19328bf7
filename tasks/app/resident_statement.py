# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""What the text of a statement says: what kind it is, what it writes, whether it may stand in a transaction."""

import re

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
LITERAL = re.compile(r"'(?:[^']|'')*'|(?<![\w\"$])-?\d+(?:\.\d+)?\b")


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
