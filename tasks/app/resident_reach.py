# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""Which statements reach beyond their database: to other servers, or to what all databases of a server share."""

import re

from .resident_statement import LITERAL

BEGINS = re.compile(
    r"(?:^|;|\bbegin\b|\bthen\b|\belse\b|\bloop\b|\bexecute\b)(?:\s|'|\(|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL
)
# Whatever the server: another one would be connected to, or a program or a file of the server's would be used.
ELSEWHERE = (
    re.compile(r"(?:create|alter)\s+(?:subscription|user\s+mapping)\b"),
    re.compile(r"import\s+foreign\s+schema\b"),
    re.compile(r"copy\b[^;]*\b(?:from|to)\s+(?:program\b|'|\$)"),
)
ELSEWHERE_CALLS = re.compile(r"\b(?:dblink(?:_\w+)?|lo_export|pg_read_(?:binary_)?file)\s*\(")
# Where the live database is on the same server.
SHARED = (
    re.compile(r"(?:create|alter|drop)\s+(?:role|user(?!\s+mapping)|group|tablespace)\b"),
    re.compile(r"(?:create|alter|drop)\s+database\b"),
    re.compile(r"alter\s+system\b"),
    re.compile(r"(?:drop|reassign)\s+owned\b"),
    re.compile(r"(?:grant|revoke)\b[^;]*\bon\s+(?:database|tablespace|parameter)\b"),
    re.compile(r"(?:grant|revoke)\b(?![^;]*\bon\b)[^;]*\b(?:to|from)\b"),  # membership in a role
)
SHARED_CALLS = re.compile(
    r"\b(?:pg_(?:terminate|cancel)_backend|pg_reload_conf|pg_rotate_logfile|pg_promote|pg_create_restore_point"
    r"|pg_(?:drop|create_physical|create_logical|copy_physical|copy_logical)_replication_slot)\s*\("
)


def reaches(text, shared, own):
    """What of a statement reaches beyond its database, as it is written, and whether it is another server; or None.

    Args:
        text: One statement, or several; blocks of DO are looked into, functions that are called are not.
        shared: Whether what all databases of the server share counts.
        own: The name of the database, whose own settings and grants may be changed.
    """
    bare = LITERAL.sub(emptied, text).lower()
    begins = [found.end() for found in BEGINS.finditer(bare)]
    for patterns, calls, elsewhere in ((ELSEWHERE, ELSEWHERE_CALLS, True), (SHARED, SHARED_CALLS, False)):
        if not (elsewhere or shared):
            continue
        for begin in begins:
            for pattern in patterns:
                found = pattern.match(bare, begin)
                if found and not (not elsewhere and "database" in found.group() and names(bare, begin, own)):
                    return " ".join(found.group().split()[:3]), elsewhere
        found = calls.search(bare)
        if found and not (not elsewhere and "current_database()" in bare):
            return found.group(), elsewhere
    return None


def names(bare, begin, own):
    """Whether the statement that begins there is about the database itself."""
    statement = bare[begin:].partition(";")[0]
    return re.search(rf'\bdatabase\s+"?{re.escape(own.lower())}"?(?=\s|$)', statement) is not None


def emptied(literal):
    """A literal without what stands in it; a block that is carried out stays, quoted strings in it too."""
    text = literal.group()
    if literal.group("passed") or literal.group("number"):
        return text
    if text[0] == "$":
        before = literal.string[: literal.start()].rstrip().lower()
        return text.replace("'", " ") if re.search(r"\bdo$|\bdo\s+language\s+\w+$", before) else "$$"
    return "''"
