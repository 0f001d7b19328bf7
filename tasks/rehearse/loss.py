"""What is not what it was: the rows and values of a database compared with those of the copy it was made from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql

from tasks.backup.contents import Table, content_of, tables_of
from tasks.backup.side_by_side import run_side_by_side
from tasks.backup.snapshot import Connection, reading
from tasks.database.connection import explained
from tasks.release.environment import Database
from tasks.release.rehearsal import Loss

LEFT_OUT = "django_migrations"  # whatever its schema: reversing and applying again is written there

# Per table: the file of its rows, its columns with their types, and the columns of a key that no two rows share.
_SHAPES = """
select format('%I.%I', n.nspname, c.relname), c.relname, c.oid, c.relfilenode,
  coalesce((
    select jsonb_object_agg(a.attname, a.attnum || ' ' || format_type(a.atttypid, a.atttypmod)) from pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '{}'),
  coalesce((select array_agg(attname::text) from pg_attribute a
    where a.attrelid = c.oid and a.attnotnull and not a.attisdropped), '{}'),
  (select array_agg(a.attname::text) from (
      select i.indkey from pg_index i where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null
        and i.indexprs is null and not exists (select from pg_attribute x
          where x.attrelid = c.oid and x.attnum = any(i.indkey) and not x.attnotnull)
      order by i.indisprimary desc, i.indexrelid limit 1) as best
    join pg_attribute a on a.attrelid = c.oid and a.attnum = any(best.indkey))
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
"""


_KEY = sql.Identifier("runbook: hash of the key")  # no column of the application's


class _Shape(NamedTuple):
    """A table as the comparison sees it."""

    table: Table
    file: int
    columns: dict[str, str]  # by name: number and type; one that was dropped and added again has another number
    required: frozenset[str]  # columns that are NOT NULL
    key: tuple[str, ...]  # none: ()


def losses(
    server: Database,
    before: str,
    after: str,
    touched: Collection[str],
    always: Collection[str] = (),
    *,
    but: Collection[str] = (),
) -> tuple[Loss, ...]:
    """What of a database's rows and values is not in another database, which was a copy of it.

    Rows are told by their key, and where a table has none by their whole content. Values are compared as text, so
    that 1.0 is not 1.00. Sequences do not count, nor does what Django writes down about migrations.

    Args:
        server: Where both are.
        before: The database that was copied; only read.
        after: The copy. Temporary tables are made in it.
        touched: The tables to compare, as `schema.table`; others are compared where their file or their columns differ.
        always: Tables to compare in whatever schema they are.
        but: Tables that are not compared, as `schema.table`.

    Raises:
        DatabaseError: The server cannot be reached or refuses.
    """
    with (
        reading(server, "rehearsal: before", dbname=before) as old,
        reading(server, "rehearsal: after", dbname=after) as new,
    ):
        new.read_only = False  # for the temporary tables; rolled back at the end
        was, now = _shapes(old), _shapes(new)
        found: list[Loss] = []
        for name in sorted((was.keys() | now.keys()) - set(but)):
            one, other = was.get(name), now.get(name)
            if one and other:
                changed = one.file != other.file or one.columns != other.columns
                if changed or name in touched or one.table.name in always:
                    found += _compared(old, new, name, one, other)
            elif one:
                found += _counted(name, None, "gone", content_of(old, one.table).rows)
            elif other:
                found += _counted(name, None, "added", content_of(new, other.table).rows)
    return tuple(found)


def _compared(old: Connection, new: Connection, name: str, one: _Shape, other: _Shape) -> list[Loss]:
    common = sorted(one.columns.keys() & other.columns.keys())
    found = []
    for column in sorted(one.columns.keys() - other.columns.keys()):
        found += _counted(name, column, "gone", _filled(old, one.table, column))
    for column in sorted(other.columns.keys() - one.columns.keys()):
        found += _counted(name, column, "added", _filled(new, other.table, column))
    key = one.key if set(one.key) <= set(common) and set(one.key) <= other.required else ()
    if key:
        columns = [column for column in common if column not in key]
        differing = _differing(old, new, (one.table, other.table), key, columns)
        if differing is None:
            return found
        return found + _by_key(old, new, name, (one.table, other.table), key, differing)
    if not common or _fingerprint_pair(old, new, one.table, other.table, common):
        return found
    return found + _by_content(old, new, name, (one.table, other.table), common)


def _fingerprint_pair(old: Connection, new: Connection, one: Table, other: Table, common: list[str]) -> bool:
    """Whether two tables hold the same in their common columns: one scan of each, side by side."""
    # As text: the hash of a type's own takes 1.0 for 1.00, and of citext A for a.
    columns = tuple((column, False) for column in common)
    pairs = ((old, one._replace(columns=columns, is_child=True)), (new, other._replace(columns=columns, is_child=True)))
    contents = run_side_by_side(
        [lambda connection=connection, table=table: content_of(connection, table) for connection, table in pairs],  # type: ignore[misc]
        lambda: None,
    )
    return (contents[0].rows, contents[0].fingerprint) == (contents[1].rows, contents[1].fingerprint)


def _differing(
    old: Connection, new: Connection, tables: tuple[Table, Table], key: tuple[str, ...], columns: list[str]
) -> list[str] | None:
    """The columns that do not have in every row what they had, by one scan of each table; None: all is as it was.

    A hash of each value begins with that of its row's key, so that values that changed places count.
    """
    row = sql.SQL("0")
    for column in key:
        row = sql.SQL("hashtextextended({}, {})").format(_text(column), row)  # type: ignore[assignment]
    sums = [sql.SQL("sum({})").format(_KEY)]
    sums += [sql.SQL("sum(hashtextextended({}, {}))").format(_text(column), _KEY) for column in columns]

    def scan(connection: Connection, table: Table) -> tuple[Any, ...]:
        # OFFSET 0, so that the hash of the key is computed once per row.
        query = sql.SQL("select count(*), {} from (select *, {} as {} from only {} offset 0) as every_row").format(
            sql.SQL(", ").join(sums), row, _KEY, _named(table)
        )
        try:
            found: Any = connection.execute(query).fetchone()
        except psycopg.Error as error:
            raise explained(error, f"cannot compare {table}") from None
        return tuple(found)

    was, now = run_side_by_side(
        [lambda pair=pair: scan(*pair) for pair in zip((old, new), tables, strict=True)],  # type: ignore[misc]
        lambda: None,
    )
    if was == now:
        return None
    return [column for column, one, other in zip(columns, was[2:], now[2:], strict=True) if one != other]


def _by_key(
    old: Connection, new: Connection, name: str, tables: tuple[Table, Table], key: tuple[str, ...], columns: list[str]
) -> list[Loss]:
    """Rows gone and added, and per column the values gone (there is NULL now) and changed."""
    expressions = [sql.SQL("{} as k{}").format(_text(column), sql.SQL(str(n))) for n, column in enumerate(key)]
    expressions += [sql.SQL("{} as h{}").format(_hash(column), sql.SQL(str(n))) for n, column in enumerate(columns)]
    declared = [f'k{n} text collate "C"' for n in range(len(key))] + [f"h{n} bigint" for n in range(len(columns))]
    counts = ["count(*) filter (where n.k0 is null)", "count(*) filter (where o.k0 is null)"]
    for n in range(len(columns)):
        both = "where o.k0 is not null and n.k0 is not null and"
        counts.append(f"count(*) filter ({both} o.h{n} is not null and n.h{n} is null)")
        counts.append(f"count(*) filter ({both} n.h{n} is distinct from o.h{n} and n.h{n} is not null)")
    same = " and ".join(f"o.k{n} = n.k{n}" for n in range(len(key)))
    query = f"select {', '.join(counts)} from {{was}} o full join {{now}} n on {same}"  # noqa: S608 -- ours
    gone, added, *values = _ask(old, new, name, tables, expressions, declared, query)
    found = _counted(name, None, "gone", gone) + _counted(name, None, "added", added)
    for column, lost, changed in zip(columns, values[::2], values[1::2], strict=True):
        found += _counted(name, column, "gone", lost) + _counted(name, column, "changed", changed)
    return found


def _by_content(
    old: Connection, new: Connection, name: str, tables: tuple[Table, Table], columns: list[str]
) -> list[Loss]:
    """Rows gone and added, where no key tells which row is which: equal rows are counted on both sides."""
    row = sql.SQL(", ").join(map(_text, columns))
    expressions = [sql.SQL("hashtextextended(row({})::text, 0) as h").format(row)]
    less = "coalesce(sum(greatest(coalesce({0}.n, 0) - coalesce({1}.n, 0), 0)), 0)::bigint"
    query = (
        f"select {less.format('o', 'n')}, {less.format('n', 'o')}"  # noqa: S608 -- ours
        " from (select h, count(*) as n from {was} group by h) o"
        " full join (select h, count(*) as n from {now} every_row group by h) n on n.h = o.h"
    )
    gone, added = _ask(old, new, name, tables, expressions, ["h bigint"], query)
    return _counted(name, None, "gone", gone) + _counted(name, None, "added", added)


def _ask(
    old: Connection,
    new: Connection,
    name: str,
    tables: tuple[Table, Table],
    expressions: list[sql.Composed],
    declared: list[str],
    query: LiteralString,
) -> tuple[int, ...]:
    """Ask a question about what a table was and what it is: what it was is brought over and never kept here."""
    was = sql.Identifier("pg_temp", "rehearsal_was")
    selection = sql.SQL("select {} from only {}")
    before, now = (selection.format(sql.SQL(", ").join(expressions), _named(table)) for table in tables)
    try:
        new.execute(sql.SQL("create table {} ({})").format(was, sql.SQL(", ".join(declared))))
        out = sql.SQL("copy ({}) to stdout (format binary)").format(before)
        into = sql.SQL("copy {} from stdin (format binary)").format(was)
        with old.cursor() as source, new.cursor() as target, source.copy(out) as rows, target.copy(into) as there:
            for block in rows:
                there.write(block)
        new.execute(sql.SQL("analyze {}").format(was))
        row: Any = new.execute(sql.SQL(query).format(was=was, now=sql.SQL("({})").format(now))).fetchone()
        new.execute(sql.SQL("drop table {}").format(was))
    except psycopg.Error as error:
        raise explained(error, f"cannot compare {name}") from None
    return tuple(row)


def _text(column: str) -> sql.Composed:
    # The collation of bytes, since one of a language may take different texts for the same.
    return sql.SQL('({}::text collate "C")').format(sql.Identifier(column))


def _hash(column: str) -> sql.Composed:
    return sql.SQL("hashtextextended({}, 0)").format(_text(column))


def _named(table: Table) -> sql.Identifier:
    return sql.Identifier(table.schema_name, table.name)


def _filled(connection: Connection, table: Table, column: str) -> int:
    """How many rows have a value in a column."""
    statement = sql.SQL("select count({}) from only {}").format(sql.Identifier(column), _named(table))
    try:
        row: Any = connection.execute(statement).fetchone()
    except psycopg.Error as error:
        raise explained(error, f"cannot count {table}.{column}") from None
    return int(row[0])


def _counted(relation: str, column: str | None, kind: str, count: int) -> list[Loss]:
    return [Loss(relation=relation, column=column, kind=kind, count=count)] if count else []


def _shapes(connection: Connection) -> dict[str, _Shape]:
    """The tables of a database by name, without Django's record of migrations."""
    tables = {table.oid: table for table in tables_of(connection)}
    try:
        rows = connection.execute(_SHAPES).fetchall()
    except psycopg.Error as error:
        raise explained(error, "cannot look at the tables") from None
    return {
        name: _Shape(tables[oid], file, columns, frozenset(required), tuple(key or ()))
        for name, plain, oid, file, columns, required, key in rows
        if oid in tables and plain != LEFT_OUT
    }
