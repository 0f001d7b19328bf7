"""Which strings and keywords of a call's arguments are paths to fields, such as `-customer__orders__total`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.risk.models_named import last_name, text_of

# Methods of queries and managers whose keywords are paths to fields, and those whose strings are.
KEYWORDS = {"filter", "exclude", "get", "get_or_create", "create", "update", "update_or_create", "aget", "acreate"}
KEYWORDS |= {"aget_or_create", "aupdate_or_create", "aupdate", "complex_filter"}
STRINGS = {"values", "values_list", "order_by", "only", "defer", "select_related", "prefetch_related", "distinct"}
STRINGS |= {"earliest", "latest", "dates", "datetimes", "bulk_update", "abulk_update", "annotate", "alias", "aggregate"}
METHODS = KEYWORDS | STRINGS
NO_PATH = {"OuterRef", "Value", "RawSQL"}  # calls whose strings are something else
NO_FIELD = {"name", "violation_error_message", "opclasses", "db_tablespace", "template", "function"}
CONDITIONS = {"Q", "When"}  # calls whose keywords are paths


@dataclass(frozen=True)
class FieldPath:
    """A path, and the string that it stands in where it is no keyword."""

    text: str
    line: int
    string: ast.expr | None = None


def in_expression(node: ast.expr) -> Iterator[FieldPath]:
    """The paths within F(), Q(), Sum() and the like of an argument whose own strings are values."""
    if isinstance(node, ast.Call):
        name = last_name(node.func) or " "
        if name[0].isupper() and name not in NO_PATH:
            yield from in_names(node)
    elif isinstance(node, ast.BinOp | ast.UnaryOp | ast.List | ast.Tuple | ast.Starred):
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.expr):
                yield from in_expression(inner)


def in_names(node: ast.expr, *, whole: bool = False) -> Iterator[FieldPath]:
    """The paths that the strings of an expression are.

    Args:
        node: A string, a list of them, a dictionary whose keys are, F(), Q(), Sum().
        whole: The values of dictionaries too, as in an admin class's `fieldsets`.
    """
    text = text_of(node)
    if text is not None:
        yield FieldPath(text, node.lineno, node)
    elif isinstance(node, ast.Dict):
        for part in [*node.keys, *(node.values if whole else [])]:
            if part is not None:
                yield from in_names(part, whole=whole)
    elif isinstance(node, ast.Call):
        yield from _in_call(node, whole)
    elif not isinstance(node, ast.Lambda | ast.Compare | ast.Subscript | ast.Attribute):
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.expr):
                yield from in_names(inner, whole=whole)


def _in_call(node: ast.Call, whole: bool) -> Iterator[FieldPath]:
    name = last_name(node.func) or " "
    if name in NO_PATH or (isinstance(node.func, ast.Attribute) and name in METHODS):
        return  # a query of its own is looked at by itself
    for argument in node.args:
        yield from in_names(argument, whole=whole)
    for keyword in node.keywords:
        if name in CONDITIONS and keyword.arg:
            yield FieldPath(keyword.arg, keyword.value.lineno)
        if keyword.arg in ("fields", "include"):
            yield from in_names(keyword.value)
        elif keyword.arg not in NO_FIELD:
            yield from in_expression(keyword.value)
