"""What a migration's rendered SQL shows of Django's ways, which its operations alone do not tell.

Renaming a model renames the tables behind its many-to-many fields; altering a foreign key drops and makes its
constraint anew; an altered key takes the columns that refer to it along. All of that is told by the statements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.release.plan import Migration

_NAME = r'((?:"[^"]+"\.)?"[^"]+")'
_RENAME = re.compile(rf'^ALTER TABLE {_NAME} RENAME (?:COLUMN "([^"]+)" )?TO "([^"]+)"')
_TYPE = re.compile(r'ALTER COLUMN "([^"]+)" TYPE (.+?)(?= USING | COLLATE |, ALTER COLUMN |, (?:ADD|DROP) |;|$)')
_TABLE = re.compile(rf"^ALTER TABLE {_NAME} ")


@dataclass(frozen=True)
class Rename:
    """A table or column that gets another name."""

    table: str
    column: str | None  # None: the table itself
    new: str


@dataclass(frozen=True)
class TypeChange:
    """A column that gets another type."""

    table: str
    column: str
    type: str


def statements(migration: Migration) -> tuple[str, ...]:
    """The statements that apply a migration, as far as they could be rendered."""
    return migration.sql.forward.statements or ()


def quoted(name: str) -> str:
    """A name as Django writes it in SQL; `schema"."table` is the way people reach another schema."""
    return name if name.startswith('"') and name.endswith('"') else f'"{name}"'


def _plain(name: str) -> str:
    return name[1:-1]


def renames(migration: Migration) -> list[Rename]:
    """Every table and column that a migration renames."""
    found = (_RENAME.match(statement) for statement in statements(migration))
    return [Rename(_plain(match[1]), match[2], match[3]) for match in found if match]


def type_changes(migration: Migration) -> list[TypeChange]:
    """Every column whose type a migration alters."""
    return [
        TypeChange(_plain(table[1]), match[1], match[2].strip())
        for statement in statements(migration)
        if (table := _TABLE.match(statement))
        for match in _TYPE.finditer(statement)
    ]


def of_column(migration: Migration, table: str, column: str) -> list[str]:
    """The statements that name a table and one of its columns."""
    return [
        statement
        for statement in statements(migration)
        if quoted(table) in statement and quoted(column) in statement.replace(quoted(table), "", 1)
    ]


def creates_table(migration: Migration, table: str) -> bool:
    """Whether a migration makes a table; taken for granted where it could not be rendered."""
    return _begins(migration, "CREATE TABLE", table)


def drops_table(migration: Migration, table: str) -> bool:
    """Whether a migration drops a table; taken for granted where it could not be rendered."""
    return _begins(migration, "DROP TABLE", table)


def _begins(migration: Migration, words: str, table: str) -> bool:
    if migration.sql.forward.statements is None:
        return True
    return any(statement.startswith(f"{words} {quoted(table)}") for statement in statements(migration))


def adds_foreign_key(migration: Migration, table: str, column: str) -> bool | None:
    """Whether a foreign key of a column that exists is made (anew); None: the SQL is not known."""
    if migration.sql.forward.statements is None:
        return None
    start, key = f"ALTER TABLE {quoted(table)} ADD CONSTRAINT ", f"FOREIGN KEY ({quoted(column)}) "
    return any(statement.startswith(start) and key in statement for statement in statements(migration))


def default_of(migration: Migration, table: str, column: str) -> str | None:
    """The value, as SQL, that a new column gets in every row; None where no statement tells."""
    start = f"ALTER TABLE {quoted(table)} ADD COLUMN {quoted(column)} "
    for statement in statements(migration):
        told = re.search(r" DEFAULT (.+?)(?= NOT NULL| NULL| CONSTRAINT | UNIQUE| PRIMARY KEY|;|$)", statement)
        if statement.startswith(start) and told:
            return told[1]
    return None


def makes_index(migration: Migration, table: str, column: str) -> bool:
    """Whether a plain index that begins with a column is made."""
    return any(
        re.match(rf'CREATE INDEX "[^"]+" ON {re.escape(quoted(table))} (USING \w+ )?\({re.escape(quoted(column))}', one)
        for one in statements(migration)
    )


def indexes(migration: Migration, table: str, column: str | None = None, name: str | None = None) -> list[str]:
    """The CREATE INDEX statements of a migration on a table: those of a name, or those that begin with a column."""
    on = rf"(?: ON {re.escape(quoted(table))} (?:USING \w+ )?\({re.escape(quoted(column))})" if column else ""
    called = re.escape(quoted(name)) if name else r'"[^"]+"'
    return [
        statement.rstrip(";")
        for statement in statements(migration)
        if f" ON {quoted(table)} " in statement and re.match(rf"CREATE (?:UNIQUE )?INDEX {called}{on}", statement)
    ]


def concurrently(statement: str) -> str:
    """A CREATE INDEX that lets everybody write meanwhile."""
    return re.sub(r"^CREATE (UNIQUE )?INDEX (CONCURRENTLY )?", r"CREATE \1INDEX CONCURRENTLY ", statement.rstrip(";"))


def dropping(statement: str) -> str:
    """The statement that takes back a CREATE INDEX whose name is quoted."""
    match = re.match(r'CREATE (?:UNIQUE )?INDEX (?:CONCURRENTLY )?"([^"]+)"', statement)
    return f'DROP INDEX CONCURRENTLY "{match[1]}"' if match else ""


def selecting(table: str, condition: str) -> str:
    """A query that a person may run to see the rows in question; `a` is the table."""
    return " ".join(("SELECT * FROM", quoted(table), "a WHERE", condition)) + ";"


def repeating(table: str, keys: str, condition: str = "") -> str:
    """A query that a person may run to see values that several rows have; the columns are quoted already."""
    where = ("WHERE", condition) if condition else ()
    words = ("SELECT", f"{keys}, count(*)", "FROM", quoted(table), *where, "GROUP BY", keys, "HAVING count(*) > 1;")
    return " ".join(words)


def filling(table: str, column: str) -> str:
    """A statement that a person may run again and again until no row has NULL."""
    some = " ".join(("SELECT ctid FROM", quoted(table), "WHERE", quoted(column), "IS NULL LIMIT 5000"))
    return " ".join(("UPDATE", quoted(table), "SET", quoted(column), f"= ... WHERE ctid = ANY (ARRAY({some}));"))


def check_of(sql: str | None) -> str | None:
    """The expression of a constraint's SQL, `CONSTRAINT "x" CHECK (expression)`."""
    match = re.search(r"\bCHECK \((.*)\)", sql or "", re.DOTALL)
    return match[1] if match else None


def not_null_columns(check: str | None) -> set[str]:
    """Columns that a CHECK keeps from being NULL: those that are `IS NOT NULL` in it, none of it being an alternative.

    PostgreSQL then knows that SET NOT NULL holds, and does not look at the rows.
    """
    if check is None or re.search(r"\b(OR|NOT \(|CASE)\b", check):
        return set()
    return set(re.findall(r'(?<![\w."])"?([^"\s().]+)"? IS NOT NULL', check))
