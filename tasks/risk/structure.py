"""What the catalogue says about a table: true of a throw-away database as well as of a real one."""

from __future__ import annotations

import re
from typing import LiteralString

from psycopg import sql

from tasks.risk.check import conjuncts
from tasks.risk.facts import Answer, Column
from tasks.risk.relation import FAMILY, Relation, find, schemas_of
from tasks.risk.session import Session, UnknownError

# A NOT NULL that PostgreSQL 18 has not validated marks the column as if it were.
PROVEN_NOT_NULL: LiteralString = (
    "(a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint n WHERE n.conrelid = a.attrelid AND n.contype = 'n'"
    " AND n.conkey = ARRAY[a.attnum] AND NOT n.convalidated))"
)
_OURS: LiteralString = (
    "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND NOT EXISTS (SELECT FROM pg_depend e"
    " WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')"
)


def exists(session: Session, table: str) -> Answer[bool]:
    """Whether there is such a relation."""
    relation = find(session, table)
    if relation is None:
        return Answer(False, f"there is no table {table}")
    return Answer(True, f"{table} is there, in schema {relation.schema}")


def attribute(session: Session, relation: Relation, column: str) -> tuple[int, str]:
    """Number of a column, and its own name, cut off where the server does.

    Raises:
        UnknownError: There is no such column.
    """
    found = session.ask(
        "SELECT attnum, attname::text FROM pg_attribute WHERE attrelid = {oid} AND attname = {name}::text::name"
        " AND attnum > 0 AND NOT attisdropped",
        oid=relation.oid,
        name=column,
    )
    if not found:
        raise UnknownError(f"{relation.label} has no column {column}")
    return int(found[0][0]), str(found[0][1])


def column(session: Session, relation: Relation, name: str) -> Answer[Column]:
    """A column's type, nullability, default and indexes."""
    number, _ = attribute(session, relation, name)
    type_, base, not_null, has_default, indexed = session.one(
        "WITH RECURSIVE below(oid, typmod, depth) AS (SELECT atttypid, atttypmod, 0 FROM pg_attribute"
        "  WHERE attrelid = {oid} AND attnum = {number} UNION ALL SELECT t.typbasetype, t.typtypmod, depth + 1"
        "  FROM below b JOIN pg_type t ON t.oid = b.oid WHERE t.typtype = 'd')"
        " SELECT format_type(a.atttypid, a.atttypmod),"
        "  (SELECT format_type(b.oid, b.typmod) FROM below b ORDER BY depth DESC LIMIT 1),"
        # A domain may forbid NULL, or bring a default, for its columns.
        "  a.attnotnull OR EXISTS (SELECT FROM below b JOIN pg_type t ON t.oid = b.oid WHERE t.typnotnull),"
        "  a.atthasdef OR a.attidentity <> ''"
        "   OR EXISTS (SELECT FROM below b JOIN pg_type t ON t.oid = b.oid WHERE t.typdefault IS NOT NULL"
        "    AND t.typtype = 'd'),"
        "  ARRAY(SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        "   WHERE i.indrelid = a.attrelid AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS (SELECT FROM pg_depend d"
        "    WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refclassid = 'pg_class'::regclass"
        "    AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum)) ORDER BY 1)"
        " FROM pg_attribute a WHERE a.attrelid = {oid} AND a.attnum = {number}",
        oid=relation.oid,
        number=number,
    )
    nullable = "NOT NULL" if not_null else "NULL allowed"
    below = "" if base == type_ else f", below it {base}"
    return Answer(
        Column(type_, base, not_null, has_default, tuple(indexed)),
        f"{relation.label}.{name} is {type_}{below}, {nullable}",
    )


def checked_not_null(session: Session, relation: Relation, name: str) -> Answer[bool]:
    """Whether the server knows already that no row has NULL in a column."""
    where = f"{relation.label}.{name}"
    number, _ = attribute(session, relation, name)
    proven, marked, quoted = session.one(
        "SELECT {proven}, a.attnotnull, quote_ident(a.attname) FROM pg_attribute a"
        " WHERE a.attrelid = {oid} AND a.attnum = {number}",
        proven=sql.SQL(PROVEN_NOT_NULL),
        oid=relation.oid,
        number=number,
    )
    if proven:
        return Answer(True, f"{where} is NOT NULL already")
    unvalidated = "its NOT NULL is NOT VALID" if marked else ""
    for called, validated, own_only in _not_null_checks(session, relation, quoted):
        if validated and not (own_only and relation.has_children):
            return Answer(True, f"the validated constraint {called} checks that {where} IS NOT NULL")
        unvalidated = f"{called} is NOT VALID" if not validated else f"{called} does not hold for inheriting tables"
    return Answer(False, f"no validated CHECK ({where} IS NOT NULL)" + (f": {unvalidated}" if unvalidated else ""))


def refuses_null(session: Session, relation: Relation, name: str) -> Answer[bool]:
    """Whether NULL cannot be written to a column now, whatever the rows say that are there."""
    where = f"{relation.label}.{name}"
    now = column(session, relation, name)
    if now.value and now.value.not_null:
        return Answer(True, now.evidence)
    (quoted,) = session.one("SELECT quote_ident({name}::text)", name=attribute(session, relation, name)[1])
    checks = [called for called, _, _ in _not_null_checks(session, relation, quoted)]
    if checks:
        return Answer(True, f"the constraint {checks[0]} lets nobody write NULL to {where}")
    return Answer(False, f"{where} takes NULL")


def _not_null_checks(session: Session, relation: Relation, quoted: str) -> list[tuple[str, bool, bool]]:
    """CHECKs that keep a column from being NULL: name, validated, not inherited; the validated ones first."""
    checks = session.ask(
        "SELECT conname::text, convalidated, connoinherit, pg_get_expr(conbin, conrelid) FROM pg_constraint"
        " WHERE conrelid = {oid} AND contype = 'c' ORDER BY NOT convalidated, conname",
        oid=relation.oid,
    )
    return [
        (called, validated, own_only)
        for called, validated, own_only, expression in checks
        if f"{quoted} IS NOT NULL" in conjuncts(expression)
    ]


def primary_key(session: Session, relation: Relation) -> tuple[str, ...]:
    """The columns of the primary key, in its order.

    Raises:
        UnknownError: There is none.
    """
    found = session.ask(
        "SELECT a.attname::text FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place)"
        " JOIN pg_attribute a ON a.attrelid = {oid} AND a.attnum = k.number"
        " WHERE i.indrelid = {oid} AND i.indisprimary ORDER BY k.place",
        oid=relation.oid,
    )
    if not found:
        raise UnknownError(f"{relation.label} has no primary key")
    return tuple(row[0] for row in found)


def index(session: Session, name: str) -> Answer[str]:
    """The definition of an index or constraint, of the application's own schema first."""
    schemas = list(schemas_of(session))
    found = session.ask(
        "SELECT array_position({schemas}::text[], n.nspname::text) AS place, n.nspname::text, 1 AS rank,"
        "  pg_get_indexdef(i.indexrelid), i.indisvalid, c.relname::text FROM pg_index i"
        "  JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        "  WHERE c.relname = {name}::text::name AND n.nspname !~ '^pg_'"
        " UNION ALL SELECT array_position({schemas}::text[], n.nspname::text), n.nspname::text, 2,"
        "  pg_get_constraintdef(k.oid), k.convalidated, k.conrelid::regclass::text FROM pg_constraint k"
        "  JOIN pg_namespace n ON n.oid = k.connamespace"
        "  WHERE k.conname = {name}::text::name AND k.conrelid <> 0 AND n.nspname !~ '^pg_'"
        " ORDER BY 1, 3, 6",
        schemas=schemas,
        name=name,
    )
    if not found:
        return Answer("", f"there is no index or constraint {name}")
    if found[0][0] is None:
        others = ", ".join(sorted({row[1] for row in found}))
        raise UnknownError(f"it is not in {', '.join(schemas)}, but in {others}, where it is not looked for")
    definitions = []
    for place, _, rank, definition, valid, of in found:
        if place != found[0][0]:
            break
        if rank == 1:
            definitions.append(definition if valid else f"{definition} INVALID")
        else:  # pg_get_constraintdef() says NOT VALID by itself
            definitions.append(f"{definition} on {of}, {'validated' if valid else 'not validated'}")
    return Answer("; ".join(definitions), f"{name}: {'; '.join(definitions)}")


def dependents(session: Session, relation: Relation, name: str | None) -> Answer[tuple[str, ...]]:
    """Views, functions, policies, triggers and generated columns that use a table or a column.

    The text of a function tells nothing to the catalogue: it is searched for the names.
    """
    number, called = attribute(session, relation, name) if name else (0, "")
    found = session.ask(
        "WITH RECURSIVE"
        # What refers to the table or the column, and what refers to the views among that.
        " users(classid, objid, depth) AS (SELECT d.classid, d.objid, 0 FROM pg_depend d"
        "  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = {oid}"
        "   AND ({number} = 0 OR d.refobjsubid = {number})"
        "  UNION SELECT d.classid, d.objid, 1 FROM users u JOIN pg_rewrite r ON r.oid = u.objid"
        "   AND u.classid = 'pg_rewrite'::regclass JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass"
        "   AND d.refobjid = r.ev_class WHERE r.ev_class <> {oid})"
        " SELECT DISTINCT CASE c.relkind WHEN 'm' THEN 'materialized view ' WHEN 'v' THEN 'view ' ELSE 'rule on ' END"
        "  || c.oid::regclass FROM users u JOIN pg_rewrite r ON u.classid = 'pg_rewrite'::regclass AND r.oid = u.objid"
        "  JOIN pg_class c ON c.oid = r.ev_class WHERE c.oid <> {oid} OR r.rulename <> '_RETURN'"
        " UNION SELECT 'function ' || u.objid::regprocedure FROM users u WHERE u.classid = 'pg_proc'::regclass"
        " UNION SELECT 'trigger ' || quote_ident(g.tgname) || ' on ' || g.tgrelid::regclass FROM users u"
        "  JOIN pg_trigger g ON u.classid = 'pg_trigger'::regclass AND g.oid = u.objid WHERE NOT g.tgisinternal"
        " UNION SELECT 'policy ' || quote_ident(y.polname) || ' on ' || y.polrelid::regclass FROM users u"
        "  JOIN pg_policy y ON u.classid = 'pg_policy'::regclass AND y.oid = u.objid"
        " UNION SELECT 'generated column ' || f.adrelid::regclass || '.' || quote_ident(a.attname) FROM users u"
        "  JOIN pg_attrdef f ON u.classid = 'pg_attrdef'::regclass AND f.oid = u.objid JOIN pg_attribute a"
        "  ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> '' AND {number} NOT IN (0, f.adnum)"
        # Functions whose body is text: the table is named in it, or the function is a trigger of the table.
        " UNION SELECT 'function ' || p.oid::regprocedure || ' (its text names it)' FROM pg_proc p"
        "  JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {ours}"
        "  AND p.prosrc ~* {column} AND (p.prosrc ~* {table} OR {number} <> 0 AND EXISTS (SELECT FROM pg_trigger g"
        "   WHERE g.tgrelid = {oid} AND g.tgfoid = p.oid AND NOT g.tgisinternal))"
        " ORDER BY 1",
        oid=relation.oid,
        number=number,
        ours=sql.SQL(_OURS),
        table=word_pattern(relation.name),
        column=word_pattern(called) if name else "",
    )
    what = f"{relation.label}.{name}" if name else relation.label
    users = tuple(row[0] for row in found)
    return Answer(users, f"what uses {what}: {', '.join(users) or 'no view, function, policy or trigger'}")


def word_pattern(name: str) -> str:
    """A PostgreSQL pattern that finds a name as a word of its own."""
    escaped = re.sub(r"(\W)", r"\\\1", name)
    return rf"(^|\W){escaped}(\W|$)"


def referenced_by(session: Session, relation: Relation) -> Answer[tuple[str, ...]]:
    """Foreign keys of other tables that point at a table."""
    found = session.ask(
        # Of a partitioned table the partitions have copies of the key.
        "SELECT CASE WHEN n.nspname = {schema} THEN '' ELSE n.nspname || '.' END || c.relname || '.'"
        "  || (SELECT string_agg(a.attname, ',' ORDER BY k.position) FROM unnest(f.conkey) WITH ORDINALITY"
        "   AS k(number, position) JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.number)"
        " FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE f.contype = 'f' AND f.confrelid = {oid} AND f.conrelid <> {oid} AND f.conparentid = 0 ORDER BY 1",
        oid=relation.oid,
        schema=relation.schema,
    )
    keys = tuple(row[0] for row in found)
    return Answer(keys, f"foreign keys that point at {relation.label}: {', '.join(keys) or 'none'}")


def partitions(session: Session, relation: Relation) -> Answer[tuple[str, ...]]:
    """Partitions and inheriting tables, at any depth."""
    found = session.ask(
        "{family} SELECT CASE WHEN n.nspname = {schema} THEN '' ELSE n.nspname || '.' END || c.relname FROM family f"
        " JOIN pg_class c ON c.oid = f.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid <> {oid}"
        " ORDER BY 1",
        family=sql.SQL(FAMILY).format(oid=sql.Literal(relation.oid)),
        oid=relation.oid,
        schema=relation.schema,
    )
    tables = tuple(row[0] for row in found)
    return Answer(
        tables, f"partitions of {relation.label} and tables that inherit from it: {', '.join(tables) or 'none'}"
    )
