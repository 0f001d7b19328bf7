"""The hash of a migration set: the same wherever the set is planned, another for another set."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.release.migration_set import hash_of
from tasks.release.plan import BothWays, Migration, Plan, Sql
from tests.builders import AT, migration, plan, reached

TEXT = st.text(max_size=20)


def operation(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "RunPython",
        "table": None,
        "line": 7,
        "code": {"name": "shop.fill", "file": "shop/migrations/0001.py", "line": 3},
        **changes,
    }


def sql(forward: list[str] | None, backward: list[str] | None) -> BothWays:
    def one(statements: list[str] | None) -> Sql:
        kept = None if statements is None else tuple(statements)
        return Sql(statements=kept, partial=False, because=())

    return BothWays(forward=one(forward), backward=one(backward))


def made(*migrations: Migration, **changes: Any) -> Plan:
    return plan(pending=migrations, **changes)


SQL = st.one_of(st.none(), st.lists(TEXT, max_size=3))
MIGRATIONS = st.lists(
    st.builds(
        lambda name, sha, forward, backward, atomic, tables: migration(
            f"shop.{name}",
            file_sha256=sha,
            sql=sql(forward, backward),
            atomic=atomic,
            operations=tuple(operation(table=table) for table in tables),
        ),
        TEXT,
        st.one_of(st.none(), st.text("0123456789abcdef", min_size=64, max_size=64)),
        SQL,
        SQL,
        st.booleans(),
        st.lists(TEXT, max_size=3),
    ),
    max_size=4,
)


@given(MIGRATIONS, TEXT, TEXT, st.integers(0, 99), st.integers(1, 9))
def test_where_and_when_it_is_planned_does_not_count(
    migrations: list[Migration], database: str, schema: str, minor: int, days: int
) -> None:
    here = made(*migrations)
    moved = [
        one.model_copy(
            update={
                "file": f"/elsewhere/{one.name}.py",
                "operations": tuple(
                    operation(table=op["table"], line=None, code={"name": "shop.fill", "file": "/x", "line": 1})
                    for op in one.operations
                ),
            }
        )
        for one in migrations
    ]
    there = made(
        *moved,
        database=reached(
            database=database,
            migrations_schema=schema,
            host="10.0.0.9",
            server_version_num=170000 + minor,
            pooled=True,
        ),
        settings="config.settings.production",
        python="3.13",
        planned_at=AT + timedelta(days=days),
    )
    assert hash_of(here) == hash_of(there)
    assert hash_of(here) == hash_of(Plan.model_validate_json(here.model_dump_json()))


@given(MIGRATIONS, MIGRATIONS)
def test_two_sets_have_one_hash_only_if_they_are_the_same(one: list[Migration], other: list[Migration]) -> None:
    assert (hash_of(made(*one)) == hash_of(made(*other))) == (one == other)


def test_everything_that_decides_what_happens_counts() -> None:
    first, second = migration("shop.0001", operations=(operation(),)), migration("shop.0002")
    plans = [
        made(first, second),
        made(second, first),
        made(first),
        made(first, second, django="5.3"),
        made(first, second, database=reached(server_version_num=180001)),
        *(
            made(first.model_copy(update=change), second)
            for change in (
                {"name": "0003"},
                {"file_sha256": "0" * 64},
                {"atomic": False},
                {"backwards": True},
                {"sql": sql(["SELECT 1"], [])},
                {"sql": sql([], ["SELECT 1"])},
                {"sql": sql([], [])},
                {"sql": sql(None, [])},
                {"operations": (operation(kind="RunSQL"),)},
                {"operations": (operation(code={"name": "shop.other", "file": "x", "line": 1}),)},
            )
        ),
    ]
    hashes = [hash_of(one) for one in plans]
    assert len(set(hashes)) == len(hashes)
    assert all(len(one) == 64 for one in hashes)
