"""Hand-written SQL: the same judgement as Django's own operations get, and what only SQL can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.risk import squawk
from tasks.risk.judge import judge
from tasks.risk.sql_actions import actions
from tasks.risk.sql_text import split
from tests.fix_postgres import PostgresServer
from tests.tasks.app.django_projects import Project
from tests.tasks.risk.hand_written import Case, Judged, judged, rules_of
from tests.tasks.risk.no_database import NoDatabase

NEW_TABLE = "CREATE TABLE shop_log (id bigserial PRIMARY KEY, order_id bigint, at timestamptz DEFAULT now())"
AUDIT = "CREATE FUNCTION shop_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note = ''x''; RETURN NEW; END $$"

MODELS = """
from django.db import models


class Order(models.Model):
    number = models.IntegerField()


class Tiny(models.Model):
    name = models.TextField()
"""


def one(name: str, expected: str, *statements: str, atomic: bool = True, text: bool = False) -> Case:
    """RunSQL of a list of statements, or of one text, with a reverse that does nothing."""
    sql = "; ".join(statements) if text else list(statements)
    return Case(
        name, tuple(sorted(expected.split())), f"migrations.RunSQL({sql!r}, migrations.RunSQL.noop)", atomic=atomic
    )


CASES = [
    # dangerous
    one("d_index", "sql-add-index", "CREATE INDEX i ON shop_order (number)"),
    one(
        "d_unique_index",
        "sql-add-index",
        "CREATE UNIQUE INDEX IF NOT EXISTS i ON ONLY public.shop_order USING btree (number)",
    ),
    one("d_duplicates", "sql-add-index", "CREATE UNIQUE INDEX i ON shop_order (note)"),
    one(
        "d_duplicates_concurrently",
        "sql-add-index",
        "CREATE UNIQUE INDEX CONCURRENTLY i ON shop_order (note)",
        atomic=False,
    ),
    one(
        "d_duplicate_expressions",
        "sql-add-index",
        "CREATE UNIQUE INDEX CONCURRENTLY i ON shop_order (lower(left(code, 6)))",
        atomic=False,
    ),
    one(
        "d_duplicate_under_condition",
        "sql-add-index",
        "CREATE UNIQUE INDEX CONCURRENTLY i ON shop_order (note) WHERE fresh IS NULL",
        atomic=False,
    ),
    one(
        "d_unique_of_column_just_filled",
        "sql-add-index",
        "ALTER TABLE shop_order ADD COLUMN IF NOT EXISTS a integer DEFAULT 7",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON shop_order (a)",
        atomic=False,
    ),
    one("d_reindex", "sql-add-index", "REINDEX TABLE shop_order"),
    one("d_concurrently", "sql-concurrently-in-transaction", "CREATE INDEX CONCURRENTLY i ON shop_order (number)"),
    one(
        "d_concurrently_in_text",
        "sql-concurrently-in-transaction",
        "SET search_path = public",
        "CREATE INDEX CONCURRENTLY i ON shop_order (number)",
        atomic=False,
        text=True,
    ),
    one("d_drop_concurrently", "sql-concurrently-in-transaction", "DROP INDEX CONCURRENTLY IF EXISTS i"),
    one("d_vacuum", "sql-concurrently-in-transaction", "VACUUM shop_order"),
    one("d_not_null", "sql-add-not-null-column", "ALTER TABLE shop_order ADD COLUMN a integer NOT NULL"),
    one(
        "d_default_dropped",
        "sql-add-not-null-column",
        "ALTER TABLE shop_order ADD COLUMN a integer NOT NULL DEFAULT 1",
        "ALTER TABLE shop_order ALTER COLUMN a DROP DEFAULT",
    ),
    one("d_volatile", "sql-rewrite-table", "ALTER TABLE shop_order ADD a uuid NOT NULL DEFAULT gen_random_uuid()"),
    one("d_identity", "sql-rewrite-table", "ALTER TABLE shop_order ADD a bigint GENERATED ALWAYS AS IDENTITY"),
    one("d_serial", "sql-rewrite-table", "ALTER TABLE shop_order ADD a serial"),
    one("d_generated", "sql-rewrite-table", "ALTER TABLE shop_order ADD a int GENERATED ALWAYS AS (number * 2) STORED"),
    one("d_checked_column", "sql-rewrite-table", "ALTER TABLE shop_order ADD a int CHECK (a > 0)"),
    one("d_cluster", "sql-rewrite-table", "CLUSTER shop_order USING shop_order_pkey"),
    one("d_vacuum_full", "sql-rewrite-table", "VACUUM FULL shop_order", atomic=False),
    one("d_unlogged", "sql-rewrite-table", "ALTER TABLE shop_order SET UNLOGGED"),
    one("d_exclusion", "sql-rewrite-table", "ALTER TABLE shop_order ADD CONSTRAINT e EXCLUDE (number WITH =)"),
    one("d_type", "sql-change-column-type", "ALTER TABLE shop_order ALTER COLUMN number TYPE bigint"),
    one("d_type_narrow", "sql-change-column-type", "ALTER TABLE shop_order ALTER code TYPE varchar(20)"),
    one("d_type_misfit", "sql-change-column-type", "ALTER TABLE shop_order ALTER code TYPE varchar(2)"),
    one("d_type_tiny", "sql-change-column-type", "ALTER TABLE shop_tiny ALTER name TYPE varchar(3)"),
    one("d_type_of_view", "sql-change-column-type", "ALTER TABLE shop_customer ALTER name TYPE text"),
    one("d_drop_column", "sql-remove", "ALTER TABLE shop_order DROP COLUMN IF EXISTS note"),
    one("d_drop_table", "sql-remove", "DROP TABLE shop_order CASCADE"),
    one("d_drop_tiny", "sql-remove", "DROP TABLE shop_tiny"),
    one("d_drop_schema", "sql-remove", "DROP SCHEMA old CASCADE"),
    one("d_rename_column", "sql-rename", "ALTER TABLE shop_order RENAME number TO amount"),
    one("d_rename_table", "sql-rename", 'ALTER TABLE "shop_order" RENAME TO "shop_orders"'),
    one("d_set_schema", "sql-rename", "ALTER TABLE shop_order SET SCHEMA archive"),
    one("d_set_not_null", "sql-add-constraint", "ALTER TABLE shop_order ALTER COLUMN customer_id SET NOT NULL"),
    one("d_set_not_null_nulls", "sql-add-constraint", "ALTER TABLE shop_order ALTER COLUMN note SET NOT NULL"),
    one("d_check", "sql-add-constraint", "ALTER TABLE shop_order ADD CONSTRAINT c CHECK (number > 0)"),
    one("d_check_violated", "sql-add-constraint", "ALTER TABLE shop_order ADD CONSTRAINT c CHECK (number > 10)"),
    one(
        "d_foreign_key",
        "sql-add-constraint",
        "ALTER TABLE shop_order ADD CONSTRAINT f FOREIGN KEY (number) REFERENCES shop_customer (id)",
    ),
    one("d_unique", "sql-add-constraint", "ALTER TABLE shop_order ADD CONSTRAINT u UNIQUE (number)"),
    one(
        "d_validate",
        "lock-held-during-long-work sql-add-constraint",
        "ALTER TABLE shop_order ADD CONSTRAINT c CHECK (number > 0) NOT VALID",
        "ALTER TABLE shop_order VALIDATE CONSTRAINT c",
    ),
    one("d_validate_old", "sql-add-constraint", "ALTER TABLE shop_order VALIDATE CONSTRAINT shop_old"),
    one("d_validate_key", "sql-add-constraint", "ALTER TABLE shop_order VALIDATE CONSTRAINT shop_key"),
    Case(
        "d_validate_later",
        ("sql-add-constraint",),
        [
            "migrations.RunSQL('ALTER TABLE shop_order ADD CONSTRAINT l CHECK (number > 9) NOT VALID', '')",
            "migrations.RunSQL('ALTER TABLE shop_order VALIDATE CONSTRAINT l', '')",
        ],
    ),
    one(
        "d_check_not_null",
        "sql-add-constraint",
        "ALTER TABLE shop_order ADD CONSTRAINT c CHECK (customer_id IS NOT NULL) NOT VALID",
    ),
    one(
        "d_key_of_two",
        "sql-add-constraint",
        "ALTER TABLE shop_order ADD CONSTRAINT f FOREIGN KEY (id, number) REFERENCES shop_tiny (id, id)",
    ),
    one("d_update", "sql-unbatched-change", "UPDATE shop_order SET fresh = number"),
    one("d_update_alone", "sql-unbatched-change", "UPDATE shop_order SET fresh = number", atomic=False),
    one("d_update_overwrites", "sql-lose-rows sql-unbatched-change", "UPDATE shop_order SET code = upper(code)"),
    one("d_update_wide", "sql-unbatched-change", "UPDATE shop_order SET fresh = 1 WHERE number > 5 OR id = 7"),
    one(
        "d_update_with",
        "sql-unbatched-change",
        "WITH c AS (SELECT id FROM shop_customer) UPDATE shop_order o SET fresh = 1 FROM c WHERE c.id = o.customer_id",
    ),
    one("d_delete", "sql-lose-rows sql-unbatched-change", "DELETE FROM shop_order WHERE number % 2 = 0"),
    one("d_truncate", "sql-lose-rows", "TRUNCATE shop_order"),
    one("d_lock", "sql-lock", "LOCK TABLE shop_order"),
    one("d_begin", "sql-session", "BEGIN; UPDATE shop_tiny SET name = 'x'; COMMIT"),
    one("d_left_open", "sql-session", "BEGIN", "UPDATE shop_tiny SET name = 'x'", atomic=False),
    one("d_commit", "sql-session", "COMMIT"),
    one("d_lock_timeout", "sql-session", "SET lock_timeout = 0"),
    one("d_statement_timeout", "sql-session", "SET LOCAL statement_timeout TO '1h'"),
    one("d_set_config", "sql-session", "SELECT set_config('statement_timeout', '0', false)"),
    one("d_replication_role", "sql-session", "SET session_replication_role = replica"),
    one("d_disable_trigger", "sql-trigger", "ALTER TABLE shop_order DISABLE TRIGGER ALL"),
    one(
        "d_trigger_refuses",
        "sql-trigger",
        AUDIT.replace("NEW.note = ''x''", "RAISE EXCEPTION ''no''").replace("''", "'"),
        "CREATE TRIGGER t BEFORE INSERT ON shop_order FOR EACH ROW EXECUTE FUNCTION shop_audit()",
    ),
    one(
        "d_trigger_unknown",
        "sql-trigger",
        "CREATE TRIGGER t BEFORE INSERT ON shop_order FOR EACH ROW EXECUTE FUNCTION elsewhere()",
    ),
    one("d_do", "unjudged-sql", "DO $$ BEGIN UPDATE shop_order SET fresh = 1; END $$"),
    one("d_function_call", "unjudged-sql", "SELECT rebuild_everything()"),
    one("d_policy", "unjudged-sql", "DROP POLICY IF EXISTS p ON shop_order"),
    one("d_nonsense", "unjudged-sql", "FROBNICATE shop_order"),
    one(
        "d_several",
        "lock-held-during-long-work sql-add-index sql-remove",
        "ALTER TABLE shop_order DROP note, ADD x int",
        "CREATE INDEX i ON shop_order (number)",
    ),
    one("d_database", "squawk-ban-drop-database", "DROP DATABASE shop", atomic=False),
    Case(
        "d_still_named",
        ("sql-remove", "sql-still-named"),
        "migrations.RunSQL('ALTER TABLE {app}_order DROP COLUMN note', migrations.RunSQL.noop,"
        " state_operations=[migrations.RemoveField('Order', 'note')])",
        files={
            "{app}/models.py": MODELS,
            "{app}/reports.py": "from .models import Order\n\n\ndef noted():\n"
            "    return Order.objects.filter(note='')\n",
        },
        own_app=True,
    ),
    Case(
        "d_model_names",
        ("sql-remove", "sql-rename", "sql-still-named"),
        [
            "migrations.RunSQL('ALTER TABLE {app}_order DROP COLUMN number', migrations.RunSQL.noop)",
            "migrations.RunSQL('ALTER TABLE {app}_tiny RENAME TO {app}_small', migrations.RunSQL.noop)",
        ],
        files={"{app}/models.py": MODELS},
        own_app=True,
    ),
    Case(
        "d_made_again",
        ("sql-remove",),
        "migrations.RunSQL(['ALTER TABLE {app}_order DROP COLUMN number',"
        " 'ALTER TABLE {app}_order ADD COLUMN number bigint'], migrations.RunSQL.noop)",
        files={"{app}/models.py": MODELS},
        own_app=True,
    ),
    Case("d_no_reverse", ("irreversible",), "migrations.RunSQL('CREATE EXTENSION IF NOT EXISTS pg_trgm')"),
    # harmless
    one("h_concurrently", "", "CREATE INDEX CONCURRENTLY IF NOT EXISTS i ON shop_order (number)", atomic=False),
    one(
        "h_unique_under_condition",
        "",
        "CREATE UNIQUE INDEX CONCURRENTLY i ON shop_order (upper(code)) WHERE number > 5",
        atomic=False,
    ),
    one(
        "h_unique_of_empty_column",
        "",
        "ALTER TABLE shop_order ADD COLUMN IF NOT EXISTS a integer",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON shop_order (a)",
        atomic=False,
    ),
    one("h_unique", "", "CREATE UNIQUE INDEX CONCURRENTLY i ON shop_order (number, code)", atomic=False),
    one("h_index_tiny", "", "CREATE INDEX i ON shop_tiny (name)"),
    one("h_index_empty", "", "CREATE UNIQUE INDEX i ON shop_empty (name)"),
    one("h_drop_index", "", "DROP INDEX IF EXISTS i"),
    one(
        "h_new_table",
        "",
        NEW_TABLE,
        "CREATE INDEX i ON shop_log (order_id)",
        "ALTER TABLE shop_log ADD CONSTRAINT c CHECK (order_id > 0)",
        "ALTER TABLE shop_log ALTER order_id SET NOT NULL",
        "UPDATE shop_log SET at = now()",
        "DROP TABLE shop_log",
    ),
    one("h_new_table_text", "", NEW_TABLE, "CREATE INDEX i ON shop_log (order_id)", text=True),
    one("h_add_null", "", "ALTER TABLE shop_order ADD COLUMN a integer"),
    one(
        "h_add_default",
        "",
        "ALTER TABLE shop_order ADD COLUMN a integer NOT NULL DEFAULT 0",
        "ALTER TABLE shop_order ADD b timestamptz DEFAULT now() NOT NULL, ADD COLUMN c varchar(5) DEFAULT 'x'",
    ),
    one("h_add_reference", "", "ALTER TABLE shop_order ADD COLUMN other_id bigint REFERENCES shop_customer (id)"),
    one(
        "h_widen",
        "",
        "ALTER TABLE shop_order ALTER code TYPE varchar(80)",
        "ALTER TABLE shop_order ALTER COLUMN note SET DATA TYPE text",
    ),
    one(
        "h_type_of_view_made_again",
        "",
        "DROP VIEW shop_names",
        "ALTER TABLE shop_customer ALTER name TYPE text",
        "CREATE VIEW shop_names AS SELECT name FROM shop_customer",
    ),
    one("h_check_not_null_there", "", "ALTER TABLE shop_order ADD CONSTRAINT c CHECK (code IS NOT NULL) NOT VALID"),
    Case(
        "h_renamed_by_hand",
        (),
        [
            "migrations.RunSQL('CREATE TABLE shop_made (n int)', '')",
            "migrations.RunSQL('ALTER TABLE shop_made RENAME TO shop_moved', '')",
            "migrations.RunSQL('DROP TABLE shop_moved', '')",
            "migrations.RunSQL('ALTER TABLE shop_tiny ADD x int', '')",
            "migrations.RunSQL('ALTER TABLE shop_tiny RENAME x TO y', '')",
            "migrations.RunSQL('ALTER TABLE shop_tiny DROP y', '')",
        ],
    ),
    one("h_type_tiny", "", "ALTER TABLE shop_tiny ALTER name TYPE varchar(30)"),
    one("h_not_valid", "", "ALTER TABLE shop_order ADD CONSTRAINT c CHECK (number > 0) NOT VALID"),
    one(
        "h_foreign_not_valid",
        "",
        "ALTER TABLE shop_order ADD CONSTRAINT f FOREIGN KEY (number) REFERENCES shop_customer (id) NOT VALID",
    ),
    one("h_validate", "", "ALTER TABLE shop_order VALIDATE CONSTRAINT c"),
    one("h_using_index", "", "ALTER TABLE shop_order ADD CONSTRAINT u UNIQUE USING INDEX i"),
    one(
        "h_drop_not_null",
        "",
        (
            "ALTER TABLE shop_order ALTER number DROP NOT NULL, ALTER number SET DEFAULT 3, ALTER"
            " number SET STATISTICS 500"
        ),
    ),
    one("h_drop_constraint", "", "ALTER TABLE shop_order DROP CONSTRAINT IF EXISTS c"),
    one("h_view", "", "CREATE OR REPLACE VIEW v AS SELECT id FROM shop_order"),
    one("h_view_again", "", "DROP VIEW IF EXISTS v", "CREATE VIEW v AS SELECT id, number FROM shop_order"),
    one("h_materialized", "", "CREATE MATERIALIZED VIEW m AS SELECT 1 AS id", "REFRESH MATERIALIZED VIEW m"),
    one("h_function", "", AUDIT.replace("''", "'")),
    one(
        "h_trigger",
        "",
        AUDIT.replace("''", "'"),
        "CREATE TRIGGER t BEFORE INSERT ON shop_order FOR EACH ROW EXECUTE FUNCTION shop_audit()",
    ),
    one(
        "h_extension",
        "",
        "CREATE EXTENSION IF NOT EXISTS btree_gin",
        "COMMENT ON TABLE shop_order IS 'x; y'",
        "GRANT SELECT ON shop_order TO PUBLIC",
        "ANALYZE shop_order",
    ),
    one("h_enum", "", "CREATE TYPE mood AS ENUM ('a')", "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'b'"),
    one("h_update_one", "", "UPDATE shop_order SET code = 'x' WHERE id = 5"),
    one("h_update_part", "", "UPDATE shop_order SET fresh = 1 WHERE id BETWEEN 1 AND 1000", atomic=False),
    one("h_update_tiny", "", "UPDATE shop_tiny SET name = 'x'"),
    one("h_update_few_nulls", "", "UPDATE shop_order SET note = '' WHERE note IS NULL"),
    one(
        "h_insert",
        "",
        "INSERT INTO shop_tiny (name) VALUES ('a;b'), ('c') ON CONFLICT DO NOTHING",
        "SELECT setval('shop_tiny_id_seq', 100)",
    ),
    one("h_short_limit", "", "SET LOCAL lock_timeout = '1s'", "SET search_path TO public"),
    one("h_weak_lock", "", "LOCK TABLE shop_order IN ROW EXCLUSIVE MODE"),
    one("h_drop_missing", "", "DROP TABLE IF EXISTS never_there"),
    one("h_own_transaction", "", "BEGIN; UPDATE shop_tiny SET name = 'x'; COMMIT", atomic=False),
    one("h_delete_empty", "", "DELETE FROM shop_empty"),
    one("h_comments", "", "-- UPDATE shop_order SET code = ''", "/* DROP TABLE shop_order; */ SELECT 1"),
    Case(
        "h_new_table_before",
        (),
        [
            "migrations.RunSQL('CREATE TABLE shop_later (n int)', migrations.RunSQL.noop)",
            "migrations.RunSQL('CREATE INDEX i ON shop_later (n)', migrations.RunSQL.noop)",
        ],
    ),
    Case(
        "h_reversed", (), "migrations.RunSQL([('UPDATE shop_tiny SET name = %s WHERE id = %s', ['x', 1])], 'SELECT 1')"
    ),
]


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, django_python: Callable[[str], Path]
) -> Iterator[Judged]:
    database = postgres.create_database()
    made = Project(tmp_path_factory.mktemp("sql-rules") / "project", django_python("5.2"), postgres, database)
    with judged(made, CASES) as everything:
        yield everything
    postgres.drop_database(database)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_a_statement_does(found: Judged, case: Case) -> None:
    assert rules_of(found.findings(case)) == case.expected


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize(
    "name",
    [
        "d_duplicates",
        "d_duplicates_concurrently",
        "d_duplicate_expressions",
        "d_duplicate_under_condition",
        "d_type_misfit",
        "d_concurrently",
        "d_not_null",
        "d_set_not_null_nulls",
        "d_check_violated",
        "d_type_of_view",
        "d_validate_old",
        "d_validate_key",
        "d_validate_later",
        "d_key_of_two",
    ],
)
def test_what_the_facts_prove_to_fail_is_blocked(found: Judged, name: str) -> None:
    assert "blocked" in {finding.severity for finding in found.findings(named(name))}


@pytest.mark.parametrize("name", ["h_index_tiny", "h_update_tiny", "h_widen", "h_update_few_nulls", "h_drop_missing"])
def test_what_only_a_fact_makes_harmless_is_named_without_facts(found: Judged, name: str) -> None:
    assert found.without_database(named(name))


@pytest.mark.parametrize("name", ["h_add_default", "h_not_valid", "h_new_table", "h_concurrently", "h_update_one"])
def test_what_is_harmless_by_itself_needs_no_facts(found: Judged, name: str) -> None:
    assert found.without_database(named(name)) == []


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("d_unique_index", NoDatabase()),
        ("h_unique", NoDatabase()),
        ("d_unique", NoDatabase()),
        ("d_check", NoDatabase()),
        ("d_foreign_key", NoDatabase()),
        ("d_set_not_null", NoDatabase()),
        ("d_type_narrow", NoDatabase()),
        ("d_duplicate_expressions", NoDatabase()),
        ("d_unique_of_column_just_filled", None),
    ],
)
def test_what_rows_may_make_fail_is_said_where_nobody_asked_them(
    found: Judged, name: str, facts: NoDatabase | None
) -> None:
    open_ones = [finding for finding in found.findings(named(name), facts) if finding.severity == "unknown"]
    assert [finding.harm for finding in open_ones] == ["fails"]
    assert "not known here" in open_ones[0].message


def test_lines_of_the_new_code_that_name_what_sql_takes_away_are_told(found: Judged) -> None:
    [finding] = [each for each in found.findings(named("d_still_named")) if each.rule == "sql-still-named"]
    assert (finding.file, finding.line, finding.harm) == ("d_still_named/reports.py", 5, "new code")
    assert "Order.objects.filter" in " ".join(finding.evidence)
    told = [each.message for each in found.findings(named("d_model_names")) if each.rule == "sql-still-named"]
    assert len(told) == 2


def test_lines_of_the_old_code_are_told(found: Judged, tmp_path: Path) -> None:
    case = named("d_still_named")
    old = tmp_path / case.app
    (old / "migrations").mkdir(parents=True)
    (old / "migrations" / "__init__.py").touch()
    (old / "models.py").write_text(MODELS.replace("number", "note"), encoding="utf-8")
    pending = tuple(each for each in found.plan.pending if each.name in case.migrations)
    plan = found.plan.model_copy(update={"pending": pending})
    findings = judge(plan, NoDatabase(), found.home, tmp_path).findings
    [finding] = [each for each in findings if each.rule == "sql-remove"]
    assert f"{case.app}/models.py:6" in " ".join(finding.evidence)


def test_the_index_is_proposed_as_it_is_written_and_with_a_way_back(found: Judged) -> None:
    [finding] = found.findings(named("d_unique_index"))
    said = " ".join(finding.mitigation)
    assert "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY public.shop_order USING btree (number)" in said
    assert "reverse_sql=" in said


def test_a_finding_names_file_line_statement_and_what_to_write_instead(found: Judged) -> None:
    [finding] = found.findings(named("d_index"))
    assert finding.file is not None
    assert finding.line is not None
    line = (found.home / finding.file).read_text(encoding="utf-8").splitlines()[finding.line - 1]
    assert "CREATE INDEX i ON shop_order (number)" in line
    assert "CREATE INDEX CONCURRENTLY i ON shop_order (number)" in " ".join(finding.mitigation)
    assert any("3,000" in sentence or "3000" in sentence for sentence in finding.evidence)


def test_what_a_set_of_statements_is_said_about_takes_one_squawk(found: Judged) -> None:
    names = {name for case in CASES if case.name in ("d_do", "d_nonsense", "d_database") for name in case.migrations}
    plan = found.plan.model_copy(update={"pending": tuple(one for one in found.plan.pending if one.name in names)})
    squawk._opinions.cache_clear()
    said = judge(plan, NoDatabase(), found.home).findings
    assert {"unjudged-sql", "squawk-ban-drop-database"} <= {finding.rule for finding in said}
    assert squawk._opinions.cache_info().misses == 1  # each is a process


def test_values_in_a_statement_are_not_repeated(found: Judged) -> None:
    secret = "UPDATE shop_order SET code = 'a secret' WHERE number > 1"
    [statement] = split(secret)
    assert "secret" not in statement.shown()


PIECES = [
    "ALTER TABLE",
    "ADD COLUMN",
    '"',
    "'",
    "$$",
    "/*",
    "*/",
    "--",
    ";",
    "(",
    ")",
    ",",
    "%s",
    "%(x)s",
    "UPDATE",
    "SET",
]
PIECES += [
    "WHERE",
    "id",
    "=",
    "CREATE",
    "INDEX",
    "ON",
    "TRIGGER",
    "EXECUTE FUNCTION",
    "DROP",
    "VIEW",
    "DEFAULT",
    "TYPE",
    "\\",
]
PIECES += [
    "WITH",
    "AS",
    "DELETE FROM",
    "MERGE INTO",
    "INSERT INTO",
    "FOREIGN KEY",
    "REFERENCES",
    "CHECK",
    "NOT",
    "NULL",
    "IN",
]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(), st.lists(st.sampled_from(PIECES)).map(" ".join), st.lists(st.sampled_from(PIECES)).map("".join)
    )
)
def test_any_text_has_a_judgement(text: str) -> None:
    for statement in split(text):
        assert statement.tokens
        assert actions(statement)
        assert statement.shown()
