"""The data migration to write instead: in batches by primary key, each committed by itself, and throttled."""

from __future__ import annotations

import ast
import re

from tasks.risk.data_migrations import Write
from tasks.risk.rendered import quoted
from tasks.risk.rule import Case
from tasks.risk.spots import Spot
from tasks.risk.sql_text import Statement
from tasks.risk.values import MANAGERS

BATCH_ROWS = 1000  # some ten milliseconds of row locks
PAUSE_S = 0.1  # lets the others, and a replica, catch up
_NEW_VALUE = "  # instead of the old value: the new one"
_CONDITION = "  # instead: the condition; as it stands nothing is deleted"
_KNOWN_NAMES = frozenset({"F", "Q", "models"})


def batched_write(case: Case, write: Write) -> tuple[str, ...]:
    """Steps towards a batched migration instead of a write in Python; it can be run as it is given.

    Where the write cannot be repeated there (it uses the function's own variables, or holds a value that is nobody's
    business), the given one changes nothing, and says where the change belongs.
    """
    app, _, model = write.model.rpartition(".")
    if not app:
        return (*_ALWAYS, f"change {BATCH_ROWS:,} rows at a time, by ranges of the primary key")
    conditions, values = _conditions(write), _values(write)
    if write.verb == "delete":
        conditions, comment = (conditions, "") if conditions is not None else (".none()", _CONDITION)
        change = [f"        rows.filter(pk__in=keys).delete(){comment}"]
    elif conditions is not None and values is not None:
        change = [f"        rows.filter(pk__in=keys).update({values})"]
    elif write.fields:
        conditions, kept = "", ", ".join(f'{name}=F("{name}")' for name in dict.fromkeys(write.fields))
        change = [f"        rows.filter(pk__in=keys).update({kept}){_NEW_VALUE}"]
    else:
        conditions = ""
        change = ["        for row in rows.filter(pk__in=keys):", f"            row.save(){_NEW_VALUE}"]
    body = [
        f'    {model} = apps.get_model("{app}", "{model}")',
        f'    rows = {model}.objects.using(schema_editor.connection.alias){conditions}.order_by("pk")',
        f'    keys = list(rows.values_list("pk", flat=True)[:{BATCH_ROWS}])',
        "    while keys:",
        *change,
        f"        time.sleep({PAUSE_S})",
        f'        keys = list(rows.filter(pk__gt=keys[-1]).values_list("pk", flat=True)[:{BATCH_ROWS}])',
    ]
    return (*_ALWAYS, f"Django:\n{_module(case, body)}")


def batched_statement(case: Case, spot: Spot) -> tuple[str, ...]:
    """The same instead of an UPDATE or DELETE in SQL."""
    table = spot.action.table
    if not table:
        return (*_ALWAYS, f"change {BATCH_ROWS:,} rows at a time, by ranges of the primary key")
    name, key = quoted(table), quoted(_key(case, table))
    change, comment = _with_range(spot.statement, key), ""
    if change is None and spot.action.kind == "delete":
        change, comment = f"DELETE FROM {name} WHERE {key} BETWEEN %s AND %s AND false", _CONDITION  # noqa: S608 - shown to people, never executed
    elif change is None:
        columns = [quoted(column) for column in dict.fromkeys(spot.action.columns) if column] or [key]
        kept = ", ".join(f"{column} = {column}" for column in columns)
        change, comment = f"UPDATE {name} SET {kept} WHERE {key} BETWEEN %s AND %s", _NEW_VALUE  # noqa: S608 - the same
    select = f"SELECT {key} FROM {name}"  # noqa: S608 - the same
    body = [
        "    with schema_editor.connection.cursor() as cursor:",
        f"        cursor.execute({f'{select} ORDER BY {key} LIMIT {BATCH_ROWS}'!r})",
        "        keys = [key for (key,) in cursor.fetchall()]",
        "        while keys:",
        f"            cursor.execute({change!r}, [keys[0], keys[-1]]){comment}",
        f"            time.sleep({PAUSE_S})",
        f"            cursor.execute({f'{select} WHERE {key} > %s ORDER BY {key} LIMIT {BATCH_ROWS}'!r}, [keys[-1]])",
        "            keys = [key for (key,) in cursor.fetchall()]",
    ]
    return (*_ALWAYS, f"Django:\n{_module(case, body)}")


_ALWAYS = ("put it into a migration of its own, without schema operations and with `atomic = False`",)


def _module(case: Case, body: list[str]) -> str:
    text = "\n".join(body)
    before = ", ".join(f'("{each["app"]}", "{each["name"]}")' for each in case.migration.dependencies)
    imports = ["import time", "", "from django.db import migrations" + (", models" if "models." in text else "")]
    names = [name for name in ("F", "Q") if re.search(rf"(?<![\w.]){name}\(", text)]
    imports += [f"from django.db.models import {', '.join(names)}"] if names else []
    return "\n".join(
        [
            *imports,
            "",
            "",
            "def forward(apps, schema_editor):",
            text,
            "",
            "",
            "class Migration(migrations.Migration):",
            "    atomic = False  # each batch is committed by itself",
            f"    dependencies = [{before}]",
            "    operations = [migrations.RunPython(forward, migrations.RunPython.noop)]",
        ]
    )


def _conditions(write: Write) -> str | None:
    """The filters between a model's manager and the write, as they are written; None where they cannot be shown."""
    node: ast.expr | None = write.call.func if write.call else None
    steps: list[str] = []
    while isinstance(node, ast.Attribute) and node.attr not in MANAGERS:
        node = node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("filter", "exclude"):
                if not _can_be_shown(node):
                    return None
                steps.insert(0, f".{node.func.attr}({_arguments(node)})")
            elif node.func.attr not in ("all", "using", "order_by"):
                return None
            node = node.func
    return "".join(steps) if isinstance(node, ast.Attribute) else None


def _values(write: Write) -> str | None:
    """What an update() sets, as it is written; None where that cannot be shown, or is none."""
    call = write.call
    return _arguments(call) if write.verb == "update" and call and call.keywords and _can_be_shown(call) else None


def _arguments(call: ast.Call) -> str:
    return ", ".join(ast.unparse(each) for each in (*call.args, *call.keywords))


def _can_be_shown(call: ast.Call) -> bool:
    """Whether the arguments hold no text (it may be somebody's), and no name but Django's."""
    for each in (*call.args, *call.keywords):
        fields = {id(node.args[0]) for node in ast.walk(each) if isinstance(node, ast.Call) and _is_field(node)}
        for node in ast.walk(each):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and node.value:
                if id(node) not in fields:
                    return False
            elif getattr(node, "id", "F") not in _KNOWN_NAMES or getattr(node, "arg", "") is None:
                return False
    return True


def _is_field(call: ast.Call) -> bool:
    return bool(call.args) and getattr(call.func, "attr", getattr(call.func, "id", "")) == "F"


def _with_range(statement: Statement, key: str) -> str | None:
    """A statement over one table for a range of keys; None where it holds a text or uses other tables too."""
    words = [token.upper for token in statement.tokens]
    if words[0] not in ("UPDATE", "DELETE") or any(token.kind == "string" for token in statement.tokens):
        return None
    if {"%", "RETURNING", "SELECT", "USING"}.intersection(words) or (words[0] == "UPDATE" and "FROM" in words):
        return None
    between = f"{key} BETWEEN %s AND %s"
    if "WHERE" not in words:
        return f"{statement.text} WHERE {between}"
    where = statement.tokens[words.index("WHERE")]
    return f"{statement.text[: where.end]} ({statement.text[where.end :].strip()}) AND {between}"


def _key(case: Case, table: str) -> str:
    """The column of a table's primary key; Django's own where it is not known."""
    found = re.search(
        r"PRIMARY KEY \((\w+)\)", case.facts.index(f"{case.history.table_now(table) or table}_pkey").value or ""
    )
    return found[1] if found else "id"
