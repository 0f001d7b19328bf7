"""Which error ended `migrate`: by the class of psycopg's exception, which has one SQLSTATE in every language."""

from __future__ import annotations

import re

import psycopg

from tasks.release.plan import EndedBy

# The last line of a traceback, of psycopg 2 and 3; the cause is printed before Django's own exception.
RAISED = re.compile(r"^psycopg2?\.(?:errors\.)?(\w+)\b")
LOCK_TIMEOUT, CANCELED, DEADLOCK = "55P03", "57014", "40P01"
IN_FAILED_TRANSACTION = "25P02"  # what a statement after one that was cancelled ends with
# Classes and codes after which the connection is gone: lost, shut down, restarted, not there yet.
CONNECTION = ("08", "57P01", "57P02", "57P03")
# Where no class is printed, or one without a SQLSTATE.
WORDS: tuple[tuple[EndedBy, re.Pattern[str]], ...] = (
    ("lock timeout", re.compile(r"due to lock timeout", re.IGNORECASE)),
    ("deadlock", re.compile(r"deadlock detected", re.IGNORECASE)),
    (
        "connection lost",
        re.compile(
            r"server closed the connection|terminating connection|the connection is (lost|closed)|could not connect|"
            r"connection refused|connection failed|the database system is (starting up|shutting down)",
            re.IGNORECASE,
        ),
    ),
)


class Traceback:
    """Takes what `migrate` prints, line by line, and keeps the SQLSTATE of the last exception of the driver."""

    def __init__(self) -> None:
        self.sqlstate: str | None = None

    def line(self, text: str) -> None:
        """Take a line."""
        found = RAISED.match(text)
        kind = getattr(psycopg.errors, found[1], None) if found else None
        if isinstance(kind, type) and issubclass(kind, psycopg.Error):
            self.sqlstate = kind.sqlstate  # None of a general class: its words count


def ended_by(sqlstate: str | None, last_words: str, *, by_the_guard: bool) -> EndedBy:
    """Why an attempt failed.

    Args:
        sqlstate: Of the driver's last exception.
        last_words: The exception at the end of what was printed: what came before may be about anything.
        by_the_guard: The guard cancelled or ended the session in this attempt. A migration that handles the error
            itself may end with any other.
    """
    if by_the_guard and (sqlstate in {None, CANCELED, IN_FAILED_TRANSACTION} or sqlstate.startswith(CONNECTION)):
        return "guard"
    if sqlstate == LOCK_TIMEOUT:
        return "lock timeout"
    if sqlstate == DEADLOCK:
        return "deadlock"
    if sqlstate is not None:
        return "connection lost" if sqlstate.startswith(CONNECTION) else "error"
    return next((reason for reason, words in WORDS if words.search(last_words)), "error")
