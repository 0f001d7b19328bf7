"""Which values a cast from one type to another refuses or changes, as a condition that never fails itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import LiteralString

from psycopg import sql

from tasks.risk.session import Session, UnknownError

RANGES = {"int2": 2**15, "int4": 2**31, "int8": 2**63}
TEXTS = ("text", "varchar", "bpchar", "citext")
FLOATS = ("float4", "float8")
NUMBERS = (*RANGES, "numeric", *FLOATS)
TIMESTAMPS = ("timestamp", "timestamptz")
SERIALS = {"serial": "integer", "bigserial": "bigint", "smallserial": "smallint"}  # what their columns really are
MICROSECONDS = 6  # digits, when none are asked for
LONGEST_NUMBER = 1000  # digits; longer text is not tried as a number
SOFT_INPUT = 160000  # server_version_num: pg_input_is_valid() tells of a bad value without an error
_MODIFIED = re.compile(r"(.+?)\s*\(\s*(-?\d+(?:\s*,\s*-?\d+)*)\s*\)(.*)", re.DOTALL)
_AFTER_TYPE = re.compile(r"\s+(GENERATED|COLLATE|NOT\s+NULL|NULL|DEFAULT|USING)\b.*", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Type:
    """A type with its modifiers; of an array, those of its elements."""

    name: str  # pg_type.typname: "varchar", "int4"
    kind: str  # pg_type.typtype: "b", "e" for an enum, "d" for a domain
    sql: str  # without modifiers, as it can be written in a statement
    modifiers: tuple[int, ...]
    array: bool


def type_of(session: Session, text: str) -> Type:
    """Read a type as PostgreSQL or Django writes it: "numeric(10, 2)", "varchar(20)[]", "bigserial".

    Raises:
        UnknownError: The server has no such type.
    """
    plain = _AFTER_TYPE.sub("", text).strip()
    match = _MODIFIED.fullmatch(plain)
    modifiers: tuple[int, ...] = ()
    if match:
        plain = match[1] + match[3]
        modifiers = tuple(int(number) for number in match[2].split(","))
    found = session.ask(
        "SELECT b.typname::text, b.typtype::text, format_type(b.oid, NULL), t.oid <> b.oid FROM pg_type t JOIN pg_type"
        " b ON b.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END"
        " WHERE t.oid = to_regtype({text})",
        text=SERIALS.get(plain.lower(), plain),
    )
    if not found:
        raise UnknownError(f"the server has no type {text}")
    name, kind, written, array = found[0]
    return Type(name, kind, written, modifiers, array)


def misfit(session: Session, value: sql.Composable, old: Type, new: Type) -> sql.Composable | None:
    """The condition under which a value does not survive the cast unharmed; None: by the types alone, each does.

    Raises:
        UnknownError: There is no condition that is sure not to fail for these types.
    """
    if "d" in (old.kind, new.kind):
        raise _not_judged(old, new)
    if old.array or new.array:
        return _of_elements(session, value, old, new)
    if (old.name, old.sql, old.modifiers) == (new.name, new.sql, new.modifiers):
        return None
    return _BY_TARGET.get(new.name, _otherwise)(session, value, old, new)


def _of_elements(session: Session, value: sql.Composable, old: Type, new: Type) -> sql.Composable | None:
    if old.array and new.name in TEXTS and not new.array and not new.modifiers:
        return None
    if not (old.array and new.array):
        raise _not_judged(old, new)
    one = misfit(session, sql.SQL("element.value"), replace(old, array=False), replace(new, array=False))
    return one and _sql("EXISTS (SELECT FROM unnest({v}) AS element(value) WHERE {one})", v=value, one=one)


def _otherwise(session: Session, value: sql.Composable, old: Type, new: Type) -> sql.Composable:
    """What does not depend on a family of types."""
    if new.name == "bool" and old.name == "int4":
        return _sql("{v} NOT IN (0, 1)", v=value)
    if new.kind == "e" and (old.kind == "e" or old.name in TEXTS):
        return _sql("{v}::text <> ALL (enum_range(NULL::{new})::text[])", v=value, new=sql.SQL(new.sql))
    if old.name in TEXTS and session.server_version >= SOFT_INPUT:
        written = new.sql + (f"({','.join(map(str, new.modifiers))})" if new.modifiers else "")
        return _sql("NOT pg_input_is_valid({v}::text, {new})", v=value, new=sql.Literal(written))
    raise _not_judged(old, new)


def _not_judged(old: Type, new: Type) -> UnknownError:
    brackets = {True: "[]", False: ""}
    return UnknownError(
        f"a cast from {old.sql}{brackets[old.array]} to {new.sql}{brackets[new.array]} can only be tried, not predicted"
    )


def _sql(template: LiteralString, **parts: sql.Composable) -> sql.Composed:
    return sql.SQL(template).format(**parts)


def _too_long(_session: Session, value: sql.Composable, old: Type, new: Type) -> sql.Composable | None:
    if not new.modifiers:
        return None
    if old.name in TEXTS and old.modifiers and old.modifiers[0] <= new.modifiers[0]:
        return None
    return _sql("length({v}::text) > {limit}", v=value, limit=sql.Literal(new.modifiers[0]))


def _not_a_number(session: Session, value: sql.Composable, old: Type, new: Type) -> sql.Composable | None:
    if old.name == "bool" and new.name == "int4":
        return None
    if old.name in NUMBERS:
        return _changed(value, old, new)
    if old.name not in TEXTS or new.name in FLOATS:
        return _otherwise(session, value, old, new)
    # Text that looks otherwise than the number's own form would lose that look: leading zeros, an exponent, blanks.
    form = r"^(0|-?[1-9][0-9]*)$" if new.name in RANGES else r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
    as_number = _sql("{v}::text::numeric", v=value)
    changed = _changed(as_number, Type("numeric", "b", "numeric", (), array=False), new)
    return _sql(
        "CASE WHEN {v}::text !~ {form} OR length({v}::text) > {longest} THEN true ELSE {changed} END",
        v=value,
        form=sql.Literal(form),
        longest=sql.Literal(LONGEST_NUMBER),
        changed=changed or sql.SQL("false"),
    )


def _changed(value: sql.Composable, old: Type, new: Type) -> sql.Composable | None:
    """Numbers that another numeric type refuses or rounds; NaN sorts above all numbers."""
    if new.name in RANGES:
        bound = RANGES[new.name]
        if RANGES.get(old.name, 2**64) <= bound:
            return None
        outside = _sql("{v} NOT BETWEEN {low} AND {high}", v=value, low=_number(-bound), high=_number(bound - 1))
        return outside if old.name in RANGES else _sql("({out} OR {v} <> trunc({v}))", out=outside, v=value)
    if new.name in FLOATS:
        return _beyond_float(value, old, new)
    exact = _sql("{v}::numeric", v=value)
    if not new.modifiers:
        return _sql("{e}::float8 <> {v}::float8", e=exact, v=value) if old.name in FLOATS else None
    precision, scale = (*new.modifiers, 0)[:2]
    if old.name == "numeric" and old.modifiers:
        had, had_scale = (*old.modifiers, 0)[:2]
        if scale >= had_scale and precision - scale >= had - had_scale:
            return None
    return _sql(
        "({e} <> 'NaN' AND ({e} <> round({e}, {scale}) OR abs(round({e}, {scale})) >= {bound}))",
        e=exact,
        scale=sql.Literal(scale),
        bound=sql.SQL(f"1e{precision - scale}::numeric"),
    )


def _number(number: int) -> sql.Composable:
    return sql.SQL(f"({number})::numeric") if abs(number) >= 2**63 else sql.SQL(f"({number})")


def _beyond_float(value: sql.Composable, old: Type, new: Type) -> sql.Composable | None:
    if old.name == new.name or (old.name, new.name) == ("float4", "float8"):
        return None
    if (old.name, new.name) in {("int2", "float4"), ("int2", "float8"), ("int4", "float8")}:
        return None
    # Beyond these a cast is an error, not a rounding. A float's own text is exact, its cast to numeric is not.
    low, high = ("1e-37", "3e38") if new.name == "float4" else ("1e-307", "1e308")
    return _sql(
        "CASE WHEN {v}::text IN ('NaN', 'Infinity', '-Infinity') OR {v} = 0 THEN false"
        " WHEN abs({v}::{wide}) NOT BETWEEN {low}::{wide} AND {high}::{wide} THEN true"
        " ELSE {v}::{new}::text::numeric <> {v}::text::numeric END",
        v=value,
        low=sql.SQL(low),
        high=sql.SQL(high),
        wide=sql.SQL("float8" if old.name in FLOATS else "numeric"),
        new=sql.SQL(new.name),
    )


def _loses_time(session: Session, value: sql.Composable, old: Type, new: Type) -> sql.Composable | None:
    if old.name not in ("date", *TIMESTAMPS):
        return _otherwise(session, value, old, new)
    if new.name == "time":
        return _sql("{v} IS NOT NULL", v=value)  # the day goes
    if new.name == "date":
        return _sql("{v}::timestamp <> {v}::date::timestamp", v=value)
    digits = new.modifiers[0] if new.modifiers else MICROSECONDS
    had = old.modifiers[0] if old.modifiers else MICROSECONDS
    if old.name == "date" or digits >= had:
        return None
    return _sql("{v}::timestamp <> {v}::timestamp({digits})", v=value, digits=sql.Literal(digits))


_BY_TARGET: dict[str, Callable[[Session, sql.Composable, Type, Type], sql.Composable | None]] = {
    **dict.fromkeys(TEXTS, _too_long),
    **dict.fromkeys(NUMBERS, _not_a_number),
    **dict.fromkeys(("date", "time", *TIMESTAMPS), _loses_time),
}
