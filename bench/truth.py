"""What each migration does when it is run: on a filled database of its own, by Django's own `migrate`.

Nothing of our rules or of our rehearsal is used here: the labels of the set are held against this. Interruptions come
between statements: an index whose concurrent build is cut short stays invalid, which whoever runs migrations cleans up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from bench.migrations.case import Case, Danger
from bench.migrations.shop import BEFORE, ROWS, TABLES
from bench.shop_server import Inside, Row, Shop

FEW, SOME = 1_000, 5_000  # rows of the databases that show whether the number of statements grows
SIZES = (ROWS, FEW, SOME)
FILLED = {f"shop_{table}" for table in TABLES if table not in ("warehouse", "draft")}
BLOCKING = {
    "ShareLock": "writes",
    "ShareRowExclusiveLock": "writes",
    "ExclusiveLock": "writes",
    "AccessExclusiveLock": "reads and writes",
}
MUCH = 0.5  # of a table's rows: read or written under a blocking lock, or locked in one transaction
LONG_S, LONG = 1.0, 100  # held so long, and so many times longer than the smallest ALTER TABLE, whatever was done
STOPS = 2  # points at which a migration outside of a transaction is interrupted


@dataclass
class Truth:
    """What running it showed."""

    dangers: dict[Danger, str] = field(default_factory=dict)  # with what showed it
    lock: str = ""  # the strongest lock on a filled table
    held_s: float = 0.0
    trivial_s: float = 0.0  # how long the smallest ALTER TABLE held its lock in the same run
    rewritten: tuple[str, ...] = ()


def measure(shop: Shop, case: Case, before: Mapping[str, str]) -> Truth:
    """Run a case in every way that could show a danger.

    Args:
        shop: Where.
        case: What.
        before: What the old release's ORM does on the database as it is: errors by statement.
    """
    truth = Truth()
    directory = shop.new(case)
    with shop.database(ROWS, case.name) as dbname, shop.inside(directory, dbname) as new:
        applied = new("forward")
        _told(truth, applied)
        if applied["error"]:
            truth.dangers = {"fails": applied["error"].split("\n")[0][:200]}
            return truth
        after = _state(shop, dbname)
        _codes(shop, truth, new, dbname, before)
        _back(shop, truth, new, dbname)
    if case.has_python:
        _growth(shop, truth, case)
    if any(not step.atomic for step in case.steps):
        _interrupted(shop, truth, case, len(applied["units"]), after)
    if case.later:
        with shop.database(FEW, case.name) as dbname, shop.inside(shop.new(case, later=True), dbname) as later:
            if error := later("forward")["error"]:
                truth.dangers["real models"] = error.split("\n")[0]
    return truth


def _told(truth: Truth, applied: dict[str, Any]) -> None:
    """What the locks, the work done under them and the rows written show."""
    truth.trivial_s, truth.rewritten = applied["trivial_s"], tuple(applied["rewritten"])
    for unit in applied["units"]:
        for lock in unit["locks"]:
            if lock["relation"] not in FILLED or lock["mode"] not in BLOCKING:
                continue
            told = f"{lock['mode']} on {lock['relation']}"
            if lock["held_s"] > truth.held_s:
                truth.lock, truth.held_s = told, lock["held_s"]
            is_long = lock["held_s"] > max(LONG_S, LONG * (truth.trivial_s or 0))
            if lock["work"] >= MUCH * ROWS or is_long:
                truth.dangers.setdefault("blocks", f"{told}, {lock['work']:,} rows read or written under it")
        for table, rows in unit["written"].items():
            if table in FILLED and rows >= MUCH * ROWS:
                truth.dangers.setdefault("row locks", f"{rows:,} rows of {table} in one transaction")
    if applied["unguarded"]:
        truth.dangers["unguarded"] = "a timeout of the session was lifted"
    if applied["one_value"]:
        truth.dangers["one value"] = ", ".join(applied["one_value"])


def _codes(shop: Shop, truth: Truth, new: Inside, dbname: str, before: Mapping[str, str]) -> None:
    """What the old release's and the new one's code can no longer do."""
    with shop.inside(shop.old, dbname) as old:
        for what, error in old("use")["found"].items():
            if error and not before.get(what):
                truth.dangers.setdefault("old code", f"{what}: {error[:120]}")
    for what, error in new("use")["found"].items():
        # What the old release could not do either (a value that a CHECK refuses) is not this migration's doing.
        if error and not before.get(what) and (what.split(" without ")[0] == what and " with long " not in what):
            truth.dangers.setdefault("new code", f"{what}: {error[:120]}")


def _back(shop: Shop, truth: Truth, new: Inside, dbname: str) -> None:
    """Whether it can be reversed, and what is not there any more then."""
    if error := new("backward")["error"]:
        truth.dangers["irreversible"] = error.split("\n")[0][:200]
        return
    with shop.connect(dbname) as connection:
        if lost := _lost(connection):
            truth.dangers["loss"] = "; ".join(lost)


def _lost(connection: psycopg.Connection[Row]) -> list[str]:
    """Rows, values and views of before that are gone or changed."""
    lost: list[str] = []
    columns: dict[tuple[str, str], list[str]] = {}
    query = (
        "SELECT table_schema, table_name, column_name FROM information_schema.columns"
        " WHERE table_schema IN (%s, 'public') ORDER BY ordinal_position"
    )
    for schema, table, column in connection.execute(query, [BEFORE]):
        columns.setdefault((schema, table), []).append(column)
    lost += [f"{view} is gone" for view in ("shop_discounts", "shop_coupons") if ("public", view) not in columns]
    for table in (f"shop_{table}" for table in TABLES):
        was, now = columns[BEFORE, table], columns.get(("public", table), [])
        if "id" not in now:
            lost.append(f"{table} is gone")
            continue
        lost += [f"{table}.{column} is gone" for column in was if column not in now]
        there = [column for column in was if column in now]
        counts = sql.SQL(", ").join(
            sql.SQL("count(*) FILTER (WHERE b.{0}::text IS DISTINCT FROM n.{0}::text)").format(sql.Identifier(column))
            for column in there
        )
        compared = sql.SQL("SELECT {} FROM {} b LEFT JOIN {} n ON n.id = b.id").format(
            counts, sql.Identifier(BEFORE, table), sql.Identifier("public", table)
        )
        row = connection.execute(compared).fetchone() or ()
        lost += [f"{table}.{column}: {rows:,} rows" for column, rows in zip(there, row, strict=True) if rows]
    return lost


def _state(shop: Shop, dbname: str) -> dict[str, Row]:
    """Rows and a checksum of every table."""
    with shop.connect(dbname) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'django_migrations'"
        ).fetchall()
        return {
            table: connection.execute(
                sql.SQL("SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {} t").format(sql.Identifier(table))
            ).fetchone()
            or ()
            for [table] in tables
        }


def _growth(shop: Shop, truth: Truth, case: Case) -> None:
    """Whether the statements of one transaction grow with the rows."""
    most = []
    for rows in (FEW, SOME):
        with shop.database(rows, case.name) as dbname, shop.inside(shop.home / f"new_{case.name}", dbname) as new:
            most.append(max((unit["statements"] for unit in new("forward")["units"]), default=0))
    if most[1] - most[0] >= MUCH * (SOME - FEW):
        truth.dangers["row by row"] = f"{most[0]:,} statements for {FEW:,} rows, {most[1]:,} for {SOME:,}"


def _interrupted(shop: Shop, truth: Truth, case: Case, units: int, after: dict[str, Row]) -> None:
    """Whether it can be run again after it was stopped between two of its statements or batches."""
    for stop in sorted({1, units // 2})[:STOPS]:
        if not 0 < stop < units:
            continue
        with shop.database(ROWS, case.name) as dbname:
            directory = shop.home / f"new_{case.name}"
            with shop.inside(directory, dbname) as first:
                first("forward", stop_after=stop)
            with shop.inside(directory, dbname) as second:
                error = second("forward")["error"]
            if error:
                truth.dangers["not repeatable"] = f"stopped after {stop} of {units}: {error.split(chr(10))[0][:150]}"
            elif (state := _state(shop, dbname)) != after:
                differ = ", ".join(sorted(table for table in after if state.get(table) != after[table]))
                truth.dangers["not repeatable"] = f"stopped after {stop} of {units}: other rows in {differ}"
