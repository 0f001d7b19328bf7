"""What tables hold, in two numbers each: how many rows, and a sum of their hashes."""

from __future__ import annotations

from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from tasks.backup.snapshot import Connection
from tasks.database.connection import explained
from tasks.release.backup import TableContent

# Types whose own hash is of an OID, which a restore changes; their text form is a name.
OID_TYPES = (
    "regproc", "regprocedure", "regoper", "regoperator", "regclass", "regtype", "regrole", "regnamespace",
    "regcollation", "regconfig", "regdictionary", "aclitem",
)  # fmt: skip


class Table(NamedTuple):
    """A table whose rows a dump holds."""

    oid: int
    schema_name: str
    name: str
    bytes: int
    columns: tuple[tuple[str, bool], ...]  # name, and whether its values have a hash of their own
    condition: str | None  # of an extension's configuration table: which rows are the user's
    is_child: bool  # by inheritance: its columns may come back in another order

    def __str__(self) -> str:
        return f"{self.schema_name}.{self.name}"


# A type has a hash when its base type, element, subtype or every column has one: what hash_record would find out by
# failing. An enum's hash is of an OID, so it counts as having none.
_HASHABLE = """
with recursive own as (
  select t.oid, t.typtype in ('b', 'c', 'd', 'r', 'm') and t.typname <> all(%(oid_types)s) and (
    t.typtype <> 'b' or t.typcategory = 'A' and t.typsubscript = 'array_subscript_handler'::regproc
    or exists (
      select from pg_opclass o join pg_am a on a.oid = o.opcmethod and a.amname = 'hash'
      join pg_amproc p on p.amprocfamily = o.opcfamily and p.amproclefttype = o.opcintype and p.amprocnum = 2
      where o.opcdefault and (o.opcintype = t.oid or exists (
        select from pg_cast c where c.castsource = t.oid and c.casttarget = o.opcintype
          and c.castmethod = 'b' and c.castcontext = 'i')))) as hashable
  from pg_type t
), part as (
  select oid as whole, typbasetype as part from pg_type where typtype = 'd'
  union all select oid, typelem from pg_type where typsubscript = 'array_subscript_handler'::regproc and typelem <> 0
  union all select rngtypid, rngsubtype from pg_range
  union all select rngmultitypid, rngsubtype from pg_range
  union all select t.oid, a.atttypid from pg_type t join pg_attribute a on a.attrelid = t.typrelid
    where t.typtype = 'c' and a.attnum > 0 and not a.attisdropped
), unhashable as (
  select oid from own where not hashable
  union select part.whole from unhashable join part on part.part = unhashable.oid
)
"""

_TABLES = """
select c.oid, n.nspname, c.relname, coalesce(pg_total_relation_size(c.oid), 0),
  coalesce((select array_agg(array[a.attname::text, (a.atttypid not in (select oid from unhashable))::text]
      order by a.attnum)
    from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '{}'),
  (select e.extcondition[array_position(e.extconfig, c.oid)] from pg_extension e where c.oid = any(e.extconfig)),
  not c.relispartition and exists (select from pg_inherits i where i.inhrelid = c.oid)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and (not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
      and d.deptype = 'e')
    or exists (select from pg_extension e where c.oid = any(e.extconfig)))
order by 4 desc, 2, 3
"""

_SEQUENCES = """
select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'S' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and (not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
      and d.deptype = 'e')
    or exists (select from pg_extension e where c.oid = any(e.extconfig)))
order by 1, 2
"""
SEQUENCES_AT_ONCE = 200


def tables_of(connection: Connection) -> tuple[Table, ...]:
    """Every table whose rows a dump holds, the largest first: partitions and children each by themselves.

    Raises:
        DatabaseError: The server refuses.
    """
    try:
        rows = connection.execute(_HASHABLE + _TABLES, {"oid_types": list(OID_TYPES)}).fetchall()
    except psycopg.Error as error:
        raise explained(error, "cannot list the tables") from None
    return tuple(
        Table(oid, schema, name, size, tuple((column, flag == "true") for column, flag in columns), condition, child)
        for oid, schema, name, size, columns, condition, child in rows
    )


def content_of(connection: Connection, table: Table) -> TableContent:
    """Count and hash the rows of a table.

    Raises:
        DatabaseError: The server refuses, or the table was dropped.
    """
    statement = sql.SQL("select count(*), coalesce(sum(hash_record_extended({}, 0)), 0)::text from only {} t{}").format(
        _row(table),
        sql.Identifier(table.schema_name, table.name),
        sql.SQL(f" {table.condition}") if table.condition else sql.SQL(""),
    )
    try:
        row: Any = connection.execute(statement).fetchone()
    except psycopg.Error as error:
        raise explained(error, f"cannot read {table}") from None
    return TableContent(
        schema_name=table.schema_name, name=table.name, rows=row[0], fingerprint=row[1], bytes=table.bytes
    )


def _row(table: Table) -> sql.Composable:
    """The row as something that can be hashed: columns without a hash of their own as text."""
    if not table.is_child and all(hashable for _, hashable in table.columns):
        return sql.SQL("t.*")
    columns = sorted(table.columns) if table.is_child else table.columns
    return sql.SQL("row({})").format(
        sql.SQL(", ").join(
            sql.SQL("{}" if hashable else "{}::text").format(sql.Identifier("t", name)) for name, hashable in columns
        )
    )


def sequences_of(connection: Connection) -> dict[tuple[str, str], tuple[int, bool]]:
    """Last value and whether it was handed out, of every sequence a dump holds.

    Raises:
        DatabaseError: The server refuses.
    """
    try:
        names = connection.execute(_SEQUENCES).fetchall()
        found: dict[tuple[str, str], tuple[int, bool]] = {}
        for start in range(0, len(names), SEQUENCES_AT_ONCE):
            query = sql.SQL(" union all ").join(
                sql.SQL("select {}, {}, last_value, is_called from {}").format(
                    sql.Literal(schema), sql.Literal(name), sql.Identifier(schema, name)
                )
                for schema, name in names[start : start + SEQUENCES_AT_ONCE]
            )
            found |= {(schema, name): (value, called) for schema, name, value, called in connection.execute(query)}
    except psycopg.Error as error:
        raise explained(error, "cannot read the sequences") from None
    return found
