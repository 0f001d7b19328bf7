"""Conditions and loops that the source of a data migration decides: the vendor asked for, the turns of a range()."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tasks.risk.weight import SMALL_ROWS

if TYPE_CHECKING:
    from tasks.risk.python_calls import Calls


def is_short(call: ast.Call) -> bool:
    """Whether a range() is written in numbers, and goes over no more of them than a small table has rows."""
    try:
        limits = [ast.literal_eval(each) for each in call.args]
        return bool(abs(limits[1] - limits[0] if len(limits) > 1 else limits[0]) <= SMALL_ROWS)
    except (ValueError, TypeError, IndexError):
        return False


def truth(calls: Calls, node: ast.expr) -> bool | None:
    """Whether a condition that asks for the vendor of the connection holds on PostgreSQL; None: not known."""
    match node:
        case ast.UnaryOp() if isinstance(node.op, ast.Not):
            inner = truth(calls, node.operand)
            return None if inner is None else not inner
        case ast.BoolOp():
            parts = [truth(calls, each) for each in node.values]
            decisive = isinstance(node.op, ast.Or)  # one such part is enough
            if decisive in parts:
                return decisive
            return None if None in parts else not decisive
        case ast.Compare() if len(node.ops) == 1:
            return _compared(calls, node.left, node.ops[0], node.comparators[0])
        case ast.Call() if isinstance(node.func, ast.Attribute) and node.func.attr == "startswith" and node.args:
            vendor, start = calls.value(node.func.value), calls.value(node.args[0])
            if vendor.kind == "vendor" and vendor.text is not None and start.text is not None:
                return vendor.text.startswith(start.text)
    return None


def _compared(calls: Calls, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> bool | None:
    one, other = calls.value(left), calls.value(right)
    if "vendor" not in (one.kind, other.kind):
        return None
    if isinstance(operator, ast.In | ast.NotIn) and other.kind == "tuple":
        return (one.text in [each.text for each in other.items]) is isinstance(operator, ast.In)
    if isinstance(operator, ast.Eq | ast.NotEq) and one.text is not None and other.text is not None:
        return (one.text == other.text) is isinstance(operator, ast.Eq)
    return None
