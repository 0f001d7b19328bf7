"""The table of contents of a dump, and what of it a role can restore."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

# dump id; catalogue oid, oid, kind and name, and the owner as the last words
_ENTRY = re.compile(r"^\d+; \d+ \d+ (?P<words>.*)$")
EVENT_TRIGGER = ("EVENT TRIGGER ", "COMMENT - EVENT TRIGGER ")
_EXTENSION = re.compile(r"(EXTENSION - |COMMENT - EXTENSION )(?P<name>.*?) ?$")


class Rights(NamedTuple):
    """What the restoring role may do on its server."""

    superuser: bool
    may_become: frozenset[str]  # roles that it can give objects to
    roles: frozenset[str]  # that exist there
    extensions: frozenset[str]  # that it can create


class Choice(NamedTuple):
    """What of a dump is restored, and how."""

    lines: tuple[str, ...]  # for --use-list
    keep_owners: bool
    skipped_extensions: frozenset[str]
    findings: tuple[str, ...]


def choose(contents: Iterable[str], rights: Rights) -> Choice:
    """Leave out what the role cannot restore and what holds no rows; everything else has to succeed.

    Args:
        contents: The lines of `pg_restore --list`.
        rights: What the restoring role may do.
    """
    lines: list[str] = []
    findings: list[str] = []
    skipped: set[str] = set()
    strangers: set[str] = set()
    for line in contents:
        entry = _ENTRY.match(line)
        if not entry:
            continue
        words = entry["words"]
        owner = _owner_of(words, rights)
        if extension := _EXTENSION.match(words):
            if extension["name"] not in rights.extensions:
                skipped.add(extension["name"])
                continue
        elif not rights.superuser and words.startswith(EVENT_TRIGGER):
            findings.append(f"event triggers were not restored: {words}")
            continue
        elif owner is None and re.match(r"(SCHEMA - public|COMMENT - SCHEMA public|ACL - SCHEMA public) ", words):
            # The schema is there already, and stays with the owner of the database.
            findings.append(f"owner and grants of the schema public were not restored: {words}")
            continue
        elif owner is None:
            strangers.add(words.rsplit(" ", 1)[-1])
        lines.append(line)
    findings += [f"the extension {name} was not restored: only a superuser can create it" for name in sorted(skipped)]
    if strangers:
        names = ", ".join(sorted(strangers))
        findings.append(f"everything belongs to one role after the restore: its role cannot become {names}")
    return Choice(tuple(lines), not strangers, frozenset(skipped), tuple(dict.fromkeys(findings)))


def _owner_of(words: str, rights: Rights) -> str | None:
    """The owner of an entry if objects can be given to it; an entry without an owner is anybody's."""
    if words.endswith(" "):
        return ""
    return next((role for role in rights.may_become if words.endswith(f" {role}")), None)
