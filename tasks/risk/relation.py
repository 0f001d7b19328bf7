"""Which relation of the database a table of Django's is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import LiteralString

from psycopg import sql

from tasks.risk.session import Session, UnknownError

_QUOTED = re.compile(r'"((?:[^"]|"")+)"(?:\."((?:[^"]|"")+)")?')
TABLE, PARTITIONED, VIEW, MATERIALIZED, FOREIGN = "r", "p", "v", "m", "f"
KINDS = (TABLE, PARTITIONED, VIEW, MATERIALIZED, FOREIGN)
# The relation itself, its partitions and the tables that inherit from it, at any depth.
FAMILY: LiteralString = (
    "WITH RECURSIVE family(oid) AS (SELECT {oid}::oid UNION"
    " SELECT i.inhrelid FROM family f JOIN pg_inherits i ON i.inhparent = f.oid) "
)


@dataclass(frozen=True)
class Relation:
    """A relation as the catalogue has it."""

    oid: int
    schema: str
    name: str
    kind: str  # pg_class.relkind
    has_children: bool
    label: str  # what sentences call it: as Django does, but `schema.table`

    @property
    def identifier(self) -> sql.Identifier:
        """It in a statement; children included, as in every statement of Django's."""
        return sql.Identifier(self.schema, self.name)


def parts_of(table: str) -> tuple[str | None, str]:
    """Schema and name that Django's quoting makes of a `db_table`.

    Django puts the name between double quotes unless it has them already, and quotes nothing within:
    `schema"."table` and `"schema"."table"` are ways to name a schema.
    """
    match = _QUOTED.fullmatch(table if table.startswith('"') and table.endswith('"') else f'"{table}"')
    if match is None:
        return None, table
    first, second = ((part or "").replace('""', '"') for part in match.groups())
    return (first, second) if second else (None, first)


def schemas_of(session: Session) -> tuple[str, ...]:
    """Where names without a schema are looked for, in order."""
    (path,) = session.one("SELECT current_schemas(false)::text[]")
    # The application's own comes first even if this role may not use it, and so would not be shown it.
    return tuple(dict.fromkeys([*([session.schema] if session.schema else []), *path]))


def find(session: Session, table: str) -> Relation | None:
    """The relation that the application means by a table name; None: there is none.

    Raises:
        UnknownError: Only a schema where it is not looked for has one, or the server does not say.
    """
    schema, name = parts_of(table)
    schemas = (schema,) if schema else schemas_of(session)
    found = session.ask(
        # To `name` and back: an overlong name is cut off as the server does it.
        "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,"
        " EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        ' WHERE c.relname = {name}::text::name AND c.relkind = ANY ({kinds}::text[]::"char"[])'
        " AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
        " ORDER BY array_position({schemas}::text[], n.nspname::text)",
        name=name,
        kinds=list(KINDS),
        schemas=list(schemas),
    )
    for oid, where, called, kind, has_children in found:
        if where in schemas:
            return Relation(oid, where, called, kind, has_children, table.strip('"').replace('"."', "."))
    if found and not schema:
        others = ", ".join(sorted(row[1] for row in found))
        raise UnknownError(
            f"there is no table {table} in {_listed(schemas)}, but in {others}, where it is not looked for"
        )
    return None


def required(session: Session, table: str) -> Relation:
    """The relation that must be there.

    Raises:
        UnknownError: It is not.
    """
    relation = find(session, table)
    if relation is None:
        schema, name = parts_of(table)
        raise UnknownError(f"there is no table {name} in {_listed((schema,) if schema else schemas_of(session))}")
    return relation


def _listed(schemas: tuple[str, ...]) -> str:
    return "schema " + ", ".join(schemas) if schemas else "any schema of the search path"
