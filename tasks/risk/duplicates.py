"""The search for rows that are equal in some columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from psycopg import sql

from tasks.risk.facts import Answer, Count
from tasks.risk.relation import PARTITIONED, Relation
from tasks.risk.search import COUNTED_ROWS, SAMPLE_ROWS, Size, can_be_sampled, proven
from tasks.risk.session import OutOfTimeError, Session, UnknownError
from tasks.risk.structure import attribute
from tasks.risk.unique_index import Unique

SHOWN = 3  # examples
SLICE_ROWS = (2_500_000, 1_000_000)  # so many are compared at once where all are too many; fewer where these are
MOST_SLICES = 12  # each reads the whole table


def duplicates(session: Session, relation: Relation, unique: Unique, size: Size) -> Answer[Count]:
    """Rows that another row equals in what is to be unique."""
    what = f"rows of {relation.label} that another row equals in {unique}"
    columns = [attribute(session, relation, name) for name in unique.columns]
    seen_to = session.ask(
        "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = {oid}"
        " AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL"
        " AND (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ {numbers}::int2[] LIMIT 1",
        oid=relation.oid,
        numbers=[number for number, _ in columns],
    )
    if seen_to and not unique.nulls_equal and (relation.kind == PARTITIONED or not relation.has_children):
        return proven(what, f"the unique index {seen_to[0][0]} sees to it")
    all_rows = size()
    equal = _Equal(session, relation, columns, unique)
    if all_rows is not None and all_rows <= COUNTED_ROWS:
        return equal.answer(what, all_rows, sampled=False)
    if all_rows is not None and can_be_sampled(relation):
        # Frequent ones are found at once; what a sample does not hold may yet be elsewhere.
        percent = sql.Literal(100 * SAMPLE_ROWS / all_rows)
        sample = sql.SQL("{} TABLESAMPLE SYSTEM ({})").format(relation.identifier, percent)
        answer = equal.answer(what, SAMPLE_ROWS, sampled=True, source=sample)
        if answer.value and answer.value.count:
            return answer
    try:
        return equal.answer(what, all_rows or 0, sampled=False)
    except OutOfTimeError as error:
        if all_rows is None:
            raise
        return _in_slices(session, equal, what, all_rows, error)


def _in_slices(session: Session, equal: _Equal, what: str, all_rows: int, error: OutOfTimeError) -> Answer[Count]:
    """Compare values slice by slice, by their hash: equal rows are in the same slice.

    Each slice reads the whole table, so a very large one is not compared to the end; and no more than half of the time
    that is left for all facts is taken. A single and small slice is a sample of the values.
    """
    enough_s = session.left_s / 2
    numbers = [max(2, math.ceil(all_rows / rows)) for rows in SLICE_ROWS]
    plans = [range(slices) for slices in numbers if slices <= MOST_SLICES]
    looked = 0
    for plan in [*plans, range(1)]:
        if looked and len(plan) == 1:
            break
        slices = len(plan) if len(plan) > 1 else max(2, all_rows // SAMPLE_ROWS)
        done = 0
        for number in plan:
            if looked and session.left_s < enough_s:
                break
            try:
                answer = equal.answer(what, all_rows // slices, sampled=True, slice_=(number, slices))
            except UnknownError:
                break
            if answer.value and answer.value.count:
                return answer
            done += 1
            looked = max(looked, done * (all_rows // slices))
        if done == slices:
            told = f"{what}: none of about {all_rows:,}, all compared in {slices} slices"
            return Answer(Count(0, all_rows, False), told)
    nothing = f"; there are none in a sample of about {looked:,} rows, which proves nothing" if looked else ""
    raise UnknownError(f"{error}{nothing}") from None


class _Equal:
    """The search for rows that are equal in some columns and expressions."""

    def __init__(
        self, session: Session, relation: Relation, columns: Sequence[tuple[int, str]], unique: Unique
    ) -> None:
        self._session = session
        self._table = relation.identifier
        self._unique = unique
        kinds = {
            number: (is_text, written)
            for number, is_text, written in session.ask(
                "SELECT a.attnum, t.typcategory = 'S', format_type(a.atttypid, NULL) FROM pg_attribute a"
                " JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = {oid} AND a.attnum > 0",
                oid=relation.oid,
            )
        }
        # On lines of their own, since they may end in a comment.
        written = [sql.SQL("(\n{}\n)").format(sql.SQL(one)) for one in unique.expressions]
        self._keys: list[sql.Composable] = [*(sql.Identifier(called) for _, called in columns), *written]
        self._names = [sql.Identifier(f"key {number}") for number in range(len(self._keys))]
        told = [kinds[number] for number, _ in columns] + [(False, "an expression") for _ in written]
        self._forms = [
            sql.SQL("'text of ' || length({}::text) || ' characters'").format(name)
            if is_text
            else sql.SQL("{}::text").format(sql.Literal(kind))
            for name, (is_text, kind) in zip(self._names, told, strict=True)
        ]

    def answer(
        self,
        what: str,
        of: int,
        *,
        sampled: bool,
        source: sql.Composable | None = None,
        slice_: tuple[int, int] = (0, 1),
    ) -> Answer[Count]:
        """Count them, and show the form of the values that are there most often.

        Args:
            what: What is counted, for the sentence.
            of: How many rows are compared.
            sampled: Whether these are not all of them.
            source: What to read instead of the whole table.
            slice_: Which slice of how many is compared.
        """
        keys = sql.SQL(", ").join(self._keys)
        named = [sql.SQL("{} AS {}").format(*both) for both in zip(self._keys, self._names, strict=True)]
        conditions: list[sql.Composable] = []
        if not self._unique.nulls_equal:
            conditions += [sql.SQL("{} IS NOT NULL").format(key) for key in self._keys]
        if self._unique.condition:
            conditions.append(sql.SQL("(\n{}\n)").format(sql.SQL(self._unique.condition)))
        number, slices = slice_
        if slices > 1:
            hashed = sql.SQL("abs(hash_record_extended(ROW({}), 0) % {}) = {}")
            conditions.append(hashed.format(keys, sql.Literal(slices), sql.Literal(number)))
        found, examples = self._session.one(
            "WITH groups AS (SELECT {named}, count(*) AS times FROM {source} WHERE {conditions}"
            "  GROUP BY {places} HAVING count(*) > 1),"
            " frequent AS (SELECT {form} || ', ' || times || ' times' AS example, times FROM groups"
            "  ORDER BY times DESC LIMIT {shown})"
            " SELECT (SELECT coalesce(sum(times), 0)::int8 FROM groups),"
            "  ARRAY(SELECT coalesce(example, 'NULL') FROM frequent ORDER BY times DESC)",
            named=sql.SQL(", ").join(named),
            places=sql.SQL(", ").join(sql.Literal(place) for place in range(1, len(self._keys) + 1)),
            source=source or self._table,
            conditions=sql.SQL(" AND ").join(conditions or [sql.SQL("true")]),
            form=sql.SQL(" || ', ' || ").join(self._forms),
            shown=SHOWN,
        )
        figure = f"{found:,} ({'; '.join(examples)})" if found else "none"
        how = f"in a sample of about {of:,} rows" if sampled else f"of {of:,}, all compared" if of else "all compared"
        return Answer(Count(found, of, sampled, tuple(examples)), f"{what}: {figure}, {how}")
