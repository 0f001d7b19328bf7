"""What a statement of SQL does: the few things about it that decide whom it hurts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tasks.risk.sql_reader import Reader
from tasks.risk.sql_rows import row_actions
from tasks.risk.sql_text import Statement, Token, split
from tasks.risk.vocabulary import words

# Functions that may stand in a default without a rewrite: stable or immutable, so that one value serves all rows.
STEADY = words(
    "now transaction_timestamp statement_timestamp current_timestamp current_date localtimestamp to_tsvector lower"
    " upper md5 jsonb_build_object jsonb_build_array json_build_object to_jsonb coalesce"
    " array_to_string concat make_interval"
    " date_trunc timezone current_setting"
)
SERIAL = frozenset({"SERIAL", "BIGSERIAL", "SMALLSERIAL", "SERIAL4", "SERIAL8", "SERIAL2"})
# Statements that take no lock that anybody feels and take nothing away from the code that runs.
HARMLESS = words("COMMENT GRANT ANALYZE EXPLAIN SHOW NOTIFY LISTEN RESET SECURITY IMPORT")
# What CREATE and ALTER may make or change without touching a table that is used.
HARMLESS_OBJECTS = words(
    "EXTENSION SCHEMA SEQUENCE TYPE DOMAIN VIEW FUNCTION PROCEDURE AGGREGATE COLLATION CAST OPERATOR STATISTICS ROLE"
    " USER PUBLICATION SERVER TEXT ACCESS EVENT DEFAULT LANGUAGE CONVERSION FOREIGN"
)
_MODIFIERS = words("OR REPLACE TEMP TEMPORARY UNLOGGED LOCAL GLOBAL RECURSIVE MATERIALIZED UNIQUE CONSTRAINT")
_ENDS_A_TYPE = words(
    "NOT NULL DEFAULT CHECK UNIQUE PRIMARY REFERENCES GENERATED CONSTRAINT USING COLLATE STORAGE COMPRESSION"
)


_COLUMN = re.compile(r'\w+|"[^"]+"')


@dataclass(frozen=True)
class Action:
    """One thing that a statement does."""

    kind: str  # "create-index", "drop-column", ...; "unknown" for what is not understood
    table: str = ""  # as Django names it; "" for none
    name: str = ""  # of the column, index, constraint, setting or function
    text: str = ""  # a type, a default, a condition, a new name or a value, as written
    marks: frozenset[str] = frozenset()  # "concurrently", "not valid", "not null", ...
    columns: tuple[str, ...] = ()


def actions(statement: Statement) -> list[Action]:
    """What a statement does, in order; one of kind "unknown" where that is not known."""
    if statement.broken:
        return [Action("unknown", text="a string, a quoted name or a comment in it does not end")]
    reader = Reader(statement.tokens, statement.text)
    return list(_actions(reader, statement)) or [Action("unknown", text="it has a form that is not known here")]


@lru_cache(maxsize=4096)
def understood(text: str) -> tuple[tuple[Statement, tuple[Action, ...]], ...]:
    """The statements of a text, and what each does."""
    return tuple((statement, tuple(actions(statement))) for statement in split(text))


def _marks(**which: bool) -> frozenset[str]:
    return frozenset(name.replace("_", " ") for name, given in which.items() if given)


def _actions(reader: Reader, statement: Statement) -> Iterator[Action]:
    first = reader.next_word
    if first in ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "MERGE", "VALUES", "TABLE", "("):
        for rows in row_actions(statement):
            yield Action(rows.kind, rows.table, rows.name, rows.text, rows.marks, rows.columns)
        return
    reader.place += 1
    if first in ("CREATE", "DROP", "ALTER", "REINDEX", "REFRESH", "TRUNCATE", "CLUSTER", "VACUUM", "LOCK"):
        yield from {"CREATE": _create, "DROP": _drop, "ALTER": _alter}.get(first, _maintenance)(reader)
    elif first in ("BEGIN", "COMMIT", "ROLLBACK", "END", "ABORT", "START", "PREPARE"):
        yield Action("transaction", name=first)
    elif first == "SET":
        local = bool(reader.accept_any(frozenset({"LOCAL", "SESSION"})))
        name = "constraints" if reader.accept("CONSTRAINTS") else reader.name()
        reader.accept("=") or reader.accept("TO")
        yield Action("set", name=name, text=" ".join(token.text for token in reader.rest()), marks=_marks(local=local))
    elif first == "REVOKE":
        yield Action("unknown", text="it takes a permission away, and whether the running code needs it is not known")
    elif first == "DO":
        yield Action("unknown", text="what a DO block does is decided when it runs")
    elif first in ("CALL", "EXECUTE", "COPY"):
        yield Action("unknown", text=f"what {first} does is not in the statement")
    elif first in HARMLESS:
        yield Action("harmless")


def _create(reader: Reader) -> Iterator[Action]:  # noqa: C901 - one branch for each form
    marks = set()
    while word := reader.accept_any(_MODIFIERS):
        marks.add(word)
    if reader.accept("INDEX"):
        concurrently = reader.accept("CONCURRENTLY")
        name = "" if reader.next_word == "ON" else reader.name()
        table = reader.name() if reader.accept("ON") else ""
        if reader.accept("USING"):
            reader.name()
        columns = reader.written(reader.inside())
        how = _marks(concurrently=concurrently, unique="UNIQUE" in marks, partial=reader.has("WHERE"))
        yield Action("create-index", table, name, columns, how, _plain_columns(columns))
    elif reader.accept("TABLE") or reader.accept("FOREIGN", "TABLE"):
        name = reader.name()
        parent = reader.name() if reader.accept("PARTITION", "OF") else ""
        yield Action("create-table", name, text=parent)
    elif reader.accept("TRIGGER"):
        name = reader.name()
        before = reader.next_word == "BEFORE"
        while reader.rest() and not reader.accept("ON"):
            reader.place += 1
        table = reader.name()
        while reader.rest() and not (reader.accept("EXECUTE", "FUNCTION") or reader.accept("EXECUTE", "PROCEDURE")):
            reader.place += 1
        yield Action("create-trigger", table, name, reader.name(), _marks(before=before))
    elif reader.accept("FUNCTION"):
        name = reader.name()
        body = max((token.text for token in reader.rest() if token.kind == "string"), key=len, default="")
        yield Action("create-function", name=name, text=body, marks=_marks(replace="REPLACE" in marks))
    elif reader.accept("VIEW"):
        kind = "create-materialized-view" if "MATERIALIZED" in marks else "create-view"
        yield Action(kind, reader.name())
    elif reader.next_word in ("RULE", "POLICY"):
        yield Action("unknown", text=f"a {reader.next_word} changes what the running code reads and writes")
    elif reader.next_word in HARMLESS_OBJECTS:
        yield Action("harmless")


def _plain_columns(text: str) -> tuple[str, ...]:
    """The columns of an index; none where an expression, an operator class or an order is among them."""
    parts = [part.strip() for part in text.split(",")]
    plain = all(_COLUMN.fullmatch(part) for part in parts)
    return tuple(part.strip('"') if part.startswith('"') else part.lower() for part in parts) if plain else ()


def _drop(reader: Reader) -> Iterator[Action]:
    materialized = reader.accept("MATERIALIZED")
    kind = reader.next_word
    reader.place += 1
    concurrently = reader.accept("CONCURRENTLY")
    if kind == "OWNED":
        yield Action("drop-cascade", name="what a role owns", text=kind, marks=_marks(cascade=True))
        return
    names = reader.names()
    marks = _marks(cascade=reader.has("CASCADE"), concurrently=concurrently, materialized=materialized)
    for name in names:
        if kind in ("TABLE", "VIEW", "INDEX"):
            yield Action(f"drop-{kind.lower()}", "" if kind == "INDEX" else name, name, marks=marks)
        elif "cascade" in marks and kind in ("SCHEMA", "EXTENSION", "TYPE", "DOMAIN", "FUNCTION", "SEQUENCE"):
            yield Action("drop-cascade", name=name, text=kind, marks=marks)
        elif kind in ("FUNCTION", "PROCEDURE", "EXTENSION", "AGGREGATE"):
            yield Action("drop-function", name=name, text=kind)
        elif kind in ("TRIGGER", "POLICY", "RULE"):
            yield Action("drop-of-table", name=name, text=kind)
            if kind != "TRIGGER":
                yield Action("unknown", name=name, text=f"a {kind} changes what the running code reads and writes")
        elif kind in ("SCHEMA", "TYPE", "DOMAIN", "STATISTICS", "SEQUENCE"):
            yield Action("harmless")  # refused while something else needs it


def _maintenance(reader: Reader) -> Iterator[Action]:
    word = reader.tokens[0].upper
    options = " ".join(token.upper for token in reader.inside())
    if word == "TRUNCATE":
        reader.accept("TABLE")
        for table in reader.names():
            yield Action("truncate", table, marks=_marks(cascade=reader.has("CASCADE")))
    elif word == "LOCK":
        reader.accept("TABLE")
        for table in reader.names():
            mode = " ".join(token.upper for token in reader.rest()).removeprefix("IN ").partition(" MODE")[0]
            yield Action("lock", table, text=mode or "ACCESS EXCLUSIVE")
    elif word == "CLUSTER":
        yield Action("rewrite-table", reader.name(), text="CLUSTER")
    elif word == "VACUUM":
        full = reader.accept("FULL") or "FULL" in options.split()
        reader.accept_any(frozenset({"FREEZE", "VERBOSE", "ANALYZE"}))
        yield Action("rewrite-table" if full else "vacuum", reader.name(), text="VACUUM FULL", marks=_marks(alone=True))
    elif word == "REINDEX":
        what = reader.accept_any(frozenset({"INDEX", "TABLE", "SCHEMA", "DATABASE", "SYSTEM"}))
        concurrently = reader.accept("CONCURRENTLY") or "CONCURRENTLY" in options.split()
        name = reader.name()
        yield Action("reindex", name if what == "TABLE" else "", name, what, _marks(concurrently=concurrently))
    elif word == "REFRESH":
        reader.accept("MATERIALIZED", "VIEW")
        concurrently = reader.accept("CONCURRENTLY")
        yield Action("refresh", reader.name(), marks=_marks(refreshes_concurrently=concurrently))


def _alter(reader: Reader) -> Iterator[Action]:
    if reader.accept("TABLE"):
        table = reader.name()
        for part in reader.parts():
            yield from _alter_table(part, table) or [Action("unknown", table, text="ALTER TABLE in an unknown form")]
    elif reader.accept("TYPE") or reader.accept("DOMAIN"):
        name = reader.name()
        renames = reader.accept("RENAME") or reader.has("RENAME")
        adds_check = reader.has("ADD", "CONSTRAINT") or reader.has("SET", "NOT", "NULL")
        if renames and not reader.has("VALUE"):
            yield Action("harmless")  # tables refer to a type by its number
        elif renames or adds_check:
            yield Action("unknown", name=name, text=f"which columns have the type {name} is not known here")
        else:
            yield Action("harmless")  # ADD VALUE
    elif reader.accept("MATERIALIZED", "VIEW") or reader.accept("VIEW") or reader.accept("FOREIGN", "TABLE"):
        table = reader.name()
        moved = reader.accept("RENAME", "TO") or reader.accept("SET", "SCHEMA")
        yield Action("rename-table", table, text=reader.name()) if moved else Action("harmless")
    elif reader.next_word in (
        "INDEX",
        "SEQUENCE",
        "EXTENSION",
        "FUNCTION",
        "DEFAULT",
        "STATISTICS",
        "SCHEMA",
        "TRIGGER",
    ):
        object_kind = reader.next_word
        moves = object_kind in ("FUNCTION", "SCHEMA") and reader.has("RENAME")
        yield Action("unknown", text=f"a {object_kind} gets another name") if moves else Action("harmless")


def _alter_table(reader: Reader, table: str) -> list[Action]:  # noqa: C901, PLR0911, PLR0912 - one branch for each form
    if reader.accept("ADD"):
        if reader.next_word in ("CONSTRAINT", "CHECK", "FOREIGN", "UNIQUE", "PRIMARY", "EXCLUDE"):
            return _add_constraint(reader, table)
        reader.accept("COLUMN")
        return _add_column(reader, table)
    if reader.accept("DROP"):
        if reader.accept("CONSTRAINT"):
            return [Action("harmless")]
        reader.accept("COLUMN")
        return [Action("drop-column", table, reader.name(), marks=_marks(cascade=reader.has("CASCADE")))]
    if reader.accept("ALTER"):
        reader.accept("CONSTRAINT") or reader.accept("COLUMN")
        return _alter_column(reader, table, reader.name())
    if reader.accept("RENAME"):
        if reader.accept("TO"):
            return [Action("rename-table", table, text=reader.name())]
        if reader.accept("CONSTRAINT"):
            return [Action("harmless")]
        reader.accept("COLUMN")
        name = reader.name()
        reader.accept("TO")
        return [Action("rename-column", table, name, reader.name())]
    if reader.accept("SET", "SCHEMA"):
        schema = reader.name()
        return [Action("rename-table", table, text=f"{schema}.{table}")]
    if reader.accept("VALIDATE", "CONSTRAINT"):
        return [Action("validate", table, reader.name())]
    if reader.accept("DISABLE", "TRIGGER"):
        return [Action("disable-trigger", table, reader.name())]
    if reader.accept("ATTACH", "PARTITION"):
        return [Action("attach-partition", table, reader.name())]
    for form in (("SET", "TABLESPACE"), ("SET", "LOGGED"), ("SET", "UNLOGGED"), ("SET", "ACCESS", "METHOD")):
        if reader.accept(*form):
            return [Action("rewrite-table", table, text=" ".join(form))]
    if any(reader.accept(*form) for form in (("DISABLE", "ROW"), ("NO", "FORCE", "ROW"), ("ENABLE", "TRIGGER"))):
        return [Action("harmless")]
    if reader.accept_any(frozenset({"OWNER", "REPLICA", "CLUSTER", "RESET"})) or reader.accept("SET", "("):
        return [Action("harmless")]
    return []


def _add_constraint(reader: Reader, table: str) -> list[Action]:
    name = reader.name() if reader.accept("CONSTRAINT") else ""
    not_valid = reader.has("NOT", "VALID")
    if reader.accept("CHECK"):
        return [Action("add-check", table, name, reader.written(reader.inside()), _marks(not_valid=not_valid))]
    if reader.accept("FOREIGN", "KEY"):
        columns = tuple(token.name for token in reader.inside() if token.kind != "sign")
        target = reader.name() if reader.accept("REFERENCES") else ""
        to = ",".join(token.name for token in reader.inside() if token.kind != "sign")
        return [Action("add-foreign-key", table, name, f"{target} {to}", _marks(not_valid=not_valid), columns)]
    if reader.accept("UNIQUE") or reader.accept("PRIMARY", "KEY"):
        marks = _marks(using_index=reader.accept("USING", "INDEX"))
        columns = tuple(token.name for token in reader.inside() if token.kind != "sign")
        return [Action("add-unique", table, name, marks=marks, columns=columns)]
    return [Action("add-exclusion", table, name)] if reader.accept("EXCLUDE") else []


def _add_column(reader: Reader, table: str) -> list[Action]:
    name = reader.name()
    kind = _type(reader)
    primary, unique = reader.has("PRIMARY", "KEY"), reader.has("UNIQUE")
    default = _default(reader)
    marks = _marks(
        not_null=reader.has("NOT", "NULL") or primary,
        default=bool(default) and [token.upper for token in default] != ["NULL"],
        unique=unique or primary,
        volatile=kind.upper() in SERIAL or reader.has("IDENTITY") or _is_volatile(default),
        generated=reader.has("STORED"),
        check=reader.has("CHECK"),
        references=reader.has("REFERENCES"),
    )
    return [Action("add-column", table, name, kind, marks, (name,))]


def _alter_column(reader: Reader, table: str, column: str) -> list[Action]:
    action = Action("harmless", table, column, columns=(column,))
    if reader.accept("SET", "NOT", "NULL"):
        return [replace(action, kind="set-not-null")]
    if reader.accept("TYPE") or reader.accept("SET", "DATA", "TYPE"):
        return [replace(action, kind="alter-type", text=_type(reader), marks=_marks(using=reader.has("USING")))]
    for form in ("DROP DEFAULT", "DROP NOT NULL", "SET DEFAULT"):
        if reader.accept(*form.split()):
            return [replace(action, kind=form.lower().replace(" ", "-"))]
    return [action]


def _type(reader: Reader) -> str:
    start = reader.place
    while reader.rest() and reader.next_word not in _ENDS_A_TYPE:
        if not reader.inside():
            reader.place += 1
    return reader.written(reader.tokens[start : reader.place])


def _default(reader: Reader) -> Sequence[Token]:
    """The tokens of a column's DEFAULT."""
    words = [token.upper for token in reader.rest()]
    if "DEFAULT" not in words:
        return ()
    rest = reader.rest()[words.index("DEFAULT") + 1 :]
    end = 0
    while end < len(rest) and (end == 0 or rest[end].upper not in _ENDS_A_TYPE - {"NULL"}):
        end += 1
    return rest[:end]


def _is_volatile(default: Sequence[Token]) -> bool:
    """Whether a default may give another value for each row: a function that is not known to be steady."""
    pairs = zip(default, [*default[1:], None], strict=False)
    return any(
        token.kind in ("word", "quoted")
        and following is not None
        and following.upper == "("
        and token.name not in STEADY
        for token, following in pairs
        if token.upper not in ("ARRAY", "VARCHAR", "NUMERIC", "CHAR", "VARYING", "TIMESTAMP", "DECIMAL")
    )
