"""The order of escalation (§8): unanswered, the next contact is told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from tasks.release.people import Contact


def due(contacts: Sequence[Contact], asked_at: datetime, now: datetime) -> tuple[Contact, ...]:
    """The contacts that should have been told by now, while nobody has answered.

    The first one is told at once, each further one when the time of the one before is over.
    """
    told = []
    turn = asked_at
    for contact in contacts:
        if now < turn:
            break
        told.append(contact)
        turn += timedelta(seconds=contact.answer_within_s)
    return tuple(told)
