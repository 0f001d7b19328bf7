"""Names and texts in the code of a data migration: what was imported, and SQL that is put together from parts."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tasks.risk.python_source import Imported
from tasks.risk.values import Value
from tasks.risk.vocabulary import words

if TYPE_CHECKING:
    from tasks.risk.python_calls import Calls

OF_FIELD = ("column", "attname", "name")  # how a field says what its column is called
UNKNOWN_NAME = "_unknown_"  # stands for a part of a text that is not written in the code
# Modules whose functions talk to somebody else.
OUTSIDE = words(
    "requests httpx aiohttp urllib3 urllib.request http.client boto3 botocore smtplib socket ftplib paramiko redis pika"
    " kafka stripe slack_sdk sendgrid twilio elasticsearch opensearchpy grpc google.cloud subprocess"
)
MAIL = words("send_mail send_mass_mail mail_admins mail_managers EmailMessage EmailMultiAlternatives")
TASKS = words("delay apply_async")
# What hands its argument on, one element after the other.
SAME_ELEMENTS = words("list tuple set sorted iter reversed tqdm frozenset filter")
# Functions that get `apps`, models or rows and do no more than their name says.
HARMLESS = words(
    "create_permissions create_contenttypes print len str int repr bool hash id isinstance getattr"
    " setattr hasattr sum min"
    " max any all zip map dict format next type float abs round range Q F Value Case When Count"
    " Exists OuterRef Subquery"
    " db_for_read db_for_write allow_migrate allow_migrate_model allow_relation"
    " Coalesce Concat Cast Lower Upper Func Max Min Sum Avg vars Length Replace Trim Substr Now"
)
# What opens a connection besides that of the migration.
CONNECTING = words(
    "psycopg.connect psycopg.Connection.connect psycopg2.connect psycopg_pool asyncpg sqlalchemy.create_engine"
)

# Functions of the database whose value differs when they are applied to what they gave.
_GROWING = words(
    "Concat ConcatPair Repeat Reverse Substr MD5 SHA1 SHA224 SHA256 SHA384 SHA512 Power Sqrt Exp Ln Log Mod"
)


def text_of(calls: Calls, node: ast.expr | None) -> str | None:  # noqa: PLR0911 - one branch for each form
    """A text that is written in the code; parts that are not are put as the name `_unknown_`."""
    match node:
        case ast.Constant() if isinstance(node.value, str):
            return node.value
        case ast.Name():
            known = calls.reading.names.get(node.id)
            if known is not None:
                return known.text if known.kind == "literal" else None
            return text_of(calls, calls.reading.module.constants.get(node.id))
        case ast.JoinedStr():
            return "".join(text_of(calls, part) or UNKNOWN_NAME for part in node.values)
        case ast.FormattedValue():
            return text_of(calls, node.value)
        case ast.Attribute():
            return calls.value(node).text if node.attr in ("db_table", *OF_FIELD) else None
        case ast.BinOp() if isinstance(node.op, ast.Add):
            left, right = text_of(calls, node.left), text_of(calls, node.right)
            return None if left is None and right is None else (left or UNKNOWN_NAME) + (right or UNKNOWN_NAME)
        case ast.BinOp() if isinstance(node.op, ast.Mod):
            left = text_of(calls, node.left)
            return left.replace("%s", UNKNOWN_NAME) if left is not None else None
        case ast.Call() if isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "strip"):
            return text_of(calls, node.func.value)
    return None


def imported_value(what: Imported) -> Value:
    """What an imported name stands for."""
    dotted = f"{what.module}.{what.name}" if what.name else what.module
    parts = what.module.split(".")
    is_model = "models" in parts and what.name[:1].isupper() and not what.name.isupper()
    if is_model and not what.module.startswith(("django.db", "django.contrib.gis", "django.contrib.postgres")):
        return Value("model", f"{parts[parts.index('models') - 1]}.{what.name}", real=True, text=dotted)
    if not what.name or what.name.islower():
        return Value("module", text=dotted)
    return Value("other", text=dotted)


def reaching_out(dotted: str) -> str:
    """What a call by a dotted name does beyond the migration's own connection; "" for nothing."""
    if any(dotted == name or dotted.startswith(f"{name}.") for name in CONNECTING):
        return f"{dotted}() opens a connection of its own, whose work stays whatever becomes of the migration"
    outside = any(dotted == name or dotted.startswith(f"{name}.") for name in OUTSIDE)
    return f"{dotted}() reaches beyond the database" if outside else ""


def grows(field: str, node: ast.expr) -> bool:
    """Whether an expression makes a field another value each time: n = F("n") + 1, s = Concat("s", Value("."))."""
    return any(
        _reads(field, each)
        for each in ast.walk(node)
        if isinstance(each, ast.BinOp) or (isinstance(each, ast.Call) and _called(each) in _GROWING)
    )


def _reads(field: str, node: ast.AST) -> bool:
    """Whether a function in an expression is given a field, by F() or by its name."""
    return any(
        isinstance(argument, ast.Constant) and argument.value == field
        for each in ast.walk(node)
        if isinstance(each, ast.Call) and _called(each) != "Value"
        for argument in each.args
    )


def _called(node: ast.Call) -> str:
    return str(getattr(node.func, "id", getattr(node.func, "attr", "")))
