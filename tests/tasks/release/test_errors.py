"""Errors reach the other side whole, and say themselves whether another try may help."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from types import SimpleNamespace

import cloudpickle  # type: ignore[import-untyped]
import pytest

from tasks.release import errors
from tasks.release.errors import CommandError, MigrationError, RunbookError, may_retry

FIELDS: dict[str, tuple[tuple[object, ...], dict[str, object]]] = {
    "CommandError": (("pg_dump", -9, "the end of it"), {}),
    "DatabaseError": (("lost",), {"sqlstate": "57P01"}),
    "MigrationError": (("failed",), {"applied": ("a.0001",), "failed": "a.0002"}),
    "VerificationError": (("differs",), {"subject": "public.shop"}),
    "StoreError": (("lost",), {"key": "releases/x.json"}),
    "ConflictError": (("taken",), {"key": "releases/x.json"}),
}


def _classes(kind: type[RunbookError] = RunbookError) -> Iterator[type[RunbookError]]:
    yield kind
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield from _classes(inner)


@pytest.mark.parametrize("kind", list(_classes()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=lambda module: module.__name__)
def test_an_error_survives_the_way_to_another_process(kind: type[RunbookError], pickler: object) -> None:
    arguments, fields = FIELDS.get(kind.__name__, (("it happened",), {}))
    error = kind(*arguments, **fields, hint="type this", retryable=True)  # type: ignore[arg-type]
    again = pickle.loads(pickler.dumps(error))  # type: ignore[attr-defined]
    assert type(again) is kind
    assert vars(again) == vars(error)
    assert str(again) == str(error)
    assert str(again).endswith("what to do: type this")
    assert again.args == error.args


def test_every_class_is_in_the_tree_that_is_drawn() -> None:
    drawn = errors.__doc__ or ""
    assert not [kind.__name__ for kind in _classes() if kind.__name__ not in drawn]


@pytest.mark.parametrize(
    ("code", "told"),
    [(None, "git ran out of time"), (-9, "git was ended by signal 9"), (3, "git ended with exit code 3")],
)
def test_how_a_program_ended_is_said(code: int | None, told: str) -> None:
    error = CommandError("git", code, "x" * 10_000 + "the end")
    assert error.message.startswith(told)
    assert error.output.endswith("the end")
    assert len(error.output) == 4000


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (MigrationError("lock", retryable=True), True),
        (MigrationError("bad"), False),
        (ValueError("a bug"), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
)
def test_only_an_error_that_says_so_is_tried_again(data: object, answer: bool) -> None:
    assert may_retry(None, None, SimpleNamespace(data=data)) is answer
    assert may_retry(None, None, object()) is False
