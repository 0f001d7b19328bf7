"""The search of a table for rows that meet a condition, by the way that suits its size.

A small table is counted. In a larger one all rows are searched until the first is found, and those found are counted up
to a bound. Where that takes longer than a statement may, a sample is looked at, and then the table piece by piece. What
a sample holds is proof, what it does not hold is none: then the answer is unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from psycopg import sql

from tasks.risk.facts import Answer, Count
from tasks.risk.relation import FAMILY, MATERIALIZED, PARTITIONED, TABLE, Relation
from tasks.risk.session import OutOfTimeError, Session, UnknownError

COUNTED_ROWS = 100_000  # so many are counted in some 10 ms
FOUND_ROWS = 10_000  # so many violating rows are counted
SAMPLE_ROWS = 100_000
LAST_PAGE = 2**32 - 1  # of any table
PIECE_ROWS = 2_500_000  # a second or two without parallel workers, which the search of a piece cannot have
# Rows of a table as far as they are known; raises UnknownError in a database whose rows mean nothing.
Size = Callable[[], int | None]


def proven(what: str, why: str) -> Answer[Count]:
    """There are none, and no row need be looked at."""
    return Answer(Count(0, 0, False), f"{what}: none, since {why}")


def can_be_sampled(relation: Relation) -> bool:
    """Whether the server can draw a sample of it, or read it in pieces."""
    return relation.kind in (TABLE, PARTITIONED, MATERIALIZED)


def search(session: Session, relation: Relation, condition: sql.Composable, what: str, size: Size) -> Answer[Count]:
    """Rows that meet a condition; `what` names them in the sentence.

    Raises:
        UnknownError: The server does not say, or not in time.
    """
    all_rows = size()
    parts: dict[str, Any] = {"table": relation.identifier, "condition": condition}
    try:
        if all_rows is not None and all_rows <= COUNTED_ROWS:
            found, of = session.one("SELECT count(*) FILTER (WHERE {condition}), count(*) FROM {table}", **parts)
            return Answer(
                Count(found, of, False), f"{what}: {f'{found:,}' if found else 'none'} of {of:,} (all counted)"
            )
        some = session.ask("SELECT 1 FROM {table} WHERE {condition} LIMIT 1", **parts)
    except OutOfTimeError as error:
        return _sampled(session, relation, parts, what, all_rows, error)
    of = all_rows or 0
    searched = f"all of about {of:,} searched" if of else "all searched"
    if not some:
        return Answer(Count(0, of, False), f"{what}: none ({searched})")
    try:
        (found,) = session.one(
            "SELECT count(*) FROM (SELECT FROM {table} WHERE {condition} LIMIT {limit}) few",
            limit=FOUND_ROWS + 1,
            **parts,
        )
    except OutOfTimeError as error:
        return Answer(Count(1, 1, True), f"{what}: at least one (to count them: {error})")
    if found > FOUND_ROWS:
        return Answer(
            Count(found, of, True), f"{what}: more than {FOUND_ROWS:,} of about {of:,} (the search ended there)"
        )
    return Answer(Count(found, of, False), f"{what}: {found:,} ({searched})")


def _sampled(
    session: Session, relation: Relation, parts: dict[str, Any], what: str, all_rows: int | None, error: OutOfTimeError
) -> Answer[Count]:
    if all_rows is None or not can_be_sampled(relation):
        raise error
    try:
        found, of = session.one(
            "SELECT count(*) FILTER (WHERE {condition}), count(*) FROM {table} TABLESAMPLE SYSTEM ({percent})",
            percent=min(100.0, 100 * SAMPLE_ROWS / max(all_rows, 1)),
            **parts,
        )
    except OutOfTimeError:
        return _in_pieces(session, relation, parts, what, all_rows, error, [])
    if found:
        return Answer(Count(found, of, True), f"{what}: {found:,} in a sample of {of:,}")
    return _in_pieces(session, relation, parts, what, all_rows, error, [f"in a sample of {of:,} rows"])


def _in_pieces(
    session: Session,
    relation: Relation,
    parts: dict[str, Any],
    what: str,
    all_rows: int,
    error: OutOfTimeError,
    looked: list[str],
) -> Answer[Count]:
    """Search one range of pages after the other, for no more than half of the time that is left for all facts."""
    (pages,) = session.one(
        "{family} SELECT coalesce(max(pg_relation_size(oid)), 0) / current_setting('block_size')::int8 FROM family",
        family=sql.SQL(FAMILY).format(oid=sql.Literal(relation.oid)),
    )
    pages = max(pages, 1)
    enough_s = session.left_s / 2
    step = max(1, min(pages // 4, pages * PIECE_ROWS // max(all_rows, 1)))
    smallest = max(1, step // 10)
    first = pieces = 0
    while first < pages:
        last = first + step >= pages
        try:
            found = session.ask(
                "SELECT 1 FROM {table} WHERE ctid >= {first}::text::tid AND ctid < {end}::text::tid AND ({condition})"
                " LIMIT 1",
                first=f"({first},0)",
                end=f"({LAST_PAGE if last else first + step},0)",  # it may grow meanwhile
                **parts,
            )
        except OutOfTimeError:
            step //= 3
            if step < smallest:
                break
            continue
        if found:
            return Answer(Count(1, 1, True), f"{what}: at least one (the search ended there)")
        first, pieces = first + step, pieces + 1
        if session.left_s < enough_s:
            break
    if first < pages:
        looked = [*looked, *([f"in the first {100 * first // pages} % of its pages"] if first else [])]
        nothing = f"; there are none {' nor '.join(looked)}, which proves nothing" if looked else ""
        raise UnknownError(f"{error}{nothing}")
    return Answer(Count(0, all_rows, False), f"{what}: none (all of about {all_rows:,} searched, in {pieces} pieces)")
