"""What is lost: pairs of databases made by hand, of which the second was a copy of the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from psycopg import sql
from pydantic import SecretStr

from tasks.rehearse.loss import losses
from tasks.release.environment import Database
from tests.fix_postgres import PostgresServer

Lost = set[tuple[str, str | None, str, int]]
Compare = Callable[..., Lost]


@pytest.fixture
def lost(postgres: PostgresServer) -> Iterator[Compare]:
    """Make a database, change a copy of it, and tell what of it is lost."""
    made: list[str] = []

    def compare(before: str, after: str, *touched: str) -> Lost:
        original = postgres.create_database()
        made.append(original)
        postgres.execute(*_statements(before), dbname=original)
        copy = f"{original}_copy"
        made.append(copy)
        postgres.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(copy), sql.Identifier(original))
        )
        postgres.execute(*_statements(after), dbname=copy)
        server = Database(
            host=postgres.host, port=postgres.port, name=original, user=postgres.superuser,
            password=SecretStr(postgres.password),
        )  # fmt: skip
        found = losses(server, original, copy, touched)
        # Nothing is left in the copy, and nothing was changed in the original.
        assert losses(server, original, copy, touched) == found
        assert losses(server, original, original, touched) == ()
        return {(loss.relation, loss.column, loss.kind, loss.count) for loss in found}

    yield compare
    for name in made:
        postgres.drop_database(name)


def _statements(text: str) -> list[sql.Composed]:
    return [sql.Composed([sql.SQL(part)]) for part in text.split(";") if part.strip()]


ITEMS = """
create table item (id bigint primary key, name text, price numeric(10,2), at timestamptz default now());
insert into item select g, 'name ' || g, g, now() from generate_series(1, 1000) g
"""


def test_nothing_is_lost(lost: Compare) -> None:
    assert lost(ITEMS, "update item set name = name; vacuum full item", "public.item") == set()


def test_values_and_rows_are_counted(lost: Compare) -> None:
    after = """
    update item set name = upper(name) where id <= 10;
    update item set price = null where id between 6 and 8;
    delete from item where id > 990;
    insert into item values (2000, 'new', 1)
    """
    assert lost(ITEMS, after, "public.item") == {
        ("public.item", "name", "changed", 10),
        ("public.item", "price", "gone", 3),
        ("public.item", None, "gone", 10),
        ("public.item", None, "added", 1),
    }


def test_a_column_that_came_back(lost: Compare) -> None:
    """Dropped and added again at the end of the table: with NULL, with a default, with the same values."""
    assert lost(ITEMS, "alter table item drop name; alter table item add name text") == {
        ("public.item", "name", "gone", 1000)
    }
    assert lost(ITEMS, "alter table item drop name; alter table item add name text default 'name 7'") == {
        ("public.item", "name", "changed", 999)
    }
    same = "alter table item drop name; alter table item add name text; update item set name = 'name ' || id"
    assert lost(ITEMS, same) == set()


def test_columns_and_tables_that_did_not_come_back(lost: Compare) -> None:
    before = ITEMS + "; create table other (x int); insert into other values (1), (2); create table empty (x int)"
    after = "alter table item drop name, add extra int; update item set extra = 1 where id < 4; drop table other, empty"
    assert lost(before, after) == {
        ("public.item", "name", "gone", 1000),
        ("public.item", "extra", "added", 3),
        ("public.other", None, "gone", 2),
    }
    assert lost("create table a (x int)", "create table b as select 1 as x") == {("public.b", None, "added", 1)}


def test_only_what_was_touched_is_compared(lost: Compare) -> None:
    assert lost(ITEMS, "delete from item where id = 1") == set()
    assert lost(ITEMS, "truncate item") == {("public.item", None, "gone", 1000)}


def test_composite_keys_of_words_and_numbers(lost: Compare) -> None:
    before = """
    create table line ("Order" text, position int, "ä ö" varchar(20), primary key ("Order", position));
    insert into line select 'no ' || (g % 40), g, 'word' from generate_series(1, 200) g;
    insert into line values ('Straße', 1, 'x'), ('STRASSE', 1, 'y')
    """
    after = """
    update line set "ä ö" = 'other' where position = 77;
    update line set position = 1000 where position = 78;
    delete from line where "Order" = 'Straße'
    """
    assert lost(before, after, "public.line") == {
        ("public.line", "ä ö", "changed", 1),
        ("public.line", None, "gone", 2),
        ("public.line", None, "added", 1),
    }


def test_a_unique_column_serves_as_key(lost: Compare) -> None:
    before = """
    create table code (c uuid not null unique, v int, w int unique);
    insert into code select md5(g::text)::uuid, g, g from generate_series(1, 100) g
    """
    assert lost(before, "update code set v = v + 1, w = null where v <= 5", "public.code") == {
        ("public.code", "v", "changed", 5),
        ("public.code", "w", "gone", 5),
    }
    # A key that may be NULL afterwards, or is not there any more, tells no rows apart.
    nullable = "alter table code alter c drop not null; update code set c = null where v <= 5"
    assert lost(before, nullable, "public.code") == {
        ("public.code", None, "gone", 5),
        ("public.code", None, "added", 5),
    }


def test_no_key(lost: Compare) -> None:
    before = "create table log (line text, n int); insert into log select 'a', null from generate_series(1, 10)"
    after = "delete from log where ctid in (select ctid from log limit 3); insert into log values ('b', 1), (null, 1)"
    assert lost(before, after, "public.log") == {("public.log", None, "gone", 3), ("public.log", None, "added", 2)}
    assert lost(before, "update log set n = 1", "public.log") == {
        ("public.log", None, "gone", 10),
        ("public.log", None, "added", 10),
    }


def test_types_whose_own_equality_is_looser_than_their_text(lost: Compare) -> None:
    before = """
    create extension citext;
    create type mood as enum ('sad', 'happy');
    create table kinds (id text primary key, n numeric, c citext, j json, jb jsonb, a int[], b bytea,
      m mood, f float8, r int4range, x xml, p point);
    insert into kinds select g, 1.0, 'Word', '{"a": 1}', '{"a": 1}', array[g, null], decode('00ff', 'hex'), 'sad',
      0.1, '[1,5)', '<a/>', '(1,2)' from generate_series(1, 5) g
    """
    assert lost(before, "select 1", "public.kinds") == set()
    after = """
    update kinds set n = 1.00, c = 'WORD', j = '{"a":1}', jb = '{"a": 2}', a = array[1, 2], b = decode('00fe', 'hex'),
      m = 'happy', f = 0.1 + 0.2, r = '[1,6)', x = '<a></a>', p = '(1,3)' where id = '3'
    """
    columns = ["n", "c", "j", "jb", "a", "b", "m", "f", "r", "x", "p"]
    assert lost(before, after, "public.kinds") == {("public.kinds", column, "changed", 1) for column in columns}


def test_a_type_that_changed_and_changed_back(lost: Compare) -> None:
    before = "create table t (id int primary key, v numeric(10,3)); insert into t values (1, 1.234), (2, 2)"
    after = "alter table t alter v type numeric(10,1); alter table t alter v type numeric(10,3)"
    assert lost(before, after) == {("public.t", "v", "changed", 1)}
    # A key that is wider now is the same key.
    assert lost(before, "alter table t alter id type bigint") == set()


def test_partitions_and_schemas(lost: Compare) -> None:
    before = """
    create schema "Sales";
    create table "Sales"."Order" (id int, at int, primary key (id, at)) partition by range (at);
    create table "Sales".one partition of "Sales"."Order" for values from (0) to (10);
    create table "Sales".two partition of "Sales"."Order" for values from (10) to (20);
    insert into "Sales"."Order" select g, g % 20 from generate_series(1, 100) g;
    create table django_migrations (id int primary key);
    create table "Sales".parent (id int primary key); create table "Sales".child (extra int) inherits ("Sales".parent);
    insert into "Sales".parent values (1); insert into "Sales".child values (2, 3)
    """
    after = """
    delete from "Sales"."Order" where id = 5; insert into django_migrations values (1);
    delete from "Sales".child
    """
    touched = ('"Sales".one', '"Sales".two', "public.django_migrations", '"Sales".child', '"Sales".parent')
    assert lost(before, after, *touched) == {
        ('"Sales".one', None, "gone", 1),
        ('"Sales".child', None, "gone", 1),
    }
