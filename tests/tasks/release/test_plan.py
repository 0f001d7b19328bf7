"""What a plan says about itself."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from tasks.release.order import Order
from tasks.release.plan import BothWays, Plan, Problem, Sql
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


def test_a_record_of_an_earlier_version_is_read() -> None:
    old = plan("a.0001").model_dump(mode="json")
    del old["problems"], old["database"]["pooled"], old["pending"][0]["file_sha256"]
    made = Plan.model_validate_json(json.dumps({**old, "findings": ["a conflict", "another"]}))
    assert made.findings == ("a conflict", "another")
    assert {problem.rule for problem in made.problems} == {"unclassified"}
    assert Plan.model_validate_json(made.model_dump_json()) == made


def test_what_could_not_be_rendered_is_among_the_findings() -> None:
    unknown = Sql(statements=None, partial=False, because=("no such table",))
    problem = Problem(rule="drift", migration="a.0001", severity="medium", message="a column is missing")
    made = plan(pending=(migration("b.0002", sql=BothWays(forward=unknown, backward=unknown)),), problems=(problem,))
    assert made.findings == ("a column is missing", "b.0002 could not be rendered as SQL: no such table")
