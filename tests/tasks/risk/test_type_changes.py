"""What a change of type costs and breaks, against the server itself."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tasks.risk.type_changes import Cost, Fit, cost, fit, holders, is_other_kind
from tests.fix_postgres import PostgresServer

# A type, and a value of row g that every type it can be cast to accepts, as far as there is one.
VALUES = {
    "smallint": "g",
    "integer": "g",
    "bigint": "g",
    "boolean": "g = 1",
    "real": "g",
    "double precision": "g",
    "numeric": "g",
    "numeric(8, 2)": "g",
    "numeric(10, 2)": "g",
    "numeric(12, 4)": "g",
    "varchar(20)": "g::text",
    "varchar(50)": "g::text",
    "varchar": "g::text",
    "text": "g::text",
    "char(20)": "g::text",
    "citext": "g::text",
    "uuid": "gen_random_uuid()",
    "date": "current_date",
    "timestamp with time zone": "now()",
    "timestamp(3) with time zone": "now()",
    "timestamp": "now()",
    "time": "localtime",
    "interval": "interval '1 hour'",
    "jsonb": "to_jsonb(g)",
    "json": "to_json(g)",
    "inet": "'10.0.0.1'::inet",
    "cidr": "'10.0.0.1/32'::cidr",
    "bytea": "'a'::bytea",
    "varchar(20)[]": "ARRAY[g::text]",
    "varchar(50)[]": "ARRAY[g::text]",
    "integer[]": "ARRAY[g]",
    "bit varying(8)": "B'1'",
    "bit varying(16)": "B'1'",
    "oid": "g",
}
BY_VALUE = ("varchar", "text", "char", "citext", "json")  # whether a cast from these fails depends on the value


@pytest.fixture(scope="module", params=["postgres", "postgres15"])
def connection(request: pytest.FixtureRequest) -> Iterator[psycopg.Connection]:
    server: PostgresServer = request.getfixturevalue(request.param)
    name = server.create_database()
    with psycopg.connect(server.dsn(name), autocommit=True) as opened:
        opened.execute("CREATE EXTENSION citext")
        opened.execute("SET timezone = 'Europe/Berlin'")  # in UTC alone timestamptz is stored like timestamp
        yield opened
    server.drop_database(name)


def measured(connection: psycopg.Connection, old: str, new: str) -> Cost:
    """What the server does: by the files of the table and of an index on the column."""
    indexed = "json" not in (old, new)
    files = "SELECT pg_relation_filenode('t'), pg_relation_filenode(to_regclass('i'))"
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"CREATE TABLE t (c {old})".encode())
            connection.execute(f"INSERT INTO t SELECT ({VALUES[old]})::{old} FROM generate_series(0, 1) g".encode())
            if indexed:
                connection.execute("CREATE INDEX i ON t (c)")
            before = connection.execute(files).fetchone()
            connection.execute(f"ALTER TABLE t ALTER c TYPE {new} USING c::{new}".encode())
            after = connection.execute(files).fetchone()
    except psycopg.Error:
        return Cost.IMPOSSIBLE
    assert before is not None
    assert after is not None
    if before[0] != after[0]:
        return Cost.REWRITE
    return Cost.INDEXES if before[1] != after[1] else Cost.NOTHING


@pytest.mark.parametrize("old", VALUES)
def test_costs(connection: psycopg.Connection, old: str) -> None:
    wrong = {}
    for new in VALUES:
        said, done = cost(old, new), measured(connection, old, new)
        by_value = done is Cost.IMPOSSIBLE and said is Cost.REWRITE and old.startswith(BY_VALUE)
        if said is not done and not by_value:
            wrong[new] = f"said {said.name}, is {done.name}"
    assert not wrong


def test_what_is_not_known_is_not_called_cheap() -> None:
    assert cost("mood", "text") is Cost.UNKNOWN
    assert cost("text", "email_address") is Cost.UNKNOWN
    assert cost("mood", "mood") is Cost.NOTHING


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("character varying(50)", "varchar(50)"),
        ("numeric(10,2)", "numeric(10, 2)"),
        ("timestamp with time zone", "timestamptz"),
        ("int4", "serial"),
        ("character varying(20)[]", "varchar(20)[]"),
    ],
)
def test_spellings(one: str, other: str) -> None:
    assert cost(one, other) is Cost.NOTHING
    assert fit(one, other) is Fit.ALL


# (old, new, value, whether Django writes the cast): it does so where the class of the field's type changes.
MISFITS = [
    ("varchar(50)", "varchar(3)", "'abcd'", False),
    ("text", "varchar(3)", "'abcd'", True),
    ("char(9)", "varchar(3)", "'abcd'", True),
    ("bigint", "integer", "3000000000", True),
    ("integer", "smallint", "70000", True),
    ("numeric(10, 2)", "numeric(10, 0)", "1.25", False),
    ("numeric(10, 2)", "numeric(5, 2)", "12345.67", False),
    ("numeric(10, 2)", "integer", "1.25", True),
    ("integer", "numeric(5, 2)", "12345", True),
    ("double precision", "integer", "1.5", True),
    ("double precision", "real", "1.123456789", True),
    ("integer", "real", "16777217", True),
    ("timestamptz", "date", "now()", True),
    ("timestamp", "date", "now()", True),
    ("text", "integer", "'x'", True),
    ("integer", "varchar(2)", "12345", True),
    ("integer", "boolean", "2", True),
    ("varchar(50)", "text", "'abcd'", True),
    ("integer", "bigint", "5", True),
    ("integer", "numeric(12, 2)", "12345", True),
    ("numeric(10, 2)", "numeric", "1.25", False),
    ("numeric(10, 2)", "double precision", "1.25", True),
    ("date", "timestamptz", "current_date", True),
    ("json", "jsonb", "'1'", True),
    ("cidr", "inet", "'10.0.0.1/32'", True),
]


@pytest.mark.parametrize(("old", "new", "value", "written"), MISFITS, ids=str)
def test_what_becomes_of_values(connection: psycopg.Connection, old: str, new: str, value: str, written: bool) -> None:
    using = f" USING c::{new}" if written else ""
    with connection.transaction(force_rollback=True):
        connection.execute(f"CREATE TABLE t AS SELECT ({value})::{old} AS c".encode())
        connection.execute(b"CREATE TABLE kept AS SELECT c FROM t")
        try:
            with connection.transaction():
                connection.execute(f"ALTER TABLE t ALTER c TYPE {new}{using}".encode())
        except psycopg.Error:
            done = Fit.REFUSED
        else:
            same = connection.execute(
                f"SELECT rtrim(t.c::{old}::text) = rtrim(kept.c::text) FROM t, kept".encode()
            ).fetchone()
            done = Fit.ALL if same == (True,) else Fit.CHANGED
    said = fit(old, new)
    assert said is done or (said is Fit.EITHER and done is not Fit.ALL)


def test_kinds() -> None:
    assert is_other_kind("integer", "varchar(20)")
    assert is_other_kind("varchar(36)", "uuid")
    assert is_other_kind("integer", "integer[]")
    assert not is_other_kind("integer", "numeric(10, 2)")
    assert not is_other_kind("varchar(20)", "text")
    assert not is_other_kind("date", "timestamptz")


def test_what_holds_a_type_until_it_is_dropped() -> None:
    users = [
        "view shop_cheap",
        'materialized view other."Old ones"',
        "policy own on shop_order",
        "trigger note on shop_order",
        "generated column shop_order.sum",
        "function total(integer)",
        "function sums() (its text names it)",
    ]
    assert holders(users, ()) == users[:-1]
    assert holders(users, {"shop_cheap", "own", "note", "total"}) == [users[1], users[4]]
