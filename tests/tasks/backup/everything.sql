-- A bit of everything that a dump has to bring back and a fingerprint has to see.
create schema "Größe ""x"" $";
create type mood as enum ('sad', 'ok');
create type pair as (a int, m mood);
create type note as (a int, b json);
create domain positive as int check (value > 0);
create extension citext;
create table plain (t int primary key, u text, constraint short check (length(u) < 100));
insert into plain select g, repeat('x', g % 10) from generate_series(1, 1000) g;
create table "Größe ""x"" $"."Tä ""ble.*|$%s" (
  id serial primary key, "t" text, "Spalte %s" json, x xml, p point, m mood, d positive, ar int[], par point[],
  c note, pr pair, mr mood[], r int4range, mru int8multirange, ts timestamptz default '2024-02-29 12:00+01',
  f float8, n numeric, b bytea, mo money, bi bit(3), vb varbit, rc regclass, g int generated always as (7 * 2) stored,
  i interval, h uuid default gen_random_uuid(), ci citext, tv tsvector, jb jsonb, ip inet, co char(5), v varchar(9));
insert into "Größe ""x"" $"."Tä ""ble.*|$%s"
  (t, "Spalte %s", x, p, m, d, ar, par, c, pr, mr, r, mru, f, n, b, mo, bi, vb, rc, i, ci, tv, jb, ip, co, v)
  select 'ü' || g, '{"a": 1,  "a": 2}', '<a/>', point(g, 1.1), 'ok', 3, array[1, null], array[point(1, 2)],
    row(1, '{}')::note, row(1, 'sad')::pair, '{sad,ok}', '[1,3)', '{[1,3),[5,9)}', g / 3.0, 1.50, '\xde00', 12.5, b'101',
    b'1', 'public.plain', '1 mon 2 days', 'CI', 'a:1 b:2', '{"k": [1, null]}', '10.0.0.1/8', 'ab', 'v'
  from generate_series(1, 40) g;
insert into "Größe ""x"" $"."Tä ""ble.*|$%s" default values;
create table event (id bigint generated always as identity, at date, v jsonb) partition by range (at);
create table event_2020 partition of event for values from ('2020-01-01') to ('2021-01-01');
create table event_rest partition of event default;
insert into event (at, v) select date '2020-06-01' + g, '{"x": 1}' from generate_series(1, 400) g;
create index on event (at);
create table parent (a int);
create table child (b text) inherits (parent);
alter table parent add column z int default 5;
insert into parent values (1, 2);
insert into child select g, 'c', g from generate_series(1, 20) g;
create table no_columns ();
insert into no_columns default values;
create table node (id int primary key, above int references node);
insert into node values (1, 1), (2, 1);
create table dropped (a int, b int, c text);
insert into dropped values (1, 2, 'three');
alter table dropped drop column b;
create unlogged table unlogged_one as select 1 as x;
create table t (t text);
insert into t values ('a column named like its table');
create table worded (
  status varchar(9) check (status in ('open', 'shut')), n int check (n between 1 and 10 and n <> 5), k varchar(3));
create index worded_open on worded (n) where status in ('open', 'shut');
create view worded_open_rows as select * from worded where status in ('open', 'shut') and n between 1 and 3;
insert into worded values ('open', 2, 'a');
create view seen as select u, count(*) from plain group by u;
create materialized view counted as select count(*) from plain;
create function twice(int) returns int language sql as 'select $1 * 2';
create function stamp() returns trigger language plpgsql as 'begin return new; end';
create trigger stamp before insert on plain for each row execute function stamp();
create sequence counter;
select nextval('counter') from generate_series(1, 7);
create sequence untouched increment -3;
create statistics related on t, u from plain;
select lo_from_bytea(0, 'large'), lo_from_bytea(0, 'objects');
comment on table plain is 'with a comment';
grant select on plain to runbook;
alter table plain add constraint positive_t check (t > 0) not valid;
alter default privileges grant select on tables to runbook;
