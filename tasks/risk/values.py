"""What an expression of a data migration stands for: a model, a queryset, a row, a list of them, a constant."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from typing import Literal

from tasks.risk.vocabulary import words

Kind = Literal[
    "other",
    "apps",
    "editor",
    "vendor",  # of the connection: always PostgreSQL's
    "field",  # of a model, `text` being its name
    "cursor",
    "module",
    "model",
    "query",
    "keys",
    "row",
    "rows",
    "batches",
    "literal",
    "tuple",
]

# Methods of a queryset that give a queryset over as many rows.
SAME = words(
    "all order_by select_related prefetch_related only defer using distinct annotate alias iterator reverse exclude"
    " select_for_update values extra get_queryset aiterator"
)
SINGLE = words("get first last latest earliest")
MANAGERS = words("objects _default_manager _base_manager")
MOST_TURNS = 50  # a loop over more constants is walked through once
_KEYS = words("pk id uuid slug codename username email key code")


@dataclass(frozen=True)
class Value:
    """What is known of a value."""

    kind: Kind = "other"
    model: str = ""  # app_label.Model; "" where it cannot be told
    limited: bool = False  # a number of rows that does not grow with the table
    new: bool = False  # rows that are not in the database yet
    real: bool = False  # the application's own class instead of the one of the migration
    nulls: tuple[str, ...] = ()  # fields that were asked to be NULL
    asked: frozenset[str] = frozenset()  # fields by which the rows were chosen
    text: str | None = None  # of a constant; the dotted name of a module
    items: tuple[Value, ...] = ()  # of a tuple


OTHER = Value()


def filtered(query: Value, call: ast.Call, value_of: dict[str, Value]) -> Value:
    """A queryset after `.filter(...)`; the values of its keywords are given."""
    limited, nulls, sides = query.limited, list(query.nulls), set()
    for keyword in call.keywords:
        name, _, lookup = (keyword.arg or "").partition("__")
        constant = keyword.value.value if isinstance(keyword.value, ast.Constant) else ...
        if (lookup == "isnull" and constant is True) or (lookup == "" and constant is None):
            nulls.append(name)
        elif name in _KEYS and lookup in ("", "exact", "iexact"):
            limited = True
        elif name in _KEYS and lookup == "in":
            limited = limited or _names_keys(value_of[keyword.arg or ""])
            nulls += value_of[keyword.arg or ""].nulls  # of rows that were chosen so
        elif name in _KEYS and lookup == "range":
            limited = True
        elif name in _KEYS and lookup in ("gt", "gte", "lt", "lte"):
            sides.add(lookup[0])
    return replace(
        query,
        limited=limited or sides == {"g", "l"},
        nulls=tuple(nulls),
        asked=query.asked | asked(call, value_of),
    )


def asked(call: ast.Call, value_of: dict[str, Value]) -> frozenset[str]:
    """The fields that a filter asks, and those by which the rows whose keys it is given were chosen."""
    names = {keyword.arg for keyword in call.keywords if keyword.arg}
    of_chosen = (value_of[name].asked for name in names)
    in_q = (each.arg for node in call.args for each in ast.walk(node) if isinstance(each, ast.keyword) and each.arg)
    return frozenset(name.partition("__")[0] for name in (*names, *in_q)).union(*of_chosen)


def _names_keys(value: Value) -> bool:
    return value.limited or value.kind not in ("query", "keys", "rows")


def model_label(call: ast.Call, arguments: list[Value]) -> str:
    """The label that `apps.get_model(...)` asks for; "" where it is not written there."""
    texts = [value.text for value in arguments]
    texts += [
        str(keyword.value.value)
        for keyword in call.keywords
        if keyword.arg in ("app_label", "model_name") and isinstance(keyword.value, ast.Constant)
    ]
    if len(texts) == 1 and texts[0] and "." in texts[0]:
        return texts[0]
    return f"{texts[0]}.{texts[1]}" if len(texts) == 2 and texts[0] and texts[1] else ""


def element_of(value: Value) -> Value:
    """What a loop over a value gives."""
    if value.kind in ("query", "rows"):
        return Value("row", value.model, limited=True, new=value.new, nulls=value.nulls, asked=value.asked)
    if value.kind == "batches":
        return Value("rows", value.model, limited=True, new=value.new, nulls=value.nulls, asked=value.asked)
    if value.kind == "keys":
        return Value("other", limited=True)
    return OTHER


def texts_of(value: Value) -> tuple[Value, ...]:
    """The elements of a tuple of texts, or of tuples with texts, that a loop is to be followed over one by one."""
    known = all(item.text is not None or (item.kind == "tuple" and item.items) for item in value.items)
    return value.items if value.kind == "tuple" and known and len(value.items) <= MOST_TURNS else ()


def is_bounded(value: Value) -> bool:
    """Whether a loop over a value ends after a number of turns that does not grow with the table."""
    return value.kind in ("literal", "tuple", "model") or value.limited
