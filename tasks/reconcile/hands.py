"""Hands: what a sweep uses of other stages. The flow hands it down, since no stage knows another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tasks.release.decisions import Delivery
from tasks.release.environment import Environment
from tasks.release.people import Contact, Occasion
from tasks.release.release import Release
from tasks.store.ledger import Ledger

Report = Callable[[str], None]


@dataclass(frozen=True)
class Message:
    """What people are told, in plain text."""

    occasion: Occasion
    subject: str
    facts: tuple[tuple[str, str], ...]  # label and text; one without a text is left out


@dataclass(frozen=True)
class Hands:
    """The work of other stages.

    Attributes:
        may_be_on: Whether a release may have left maintenance mode on.
        put_right: Switches off what a release has left on, sees it off and writes it down; whether there was anything.
        due: From contacts in their order, when a question was put and now: who should have been told by now.
        tell: Tells the environment's channels, once of each subject, and writes it into the record of a release by its
            id, if it is about one.
        ask: Tells one person of the question that a release waits with, and writes it into the record.
        migrating: How the application_name of a migrating session begins.
    """

    may_be_on: Callable[[Release], bool]
    put_right: Callable[[Environment, Ledger, str, Literal["the sweep"], Report], bool]
    due: Callable[[Sequence[Contact], datetime, datetime], Sequence[Contact]]
    tell: Callable[[Environment, str | None, Message, Report], Sequence[Delivery]]
    ask: Callable[[Environment, Release, Contact, Report], Delivery]
    migrating: str
