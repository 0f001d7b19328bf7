"""Django code for a person to paste: the operation at hand as the migration has it, or with what is to be changed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from tasks.risk.python_source import read_module
from tasks.risk.rule import Case


def run_sql(forward: str, backward: str | None = None) -> str:
    """A RunSQL with its way back; None: there is nothing to undo."""
    back = "migrations.RunSQL.noop" if backward is None else _quoted(backward)
    return f"migrations.RunSQL({_quoted(forward)}, reverse_sql={back})"


def operation_code(case: Case, name: str | None = None) -> str:
    """The operation as the migration writes it, under another name if one is given; else the names that it has."""
    operation = case.operation
    called = name or f"migrations.{operation['kind']}"
    written = _written(case)
    if written is not None:
        return f"{called}({', '.join(_arguments(written))})"
    told = [str(operation["model"] or "").lower(), *_field_names(operation)]
    if len(told) == 2 and operation["fields"][0]["new"]:
        return f"{called}({', '.join(map(_quoted, told))}, {field_code(case)})"
    rest = ", ..." if operation["index"] or operation["constraint"] else ""
    return f"{called}({', '.join(_quoted(each) for each in told if each)}{rest})"


def field_operation(case: Case, *, without: tuple[str, ...] = (), **changed: str) -> str:
    """The operation on a field, whose field has other keywords: `AddField("thing", "n", IntegerField(null=True))`."""
    operation, field = case.operation, case.operation["fields"][0]
    names = ", ".join(_quoted(name) for name in (str(operation["model"] or "").lower(), field["name"]))
    return f"migrations.{operation['kind']}({names}, {field_code(case, without=without, **changed)})"


def field_code(case: Case, *, without: tuple[str, ...] = (), **changed: str) -> str:
    """The field of an operation, without some keywords and with others, given as Python; "..." for what is not told."""
    written = _written(case)
    arguments = (
        [] if written is None else [*written.args[2:3], *(k.value for k in written.keywords if k.arg == "field")]
    )
    if arguments and isinstance(arguments[0], ast.Call):
        call = arguments[0]
        kept = [keyword for keyword in call.keywords if keyword.arg not in (*without, *changed)]
        told = [*map(ast.unparse, call.args), *(_keyword(keyword) for keyword in kept)]
        return (
            f"{ast.unparse(call.func)}({', '.join([*told, *(f'{name}={value}' for name, value in changed.items())])})"
        )
    facts: dict[str, Any] = case.operation["fields"][0]["new"] or case.operation["fields"][0]["old"]
    told = ["...", *(f"{name}={value}" for name, value in changed.items())]
    return f"models.{str(facts['class']).rpartition('.')[2]}({', '.join(told)})"


def _written(case: Case) -> ast.Call | None:
    """The call that makes the operation, where the migration's file has it on the operation's line."""
    migration, operation = case.migration, case.operation
    if migration.file is None or migration.from_dependency or not operation.get("line"):
        return None
    module = read_module(case.source / migration.file)
    fitting = list(_calls(module.tree, operation)) if module else []
    return fitting[0] if fitting else None


def _calls(tree: ast.AST, operation: dict[str, Any]) -> Iterator[ast.Call]:
    wanted = {str(operation["model"] or "").lower()}
    wanted |= set(_field_names(operation))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.lineno <= operation["line"] <= (node.end_lineno or node.lineno):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = {str(each.value) for each in given if isinstance(each, ast.Constant)}
        if called == operation["kind"] and wanted <= texts | {text.lower() for text in texts}:
            inner = operation["index"] or operation["constraint"]
            if not inner or _quoted(inner["name"]) in ast.unparse(node).replace("'", '"'):
                yield node


def _field_names(operation: dict[str, Any]) -> list[str]:
    """The name of the one field that an operation is about; none for an operation on a whole model."""
    return [fields["name"] for fields in operation["fields"]] if str(operation["kind"]).endswith("Field") else []


def _arguments(call: ast.Call) -> list[str]:
    return [*map(ast.unparse, call.args), *map(_keyword, call.keywords)]


def _keyword(keyword: ast.keyword) -> str:
    return f"{keyword.arg}={ast.unparse(keyword.value)}" if keyword.arg else f"**{ast.unparse(keyword.value)}"


def _quoted(text: str) -> str:
    """A string of Python, in double quotes unless it has some itself."""
    return repr(text) if '"' in text else '"' + repr(text)[1:-1].replace("\\'", "'") + '"'
