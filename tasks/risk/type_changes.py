"""What ALTER COLUMN ... TYPE costs and breaks, for a pair of PostgreSQL types; measured, see the tests."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

_SPELLINGS = {
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "serial": "integer",
    "bigserial": "bigint",
    "smallserial": "smallint",
    "bool": "boolean",
    "decimal": "numeric",
    "float4": "real",
    "float8": "double precision",
    "character varying": "varchar",
    "character": "char",
    "bpchar": "char",
    "varbit": "bit varying",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
    "time with time zone": "timetz",
}
_INTEGERS = ("smallint", "integer", "bigint")
_FLOATS = ("real", "double precision")
_NUMBERS = (*_INTEGERS, "numeric", *_FLOATS)
_TEXTS = ("varchar", "text", "char", "citext")
_TIMES = ("date", "timestamp", "timestamptz", "time", "timetz", "interval")
_JSON = ("json", "jsonb")
_NETWORK = ("inet", "cidr")
_OTHERS = ("boolean", "uuid", "bytea", "oid", "bit", "bit varying")
_KNOWN = {*_NUMBERS, *_TEXTS, *_TIMES, *_JSON, *_NETWORK, *_OTHERS}
_FAMILIES = (_NUMBERS, _TEXTS, _TIMES, _JSON, _NETWORK, ("bit", "bit varying"))
# Casts between families that there are besides to and from text, which goes for all.
_CASTS = {
    ("integer", "boolean"),
    ("boolean", "integer"),
    *((kind, "oid") for kind in _INTEGERS),
    *(("oid", kind) for kind in ("integer", "bigint")),
    *(("jsonb", kind) for kind in (*_NUMBERS, "boolean")),
    *((kind, "bit") for kind in ("integer", "bigint")),
    *(("bit", kind) for kind in ("integer", "bigint")),
}
_NO_TIME_CASTS = {
    ("date", "time"),
    ("date", "timetz"),
    ("date", "interval"),
    ("timestamp", "interval"),
    ("timestamp", "timetz"),
    ("timestamptz", "interval"),
    ("interval", "date"),
    ("interval", "timestamp"),
    ("interval", "timestamptz"),
    ("interval", "timetz"),
    ("time", "date"),
    ("time", "timestamp"),
    ("time", "timestamptz"),
    ("timetz", "date"),
    ("timetz", "timestamp"),
    ("timetz", "timestamptz"),
    ("timetz", "interval"),
}
# Types that are stored alike: table left as it is, indexes built anew where the order of values differs.
_ALIKE = {
    ("varchar", "text"),
    ("text", "varchar"),
    ("cidr", "inet"),
}
_ALIKE_BUT_ORDERED = {
    *((kind, "citext") for kind in ("varchar", "text")),
    *(("citext", kind) for kind in ("varchar", "text")),
    ("integer", "oid"),
    ("oid", "integer"),
}
_TIMES_KEPT = {
    ("date", "timestamp"),
    ("date", "timestamptz"),
    ("timestamp", "timestamptz"),
    ("timestamptz", "timestamp"),
    ("time", "interval"),
}
_BYTES = {"smallint": 2, "integer": 4, "bigint": 8}  # of each value
_WIDE = 1000  # more digits than a column of fixed precision may have
_DIGITS_OF_INTEGER = {"smallint": 5, "integer": 10, "bigint": 19}


class Cost(Enum):
    """What the server has to do, all of it under ACCESS EXCLUSIVE."""

    NOTHING = "nothing"
    INDEXES = "indexes that hold the column are built anew"
    REWRITE = "the table and its indexes are written anew"
    IMPOSSIBLE = "there is no such cast"
    UNKNOWN = "unknown"  # a type of which nothing is known


class Fit(Enum):
    """What becomes of values that the new type cannot hold."""

    ALL = "every value fits"
    REFUSED = "a value that does not fit ends the migration"
    CHANGED = "a value that does not fit is cut or rounded without a word"
    EITHER = "a value that does not fit is refused, cut or rounded"


_FITS = {
    ("json", "jsonb"): Fit.ALL,
    ("jsonb", "json"): Fit.ALL,
    ("cidr", "inet"): Fit.ALL,
    ("boolean", "integer"): Fit.ALL,
    ("integer", "oid"): Fit.ALL,
    ("integer", "boolean"): Fit.CHANGED,
}


@dataclass(frozen=True)
class Type:
    """A type taken apart: `numeric(10, 2)[]` is numeric, (10, 2), one dimension."""

    name: str
    modifiers: tuple[int, ...]
    dimensions: int

    @classmethod
    def of(cls, text: str) -> Type:
        """Take a type apart; `character varying` and `varchar` are the same."""
        spelled = re.sub(r"\s+", " ", text.strip().lower())
        dimensions = spelled.count("[")
        spelled = re.sub(r"\[\d*\]", "", spelled).strip()
        modifiers = tuple(int(number) for number in re.findall(r"-?\d+", "".join(re.findall(r"\([^)]*\)", spelled))))
        name = re.sub(r" ?\([^)]*\)", "", spelled).strip()
        name = _SPELLINGS.get(name, name)
        if name == "char" and not modifiers:
            modifiers = (1,)
        if name == "numeric" and len(modifiers) == 1:
            modifiers = (*modifiers, 0)
        return cls(name, modifiers, dimensions)

    @property
    def length(self) -> int | None:
        """The longest value in characters; None: no limit. Only of texts."""
        return self.modifiers[0] if self.name in ("varchar", "char") and self.modifiers else None

    @property
    def digits(self) -> tuple[int, int] | None:
        """Digits before and after the point that surely fit; None: not a number of fixed precision."""
        if self.name in _DIGITS_OF_INTEGER:
            return _DIGITS_OF_INTEGER[self.name], 0
        if self.name == "numeric":
            precision, scale = self.modifiers or (_WIDE, _WIDE // 2)
            return precision - scale, scale
        return None


def cost(old: str, new: str) -> Cost:
    """What a change of type costs.

    `timestamp` to `timestamptz` and back spare the table in a session whose time zone is UTC only, so they count as a
    rewrite.
    """
    one, other = Type.of(old), Type.of(new)
    if one == other:
        return Cost.NOTHING
    if not {one.name, other.name} <= _KNOWN:
        return Cost.UNKNOWN
    return _cost_of_cast(one, other) if _can_be_cast(one, other) else Cost.IMPOSSIBLE


def fit(old: str, new: str) -> Fit:
    """What becomes of values that the new type cannot hold, as Django casts them."""
    one, other = Type.of(old), Type.of(new)
    if one == other:
        return Fit.ALL
    if {one.name, other.name} & {*_TEXTS}:
        return _fit_of_texts(one, other)
    if one.name in _NUMBERS and other.name in _NUMBERS:
        return _fit_of_numbers(one, other)
    if one.name in _TIMES and other.name in _TIMES:
        return _fit_of_times(one, other)
    return _FITS.get((one.name, other.name), Fit.EITHER)


def misfit_condition(column: str, old: str, new: str) -> str | None:  # noqa: PLR0911 - one for each kind
    """What a person may ask for the rows in question, without a cast that fails; None: only trying would show.

    `column` is quoted already.
    """
    one, other = Type.of(old), Type.of(new)
    if one.dimensions or other.dimensions:
        return None
    if other.length is not None and other.name in _TEXTS:
        return f"length({column}::text) > {other.length}"
    if one.name in _TEXTS and other.name in _INTEGERS:
        return f"{column} !~ '^\\s*[-+]?[0-9]{{1,{_DIGITS_OF_INTEGER[other.name] - 1}}}\\s*$'"
    if one.name in _TEXTS and other.name == "numeric":
        return f"{column} !~ '^\\s*[-+]?[0-9]+([.][0-9]+)?\\s*$'"
    if one.name not in _NUMBERS:
        return f"{column}::time <> '00:00'" if other.name == "date" and one.name.startswith("timestamp") else None
    if other.name in _BYTES:
        most = 2 ** (8 * _BYTES[other.name] - 1)
        return f"{column} NOT BETWEEN {-most} AND {most - 1}" + (
            "" if one.name in _BYTES else f" OR {column} <> trunc({column}::numeric)"
        )
    if other.name == "numeric" and other.modifiers and other.digits:
        whole, scale = other.digits
        return f"abs({column}) >= 1e{whole} OR {column}::numeric <> round({column}::numeric, {scale})"
    return None


def holders(users: Iterable[str], dropped: Collection[str]) -> list[str]:
    """What keeps a column's type from changing, of all that uses the column as the facts tell.

    Args:
        users: "view shop_cheap", "policy own on shop_order", "function total() (its text names it)", ...
        dropped: Names of what is dropped before.
    """
    found = []
    for user in users:
        kind, _, name = user.removeprefix("materialized ").partition(" ")
        bare = name.removeprefix("on ").partition(" ")[0].partition("(")[0].replace('"', "")
        by_text = kind == "function" and user.endswith(")") and "(its text" in user
        if not by_text and bare not in dropped and bare.rpartition(".")[2] not in dropped:
            found.append(user)
    return found


def is_other_kind(old: str, new: str) -> bool:
    """Whether values are of another kind afterwards, so that code which knows the old type may fail or misread."""
    one, other = Type.of(old), Type.of(new)
    if one.dimensions != other.dimensions:
        return True
    return one.name != other.name and not any({one.name, other.name} <= {*family} for family in _FAMILIES)


def _fit_of_texts(one: Type, other: Type) -> Fit:
    if other.name not in _TEXTS:
        return Fit.REFUSED
    if other.length is None or (one.name != "char" and one.length is not None and one.length <= other.length):
        return Fit.ALL
    # Within one type Django leaves the cast to the server, which refuses; else it writes it, and that cuts.
    return Fit.REFUSED if one.name == other.name else Fit.CHANGED


def _fit_of_numbers(one: Type, other: Type) -> Fit:
    if other.name in _FLOATS:
        exact = other.name == "double precision" or one.name in ("real", "smallint")
        return Fit.ALL if exact else Fit.CHANGED
    if one.digits is None or other.digits is None:
        return Fit.ALL if other.name == "numeric" and not other.modifiers else Fit.EITHER
    if one.name in _BYTES and other.name in _BYTES:
        return Fit.ALL if _BYTES[one.name] <= _BYTES[other.name] else Fit.REFUSED
    # An integer type holds all numbers of one digit less than its largest.
    refused = one.digits[0] > (other.digits[0] - 1 if other.name in _BYTES else other.digits[0])
    rounded = one.digits[1] > other.digits[1]
    if refused and rounded:
        return Fit.EITHER
    return Fit.REFUSED if refused else Fit.CHANGED if rounded else Fit.ALL


def _fit_of_times(one: Type, other: Type) -> Fit:
    if other.modifiers and not (one.name == other.name and () < one.modifiers <= other.modifiers):
        return Fit.CHANGED
    return Fit.ALL if one.name == other.name or (one.name, other.name) in _TIMES_KEPT else Fit.CHANGED


def _cost_of_cast(one: Type, other: Type) -> Cost:
    if one.dimensions or other.dimensions:
        return Cost.REWRITE
    if one.name == other.name:
        return Cost.NOTHING if _modifiers_only_widen(one, other) else Cost.REWRITE
    roomy = other.length is None or (one.name != "char" and one.length is not None and one.length <= other.length)
    if roomy and (one.name, other.name) in _ALIKE:
        return Cost.NOTHING
    return Cost.INDEXES if roomy and (one.name, other.name) in _ALIKE_BUT_ORDERED else Cost.REWRITE


def _can_be_cast(one: Type, other: Type) -> bool:
    if one.dimensions != other.dimensions:
        return (one if one.dimensions == 0 else other).name in _TEXTS
    pair = one.name, other.name
    if pair in _NO_TIME_CASTS:
        return False
    together = any({*pair} <= {*family} for family in _FAMILIES)
    return one.name == other.name or together or bool({*pair} & {*_TEXTS}) or pair in _CASTS


def _modifiers_only_widen(one: Type, other: Type) -> bool:
    if one.name == "char":
        return False
    if not other.modifiers or not one.modifiers:
        return not other.modifiers
    if one.name == "numeric":
        return one.modifiers[1] == other.modifiers[1] and other.modifiers[0] >= one.modifiers[0]
    return one.name != "bit" and other.modifiers >= one.modifiers
