"""What the rows say: how many there are, and how many of them a constraint or another type would refuse."""

from __future__ import annotations

from psycopg import sql

from tasks.risk.check import expression_of
from tasks.risk.facts import Answer, Count
from tasks.risk.fits import misfit, type_of
from tasks.risk.relation import FAMILY, FOREIGN, PARTITIONED, VIEW, Relation
from tasks.risk.search import COUNTED_ROWS, Size, proven, search
from tasks.risk.session import OutOfTimeError, Session, UnknownError
from tasks.risk.structure import PROVEN_NOT_NULL, attribute, checked_not_null, column, primary_key

SAMPLE_PAGES = 2000  # of a table without statistics


def rows(session: Session, relation: Relation) -> Answer[int]:
    """How many rows a table has: counted up to 100,000, else estimated."""
    refused: UnknownError | None = None
    try:
        (counted,) = session.one(
            "SELECT count(*) FROM (SELECT FROM {table} LIMIT {limit}) few",
            table=relation.identifier,
            limit=COUNTED_ROWS + 1,
        )
    except UnknownError as error:  # the catalogue can be read without a privilege
        counted, refused = 0, error
    if refused is None and counted <= COUNTED_ROWS:
        return Answer(counted, f"{relation.label} has {counted:,} row{'s' if counted != 1 else ''} (counted)")
    about, source = _estimate(session, relation, refused)
    about = about if refused else max(about, counted)
    return Answer(about, f"{relation.label} has about {about:,} rows ({source})")


def _estimate(session: Session, relation: Relation, refused: UnknownError | None) -> tuple[int, str]:
    """Rows of a large table, and where that is from."""
    if relation.kind in (VIEW, FOREIGN):
        if refused:
            raise refused
        ((plan,),) = session.ask("EXPLAIN (FORMAT JSON) SELECT FROM {table}", table=relation.identifier)
        return int(plan[0]["Plan"]["Plan Rows"]), "the planner's estimate"
    # Rows per page when last analyzed, times the pages of now.
    about, unanalyzed, pages, analyzed = session.one(
        "{family}, leaves AS (SELECT c.reltuples, c.relpages, pg_relation_size(c.oid) / b.size AS pages,"
        "  greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed"
        "  FROM family f JOIN pg_class c ON c.oid = f.oid, (SELECT current_setting('block_size')::int8 AS size) b"
        "  WHERE c.relkind IN ('r', 'm'))"
        " SELECT coalesce(sum(reltuples::float8 / nullif(relpages, 0) * pages), 0)::float8,"
        "  coalesce(bool_or(pages > 0 AND (reltuples < 0 OR relpages = 0 OR reltuples = 0)), false),"
        "  coalesce(sum(pages), 0)::int8, to_char(min(analyzed), 'YYYY-MM-DD HH24:MI UTC') FROM leaves",
        family=sql.SQL(FAMILY).format(oid=sql.Literal(relation.oid)),
    )
    if not unanalyzed:
        return round(about), f"the server's estimate{f', analyzed {analyzed}' if analyzed else ''}"
    if refused and not isinstance(refused, OutOfTimeError):
        raise UnknownError(f"{refused}, and the server has no statistics of it")
    percent = min(100.0, 100 * SAMPLE_PAGES / max(pages, 1))
    (seen,) = session.one(
        "SELECT count(*) FROM {table} TABLESAMPLE SYSTEM ({percent})", table=relation.identifier, percent=percent
    )
    return round(
        seen * 100 / percent
    ), f"no statistics yet: reckoned from {seen:,} rows in {percent:.2g} % of its pages"


def nulls(session: Session, relation: Relation, name: str, size: Size) -> Answer[Count]:
    """Rows that have NULL in a column."""
    what = f"rows of {relation.label} with NULL in {name}"
    number, called = attribute(session, relation, name)
    (declared,) = session.one(
        "SELECT {proven} FROM pg_attribute a WHERE a.attrelid = {oid} AND a.attnum = {number}",
        proven=sql.SQL(PROVEN_NOT_NULL),
        oid=relation.oid,
        number=number,
    )
    # A table that inherits may have been given less than its parent, except a partition.
    if declared and (relation.kind == PARTITIONED or not relation.has_children):
        return proven(what, "it is NOT NULL already")
    checked = checked_not_null(session, relation, name)
    if checked.value and not declared:
        return proven(what, checked.evidence)
    condition = sql.SQL("{} IS NULL").format(sql.Identifier(called))
    return search(session, relation, condition, what, size)


def orphans(
    session: Session,
    relation: Relation,
    names: tuple[str, ...],
    target: Relation,
    target_names: tuple[str, ...],
    size: Size,
) -> Answer[Count]:
    """Rows whose values, none of them NULL, no row of another table has; `()` stands for its primary key."""
    target_names = target_names or primary_key(session, target)
    if len(names) != len(target_names):
        raise UnknownError(f"{len(names)} columns refer to {len(target_names)}")
    what = f"rows of {relation.label} whose {', '.join(names)} no row of {target.label} has as "
    what += ", ".join(target_names)
    columns = [attribute(session, relation, name) for name in names]
    target_columns = [attribute(session, target, name) for name in target_names]
    keys = session.ask(
        "SELECT conname::text FROM pg_constraint WHERE contype = 'f' AND convalidated AND conrelid = {oid}"
        " AND confrelid = {target} AND conkey = {numbers}::int2[] AND confkey = {to_numbers}::int2[]",
        oid=relation.oid,
        target=target.oid,
        numbers=[number for number, _ in columns],
        to_numbers=[number for number, _ in target_columns],
    )
    if keys and (relation.kind == PARTITIONED or not relation.has_children):
        return proven(what, f"the validated foreign key {keys[0][0]} sees to it")
    values = [sql.Identifier(relation.schema, relation.name, called) for _, called in columns]
    equal = [
        sql.SQL("target.{} = {}").format(sql.Identifier(called), value)
        for (_, called), value in zip(target_columns, values, strict=True)
    ]
    condition = sql.SQL("{given} AND NOT EXISTS (SELECT FROM {target} AS target WHERE {equal})").format(
        given=sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(value) for value in values),
        target=target.identifier,
        equal=sql.SQL(" AND ").join(equal),
    )
    return search(session, relation, condition, what, size)


def has_value(session: Session, relation: Relation, name: str, value: str) -> Answer[bool]:
    """Whether a row has a value, given as SQL, in a column."""
    _, called = attribute(session, relation, name)
    (found,) = session.one(
        "SELECT EXISTS (SELECT FROM {table} WHERE {column} = (\n{value}\n))",
        table=relation.identifier,
        column=sql.Identifier(called),
        value=sql.SQL(value),
    )
    return Answer(found, f"{'a' if found else 'no'} row of {relation.label} has {value} as {name}")


def misfits(session: Session, relation: Relation, name: str, new_type: str, size: Size) -> Answer[Count]:
    """Rows whose value a cast to another type would refuse or change."""
    what = f"rows of {relation.label} whose {name} does not fit {new_type}"
    _, called = attribute(session, relation, name)
    now = column(session, relation, name).value
    assert now is not None  # noqa: S101 -- or UnknownError was raised
    old, new = type_of(session, now.base_type), type_of(session, new_type)
    condition = misfit(session, sql.Identifier(called), old, new)
    if condition is None:
        return proven(what, f"every {now.type} fits")
    return search(session, relation, condition, what, size)


def violators(session: Session, relation: Relation, check: str, size: Size) -> Answer[Count]:
    """Rows for which a CHECK is false; for NULL it is satisfied."""
    expression = expression_of(check)
    what = f"rows of {relation.label} that violate CHECK ({' '.join(expression.split())})"
    # On a line of its own, since it may end in a comment.
    condition = sql.SQL("NOT (\n{}\n)").format(sql.SQL(expression))
    return search(session, relation, condition, what, size)
