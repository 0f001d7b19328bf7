"""A turn of the sweep: what it takes on, decided by one conditional write, and what it leaves for the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks.reconcile.hands import Hands
from tasks.reconcile.look import look
from tasks.reconcile.memory import Entry, recall, remember
from tasks.reconcile.sweep import due_now, forgotten_after, noticed, settled, tried, troubles
from tasks.reconcile.trouble import Facts, Outcome, Trouble
from tasks.release.environment import Environment
from tasks.release.errors import ConflictError
from tasks.store.ledger import WRITE_ATTEMPTS, Ledger


@dataclass(frozen=True)
class Taken:
    """What a sweep has taken on: no other one does.

    Attributes:
        facts: What it looked at.
        tasks: Each trouble that something is done about now, and what is remembered of it, this try counted.
    """

    facts: Facts
    tasks: tuple[tuple[Trouble, Entry], ...]


def take_on(environment: Environment, ledger: Ledger, hands: Hands, at: datetime) -> Taken:
    """Look, decide, and write down what is taken on.

    Raises:
        ConflictError: Another sweep was faster.
        StoreError: The bucket refuses or is lost: without memory people would be told every minute.
    """
    before, etag = recall(ledger.bucket)
    facts = look(environment, ledger, hands.migrating, at)
    found = troubles(environment, facts, before, hands)
    memory = noticed(before, found, facts, forgotten_after(environment))
    due = due_now(found, memory, at)
    memory = tried(memory, [trouble.key for trouble in due], at)
    if memory != before:
        remember(ledger.bucket, memory, etag)
    return Taken(facts, tuple((trouble, memory.entries[trouble.key]) for trouble in due))


def leave(ledger: Ledger, outcomes: Sequence[Outcome]) -> None:
    """Write down how it went, for the next sweep.

    Raises:
        ConflictError: Others write faster.
        StoreError: The bucket refuses or is lost; then what was done is found done, and what was told is told again.
    """
    changes = {one.trouble.key: {"done": one.done, "run": one.run} for one in outcomes}
    for left in reversed(range(WRITE_ATTEMPTS)):
        memory, etag = recall(ledger.bucket)
        after = settled(memory, changes)
        if after == memory:
            return
        try:
            remember(ledger.bucket, after, etag)
        except ConflictError:
            if not left:
                raise
        else:
            return
