"""What a migration leaves behind in a real catalogue."""

from __future__ import annotations

from tasks.monitor.checks import look
from tests.builders import migration, plan
from tests.fix_app import Site

OPERATION = {"operation": "AddField", "table": "documents_document"}


def test_what_a_migration_leaves_behind_is_found_and_statistics_are_made(staging_site: Site) -> None:
    sql = "ALTER TABLE documents_document ADD CONSTRAINT words CHECK (word_count >= 0) NOT VALID"
    made = migration("documents.0009_x", operations=(OPERATION,), sql={"forward": forward(sql), "backward": forward()})
    planned = plan(pending=(made,))
    environment = staging_site.environment
    staging_site.psql("ANALYZE documents_document")
    clean, first = look(environment, planned, {}, ())
    assert clean == ()

    staging_site.psql("CREATE INDEX broken ON documents_document (title)")
    staging_site.psql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass")
    staging_site.psql(sql)
    staging_site.psql("ALTER TABLE documents_document ADD COLUMN extra int")
    staging_site.psql("ALTER TABLE documents_document ADD CONSTRAINT other CHECK (id > 0) NOT VALID")
    staging_site.psql("SELECT setval(pg_get_serial_sequence('documents_document', 'id'), 9000000000000000000)")
    found, _ = look(environment, planned, first, ())
    assert {one.rule: one.subject for one in found} == {
        "invalid-index": "public.broken",
        "unvalidated": "words",
        "sequence-end": "public.documents_document_id_seq",
        "no-statistics": "public.documents_document.extra",
    }
    assert {one.rule for one in found if one.mended} == {"no-statistics"}
    assert not any(one.convicts for one in found)
    again, _ = look(environment, planned, first, ())
    assert "no-statistics" not in {one.rule for one in again}


def test_a_table_that_lost_its_index_scans_convicts(staging_site: Site) -> None:
    planned = plan(pending=(migration("documents.0009_x", operations=(OPERATION,)),))
    environment, table = staging_site.environment, "public.documents_document"
    staging_site.psql("CREATE TABLE more AS SELECT * FROM documents_document")
    staging_site.psql("UPDATE pg_class SET reltuples = 20000 WHERE oid = 'documents_document'::regclass")
    _, first = look(environment, planned, {}, [table])
    for _ in range(12):
        staging_site.psql("SELECT count(*) FROM documents_document WHERE body LIKE '%%needle%%'")
    found, _ = look(environment, planned, first, [table])
    assert [one.subject for one in found if one.convicts] == [table]
    assert not [one for one in look(environment, planned, first, [])[0] if one.convicts]
    # A rewrite gives the table a new file, whose counters are another series.
    rewritten = {table: (1, *first[table][1:])}
    assert not [one for one in look(environment, planned, rewritten, [table])[0] if one.convicts]


def forward(*statements: str) -> dict[str, object]:
    return {"statements": statements, "partial": False, "because": ()}
