"""Two schemas are the same, or it is told what is not."""

from __future__ import annotations

from typing import LiteralString

import psycopg

from tasks.database.catalogue import catalogue_of, differences
from tests.fix_postgres import PostgresServer

BEFORE: LiteralString = """
create type mood as enum ('sad', 'ok');
create domain positive as int check (value > 0);
create table item (id int primary key, name varchar(9), price numeric(10,2) default 1, m mood);
create table other (a varchar(9));
create index item_name on item (name);
create view cheap as select * from item where price < 5;
create function f(int) returns int language sql as 'select 1';
create function g() returns trigger language plpgsql as 'begin return new; end';
create trigger noticed before insert on item for each row execute function g();
create sequence counter;
create extension citext;
"""

CHANGES: list[tuple[LiteralString, list[str]]] = [
    ("select 1", []),
    ("insert into item values (1)", []),
    ("analyze item", []),
    ("create temp table gone (id int)", []),
    ("alter table item add column extra int; alter table item drop column extra", []),
    ("alter table item add column extra int", ["table public.item is different"]),
    ("alter table item alter price set not null", ["table public.item is different"]),
    ("alter table item alter price drop default", ["table public.item is different"]),
    ("alter table other alter a type text", ["table public.other is different"]),
    ("drop index item_name", ["index public.item_name is missing"]),
    ("drop index item_name; create index item_name on item (id)", ["index public.item_name is different"]),
    ("update pg_index set indisvalid = false where indexrelid = 'item_name'::regclass", ["item_name is different"]),
    ("alter table item add constraint c check (id > 0) not valid", ["constraint public.item c is new"]),
    ("alter table item disable trigger noticed", ["trigger public.item noticed is different"]),
    ("drop trigger noticed on item", ["trigger public.item noticed is missing"]),
    ("alter type mood add value 'glad'", ["type public.mood is different"]),
    ("create or replace function f(int) returns int language sql as 'select 2'", ["f(integer) is different"]),
    ("create or replace view cheap as select * from item where price < 6", ["view public.cheap is different"]),
    ("alter sequence counter increment 2", ["sequence public.counter is different"]),
    ("comment on table item is 'x'", ["comment table public.item is new"]),
    ("alter table item enable row level security", ["table public.item is different"]),
    ("create policy p on item", ["policy public.item p is new"]),
]


def test_every_change_is_told(postgres: PostgresServer, database: str) -> None:
    with psycopg.connect(postgres.dsn(database), autocommit=True) as connection:
        connection.execute(BEFORE)
        connection.execute("set search_path to pg_catalog")
        before = catalogue_of(connection)
        for change, expected in CHANGES:
            with connection.transaction(force_rollback=True):
                connection.execute("set local search_path to public")
                connection.execute(change)
                connection.execute("set local search_path to pg_catalog")
                told = differences(before, catalogue_of(connection))
            assert len(told) == len(expected), (change, told)
            for sentence, words in zip(told, expected, strict=True):
                assert words in sentence


def test_owners_and_grants_count_or_not(postgres: PostgresServer, database: str) -> None:
    postgres.create_role("shop")
    with psycopg.connect(postgres.dsn(database), autocommit=True) as connection:
        connection.execute(BEFORE)
        before = catalogue_of(connection)
        connection.execute("grant select on item to shop")
        connection.execute("alter view cheap owner to shop")
        after = catalogue_of(connection)
    told = differences(before, after)
    assert told == [
        "grant public.cheap is different",
        "grant public.item is different",
        "owner public.cheap is different",
    ]
    assert differences(before, after, ownership=False) == []
