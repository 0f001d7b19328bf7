"""Facts that a sweep looks at, and what can be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from tasks.database.lock import SWEEP
from tasks.database.sessions import Session
from tasks.release.release import Release

Kind = Literal[
    "dead run", "maintenance", "expired", "abandoned", "unanswered", "watch", "scratch", "shut scratch",
    "session", "record", "blind",
]  # fmt: skip
PRESENT = f"{SWEEP}: "  # begins what a sweep writes into a timeline
# Seen for so long before it counts: a run whose lock was lost and that ends by itself needs no help, and a run that
# refuses writes its record before Prefect knows of its end.
GRACE = timedelta(minutes=2)
AGAIN = timedelta(minutes=10)  # until what could not be told is tried again
AT_ONCE = timedelta(0)
DAY = timedelta(days=1)
SHOWN_AFTER: Mapping[Kind, timedelta] = {
    "dead run": GRACE,
    "maintenance": AT_ONCE,
    "expired": AT_ONCE,
    "abandoned": GRACE,
    "unanswered": AT_ONCE,
    "watch": AT_ONCE,
    "scratch": AT_ONCE,
    "shut scratch": DAY,  # a copy of a large database is shut for hours while it is made
    "session": GRACE,
    "record": GRACE,
    "blind": AGAIN,
}
TRIED_AGAIN_AFTER: Mapping[Kind, timedelta] = {
    "dead run": AGAIN,
    "maintenance": AT_ONCE,
    "expired": AT_ONCE,
    "abandoned": AT_ONCE,
    "unanswered": AT_ONCE,
    "watch": AT_ONCE,  # when its monitor is late again is decided from its heartbeat
    "scratch": AT_ONCE,
    "shut scratch": AGAIN,
    "session": AGAIN,
    "record": AGAIN,
    "blind": AGAIN,
}


@dataclass(frozen=True)
class Facts:
    """What was found at one moment; what could not be looked at is named in `unseen`, with the reason."""

    at: datetime
    records: tuple[Release, ...] = ()  # newest first
    # Nobody held the release lock, before and after the records were read: whatever runs in them is dead. None: unseen.
    lock_is_free: bool | None = None
    runs: Mapping[str, str] = field(default_factory=dict)  # id of a flow run that asks: type of its state, or GONE
    heartbeats: Mapping[str, datetime] = field(default_factory=dict)  # release id: when its watch was written last
    shut_scratch: tuple[str, ...] = ()
    migrating: tuple[Session, ...] = ()  # sessions of migrations
    unreadable: Mapping[str, str] = field(default_factory=dict)  # release id: why its record cannot be read
    unseen: Mapping[str, str] = field(default_factory=dict)  # part: why it could not be looked at


@dataclass(frozen=True)
class Trouble:
    """One thing that is wrong.

    Attributes:
        kind: What sort of thing.
        key: What it is remembered by; another occurrence has another key.
        what: One sentence.
        release: The release that it is about, as it was read.
        contacts: Who is to be told of a question, by name.
    """

    kind: Kind
    key: str
    what: str
    release: Release | None = None
    contacts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What was done about a trouble.

    Attributes:
        did: In a sentence; empty: nothing.
        error: Why it could not be done; empty: it was.
        done: Nothing is left to do about it.
        run: The flow run that was started.
    """

    trouble: Trouble
    did: str
    error: str = ""
    done: bool = True
    run: str = ""


def last_sign(release: Release) -> datetime:
    """When a release's own run wrote last into its timeline, as opposed to a sweep."""
    own = (one.at for one in release.timeline if SWEEP not in one.what and one.stage != "reopened")
    return max(own, default=release.created_at)
