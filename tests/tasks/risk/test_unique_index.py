"""What is to be unique: read from the statement, and asked of the rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tasks.risk.live import LiveFacts
from tasks.risk.unique_index import Unique, unique_of
from tests.tasks.risk.live_databases import facts, run

__all__ = ["facts", "run"]
MADE = """
create sequence once;
create table keyed (id int primary key, name text, total int, none int);
insert into keyed values (1, 'abc', 1), (2, 'ABC', 2), (3, 'aBC', 1), (4, 'd', 3), (5, 'e', 3), (6, null, null);
"""


@pytest.fixture
def keyed(facts: LiveFacts, run: Callable[[str], None]) -> LiveFacts:
    run(MADE)
    return facts


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ('CONSTRAINT "x" UNIQUE ("n", "Größe")', Unique(("n", "Größe"))),
        ('CONSTRAINT "x" UNIQUE ("n") DEFERRABLE INITIALLY DEFERRED', Unique(("n",))),
        ('CONSTRAINT "x" UNIQUE NULLS NOT DISTINCT ("n")', Unique(("n",), nulls_equal=True)),
        ('CREATE UNIQUE INDEX "x" ON "t" ("a", "b" DESC) INCLUDE ("c")', Unique(("a", "b"))),
        ('CREATE UNIQUE INDEX "x" ON "s"."t" ("A") WHERE "n" IN (1, 2)', Unique(("A",), condition='"n" IN (1, 2)')),
        ("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS x ON s.t USING btree (a text_pattern_ops)", Unique(("a",))),
        ("CREATE UNIQUE INDEX ON t (lower(email), ((a || b)) DESC, n)", Unique(("n",), ("lower(email)", "((a || b))"))),
        (
            'CREATE UNIQUE INDEX x ON t (a) NULLS NOT DISTINCT WHERE (NOT "deleted")',
            Unique(("a",), condition='(NOT "deleted")', nulls_equal=True),
        ),
        ("CREATE UNIQUE INDEX x ON t (a) WHERE name LIKE 'x%%'", Unique(("a",), condition="name LIKE 'x%'")),
        ("CREATE INDEX x ON t (a)", None),
        ('CONSTRAINT "x" CHECK ("n" > 0)', None),
        ("CREATE UNIQUE INDEX x ON t (lower('a)", None),
        ("", None),
        (None, None),
    ],
)
def test_what_is_unique(sql: str | None, expected: Unique | None) -> None:
    assert unique_of(sql) == expected


@pytest.mark.parametrize(
    ("columns", "expressions", "where", "nulls_equal", "expected"),
    [
        (["total"], [], "", False, 4),
        (["total"], [], "id % 2 = 0", False, 0),
        (["total"], [], "id > 3 -- the rest", False, 2),
        (["total"], [], "", True, 4),
        (["total"], [], "name IS NULL OR id > 3", True, 2),
        (["none"], [], "", True, 6),
        (["none"], [], "", False, 0),
        ([], ["lower(name)"], "", False, 3),
        ([], ["lower(name)", "total % 2"], "", False, 2),
        (["name"], ["total / 100"], "", False, 0),
        (["id"], [], "name LIKE 'a%'", False, 0),
    ],
)
def test_duplicates_under_a_condition_and_of_expressions(
    keyed: LiveFacts, columns: list[str], expressions: list[str], where: str, nulls_equal: bool, expected: int
) -> None:
    answer = keyed.duplicates("keyed", columns, expressions=expressions, where=where, nulls_equal=nulls_equal)
    assert answer.value is not None, answer.evidence
    assert (answer.value.count, answer.value.sampled) == (expected, False)
    assert "abc" not in answer.evidence


@pytest.mark.parametrize(
    ("expressions", "where"),
    [(["nextval('once')"], ""), (["id); DROP TABLE keyed; --"], ""), ([], "true) ; DROP TABLE keyed; SELECT (1")],
)
def test_what_is_unique_can_do_nothing(keyed: LiveFacts, expressions: list[str], where: str) -> None:
    assert keyed.duplicates("keyed", [], expressions=expressions or ["id"], where=where).value is None
    assert keyed.rows("keyed").value == 6


def test_whether_a_row_has_a_value(keyed: LiveFacts) -> None:
    assert keyed.has_value("keyed", "id", "6").value is True
    assert keyed.has_value("keyed", "name", "'abc'").value is True
    assert keyed.has_value("keyed", "id", "0").value is False
    assert "no row of keyed has 0 as id" in keyed.has_value("keyed", "id", "0").evidence
    assert keyed.has_value("keyed", "gone", "0").value is None


def test_no_table_is_no_fact(keyed: LiveFacts) -> None:
    assert keyed.rows("").value is None
    assert not [sentence for sentence in keyed.asked() if " of :" in sentence]
