"""What the rules over operations advise: it is Django and SQL that work, and it is what the migration was to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import psycopg
import pytest

from tasks.release.risk import Finding
from tasks.risk.judge import judge
from tasks.risk.live import LiveFacts
from tests.fix_postgres import PostgresServer
from tests.tasks.risk.conftest import Cases
from tests.tasks.risk.migration_cases import CASES
from tests.tasks.risk.no_database import NoDatabase
from tests.tasks.risk.one_case import Case
from tests.tasks.risk.test_operations import of_operations

pytestmark = pytest.mark.timeout(400)  # the first test waits for a hundred apps to be made


def found(cases: Cases, name: str, rule: str) -> Finding:
    findings = judge(cases.plan(name), NoDatabase(), cases.home).findings
    (finding,) = [each for each in findings if each.rule == rule]
    return finding


def calls(steps: tuple[str, ...]) -> Iterator[ast.Call]:
    """Django's operations in advice, outermost ones."""
    for step in steps:
        end = 0
        for match in re.finditer(r"(?:migrations\.\w+|AddIndexConcurrently|AddConstraintNotValid)\(", step):
            if match.start() < end:
                continue
            for close in [place.end() for place in re.finditer(r"\)", step) if place.end() > match.end()]:
                try:
                    parsed = ast.parse(step[match.start() : close], mode="eval").body
                except SyntaxError:
                    continue
                assert isinstance(parsed, ast.Call)
                yield parsed
                end = close
                break
            else:
                pytest.fail(f"no Python: {step[match.start() :]}")


def runs_of_sql(steps: tuple[str, ...]) -> list[tuple[str, str]]:
    """SQL and reverse SQL of every RunSQL in advice."""
    inner = [node for call in calls(steps) for node in ast.walk(call) if isinstance(node, ast.Call)]
    return [
        (ast.literal_eval(node.args[0]), ast.literal_eval(node.keywords[0].value))
        for node in inner
        if ast.unparse(node.func) == "migrations.RunSQL" and isinstance(node.keywords[0].value, ast.Constant)
    ]


@pytest.mark.parametrize("case", [case for case in CASES if case.without_database], ids=lambda case: case.name)
def test_operations_in_advice_are_python(cases: Cases, case: Case) -> None:
    for finding in of_operations(judge(cases.plan(case.name), NoDatabase(), cases.home).findings):
        assert finding.line is not None
        assert not re.search(r"Field\('?\w+\.\w+'?[,)]|\{[a-z]", " ".join(finding.mitigation))
        list(calls(finding.mitigation))


@pytest.mark.parametrize(
    ("name", "rule", "made"),
    [
        ("unique", "add-unique", "UNIQUE INDEX {app}_uq ON public.{app}_thing USING btree (n)"),
        ("unique_with_condition", "add-unique", "UNIQUE INDEX {app}_uq ON public.{app}_thing USING btree (name) WHERE"),
        ("unique_with_more", "add-unique", "(n) INCLUDE (price) WHERE (n > 0)"),
        ("unique_expression", "add-unique", "USING btree (lower((slug)::text))"),
        ("unique_deferred", "add-unique", "UNIQUE INDEX {app}_uq"),
        ("unique_text", "add-unique", "(code)"),
        ("unique_field_over_duplicates", "add-unique", "(name varchar_pattern_ops)"),
        ("unique_together", "add-unique", "(n, code)"),
        ("index_field", "add-index", "(n)"),
    ],
)
def test_indexes_are_built_as_the_migration_would(
    cases: Cases, postgres: PostgresServer, name: str, rule: str, made: str
) -> None:
    steps = runs_of_sql(found(cases, name, rule).mitigation)
    with psycopg.connect(postgres.dsn(cases.database.name), autocommit=True) as connection:
        definitions = "SELECT string_agg(indexdef, E'\n') FROM pg_indexes"
        if name == "unique_field_over_duplicates":  # the statements only; what is there already is another rule's
            connection.execute(f"UPDATE {name}_thing SET name = id || name")
        for forward, _ in steps:
            connection.execute(forward.encode())
        (there,) = connection.execute(definitions).fetchone() or ("",)
        for _, backward in reversed(steps):
            # An index goes with the constraint that took it.
            connection.execute(backward.replace("CONCURRENTLY ", "IF EXISTS ").encode())
        if name == "unique_field_over_duplicates":
            connection.execute(f"UPDATE {name}_thing SET name = 'name' || id % 10")
    assert steps
    assert made.replace("{app}", name) in there


def test_a_deferrable_constraint_stays_so(cases: Cases) -> None:
    assert any("DEFERRABLE INITIALLY DEFERRED" in forward for forward, _ in runs_of_sql(found(
        cases, "unique_deferred", "add-unique"
    ).mitigation))  # fmt: skip


def test_an_index_is_told_verbatim(cases: Cases) -> None:
    (step,) = found(cases, "index_with_all", "add-index").mitigation
    assert "AddIndexConcurrently('thing', models.Index(fields=['-n', 'code'], include=['price']" in step
    assert '("n" DESC, "code") INCLUDE ("price") WHERE "n" > 5;' in step
    assert 'CREATE INDEX CONCURRENTLY "index_with_all_n" ON' in step


@pytest.mark.parametrize(
    ("name", "rule", "written"),
    [
        ("remove", "remove-column", "migrations.RemoveField('thing', 'note')"),
        (
            "add_constant",
            "add-not-null-column",
            'migrations.AddField("thing", "extra", models.IntegerField(null=True))',
        ),
        ("delete_model", "remove-table", "migrations.DeleteModel('Child')"),
        ("not_null", "set-not-null", "migrations.AlterField('thing', 'whole', models.IntegerField())"),
        ("check", "add-check", "AddConstraintNotValid('thing', models.CheckConstraint(condition=models.Q(n__gt=0)"),
        ("add_unique_null", "add-unique", 'migrations.AddField("thing", "extra", models.IntegerField(null=True))'),
        ("add_unique_null", "add-unique", '[migrations.AlterField("thing", "extra", models.IntegerField(null=True, u'),
        ("add_null_key", "add-index", "null=True, db_index=False))"),
        ("key_to_bigint", "rewrite-column-type", "ADD PRIMARY KEY USING INDEX"),
    ],
)
def test_django_to_write_instead(cases: Cases, name: str, rule: str, written: str) -> None:
    findings = judge(cases.plan(name), NoDatabase(), cases.home).findings
    assert written in " ".join(step for each in findings if each.rule == rule for step in each.mitigation)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("too_short", 1100),
        ("text_is_cut", 1100),
        ("number_to_text", 0),
        ("text_to_number", 0),
        ("to_fewer_digits", 0),
        ("unique_over_duplicates", 10),
        ("unique_with_condition_over_duplicates", 4),
        ("unique_expression_over_duplicates", 10),
        ("check_violated", 5),
        ("to_key_with_orphans", 1),
    ],
)
def test_the_rows_in_question_can_be_looked_at(cases: Cases, postgres: PostgresServer, name: str, rows: int) -> None:
    findings = of_operations(judge(cases.plan(name), NoDatabase(), cases.home).findings)
    (query,) = [one for each in findings for step in each.mitigation for one in re.findall(r": (SELECT .*;)$", step)]
    with psycopg.connect(postgres.dsn(cases.database.name), autocommit=True) as connection:
        assert len(connection.execute(query.encode()).fetchall()) == rows


def test_harm_is_what_blocks(cases: Cases) -> None:
    with LiveFacts(cases.database, "public", statement_timeout_s=20) as facts:
        for name in ("add_unique_callable", "too_short", "not_null_over_nulls", "add_key_with_value_that_is_not_there"):
            blocked = [
                each for each in judge(cases.plan(name), facts, cases.home).findings if each.severity == "blocked"
            ]
            assert {each.harm for each in blocked} == {"fails"}, name
        (filled,) = [
            each
            for each in judge(cases.plan("not_null_with_default"), facts, cases.home).findings
            if each.rule == "null-values"
        ]
    assert (filled.harm, "UPDATE" in filled.message) == ("blocks", True)


def test_a_renamed_table_is_called_as_running_code_knows_it(cases: Cases) -> None:
    findings = of_operations(judge(cases.plan("rename_twice"), NoDatabase(), cases.home).findings)
    assert sorted((each.rule, each.subject) for each in findings) == [
        ("rename-column", "rename_twice_thing.note"),
        ("rename-table", "rename_twice_child"),
    ]
    findings = of_operations(judge(cases.plan("rename_and_add"), NoDatabase(), cases.home).findings)
    (added,) = [each for each in findings if each.rule == "add-not-null-column"]
    assert "INSERT of the running release into rename_and_add_child fails" in added.message


def test_what_an_earlier_migration_may_change(cases: Cases) -> None:
    with LiveFacts(cases.database, "public", statement_timeout_s=20) as facts:
        told = {
            name: " ".join(
                " ".join(each.evidence) for each in of_operations(judge(cases.plan(name), facts, cases.home).findings)
            )
            for name in ("unique_after_merging", "unique_after_filling_another_table")
        }
    assert "unique_after_merging.m1 may change that before" in told["unique_after_merging"]
    assert "may change that" not in told["unique_after_filling_another_table"]


def test_what_is_not_known_is_told_once(cases: Cases) -> None:
    with LiveFacts(cases.database, "public", statement_timeout_s=20, data=False) as facts:
        (finding,) = of_operations(judge(cases.plan("index"), facts, cases.home).findings)
    assert " ".join(finding.evidence).count("unknown") == 1


def test_no_evidence_is_made_of_a_column_that_is_not_null(cases: Cases) -> None:
    with LiveFacts(cases.database, "public", statement_timeout_s=20) as facts:
        findings = judge(cases.plan("remove"), facts, cases.home).findings
    (lost,) = [each for each in findings if each.rule == "lose-column"]
    assert lost.evidence == ("remove_thing has 1,100 rows (counted)",)


def test_a_table_in_another_schema_is_readable(cases: Cases) -> None:
    findings = of_operations(judge(cases.plan("table_in_schema"), NoDatabase(), cases.home).findings)
    (renamed,) = [each for each in findings if each.rule == "rename-table"]
    assert "the table is then called far.kids." in renamed.message
    assert 'AS TABLE "far"."kids"' in " ".join(renamed.mitigation)
