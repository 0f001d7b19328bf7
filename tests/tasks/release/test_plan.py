"""What a plan says about itself."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tasks.release.order import Order
from tests.builders import COMMIT, migration, plan


def test_tables_are_those_that_the_operations_name() -> None:
    made = plan(
        pending=(
            migration("a.0001", operations=({"describe": "", "table": "one"}, {"describe": "", "table": None})),
            migration("b.0001", operations=({"describe": "", "table": "two"}, {"describe": "", "table": "one"})),
        )
    )
    assert made.tables == {"one", "two"}
    assert [one.label for one in made.pending] == ["a.0001", "b.0001"]


def test_an_order_takes_nothing_that_it_does_not_know() -> None:
    order = {"environment": "staging", "ref": "v1", "commit": COMMIT, "release_id": "", "dry_run": True}
    assert Order.model_validate(order).dry_run
    with pytest.raises(ValidationError, match="Extra inputs"):
        Order.model_validate({**order, "password": "x"})
