"""The order of escalation."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tasks.notify.escalate import due
from tasks.release.people import Contact
from tests.builders import AT

CONTACTS = [
    Contact(name="ada", email="ada@example.com", answer_within_s=600),
    Contact(name="bob", email="bob@example.com", answer_within_s=60),
    Contact(name="cy", email="cy@example.com"),
]


@pytest.mark.parametrize(
    ("after_s", "names"),
    [(-1, ""), (0, "ada"), (599, "ada"), (600, "ada bob"), (659, "ada bob"), (660, "ada bob cy"), (9e6, "ada bob cy")],
)
def test_unanswered_the_next_one_is_told(after_s: float, names: str) -> None:
    assert [one.name for one in due(CONTACTS, AT, AT + timedelta(seconds=after_s))] == names.split()


def test_nobody_is_due_where_nobody_is_named() -> None:
    assert due([], AT, AT) == ()
