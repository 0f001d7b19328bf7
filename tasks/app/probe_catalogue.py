# mypy: ignore-errors
# Part of probe.py: runs inside the application's interpreter, Python >= 3.6.
"""Read tables, columns and unique indexes from the catalogue, as the session finds them; compare names and types."""

import re

NAME_BYTES = 63  # PostgreSQL cuts longer names
TABLES = """
    SELECT t.name, c.oid::bigint, c.relkind::text,
           EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgtype & 7 = 7)
    FROM unnest(%s::text[]) AS t(name) JOIN pg_class c ON c.oid = to_regclass(t.name)
"""  # row-level triggers before INSERT, which may fill a column
COLUMNS = """
    SELECT a.attrelid::bigint, a.attnum, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.atthasdef OR a.attidentity <> '', t.typtype::text
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = ANY(%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
"""
UNIQUES = """
    SELECT i.indrelid::bigint, i.indkey::text, i.indnkeyatts, i.indisvalid
    FROM pg_index i WHERE i.indrelid = ANY(%s::oid[]) AND i.indisunique AND i.indpred IS NULL
"""
CHECKS = """
    SELECT conrelid::bigint, conkey[1] FROM pg_constraint
    WHERE conrelid = ANY(%s::oid[]) AND contype = 'c' AND convalidated AND cardinality(conkey) = 1
          AND pg_get_constraintdef(oid) ILIKE '%%IS NOT NULL%%'
"""
SAME_TYPE = {
    "serial": "integer",
    "bigserial": "bigint",
    "smallserial": "smallint",
    "int": "integer",
    "bool": "boolean",
    "varchar": "character varying",
    "char": "character",
    "decimal": "numeric",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "time": "time without time zone",
}
UNDERSTOOD = re.compile(
    r"(smallint|integer|bigint|boolean|double precision|real|text|uuid|date|jsonb?|bytea|inet|interval"
    r"|(time|timestamp) with(out)? time zone|numeric(\(\d+,\d+\))?|character( varying)?(\(\d+\))?)(\[\])?"
)


def cut(name):
    """A name as PostgreSQL keeps it."""
    return name.encode()[:NAME_BYTES].decode(errors="ignore")


def normalised(type_name):
    """A type as format_type says it; None if it is not one that is understood."""
    text = re.sub(r"\s*([(,)])\s*", r"\1", " ".join(type_name.lower().split()))
    text = re.sub(r"(\[\d*\])+$", "[]", text)  # the server keeps neither size nor dimensions
    word = re.match(r"[a-z]+", text)
    if word and not re.match(r"(time|timestamp) with", text):
        text = SAME_TYPE.get(word.group(), word.group()) + text[word.end() :]
    return text if UNDERSTOOD.fullmatch(text) else None


class Relation:
    """A table, view or foreign table of the database."""

    def __init__(self, kind, filled):
        self.kind, self.filled = kind, filled  # filled: a trigger may fill columns of new rows
        self.columns = {}  # name to (type, not null, has a default, kind of the type)
        self.numbers = {}  # attnum to name
        self.uniques = []  # (columns, valid)
        self.checked = set()  # columns that a CHECK keeps from being NULL


def catalogue(connection, quoted):
    """The relations by their quoted names, as the session finds them."""
    found, by_oid = {}, {}
    with connection.cursor() as cursor:
        cursor.execute(TABLES, [sorted(quoted)])
        for name, oid, kind, filled in cursor.fetchall():
            found[name] = by_oid[oid] = by_oid.get(oid) or Relation(kind, filled)
        oids = list(by_oid)
        cursor.execute(COLUMNS, [oids])
        for oid, number, name, *facts in cursor.fetchall():
            by_oid[oid].columns[name] = facts
            by_oid[oid].numbers[number] = name
        cursor.execute(UNIQUES, [oids])
        for oid, keys, count, valid in cursor.fetchall():
            names = [by_oid[oid].numbers.get(int(key)) for key in keys.split()[:count]]
            if None not in names:  # None: an expression
                by_oid[oid].uniques.append((frozenset(names), valid))
        cursor.execute(CHECKS, [oids])
        for oid, number in cursor.fetchall():
            by_oid[oid].checked.add(by_oid[oid].numbers.get(number))
    return found
