"""The example application's releases, each judged for what is wrong with it."""

from __future__ import annotations

import pytest

from tasks.app.candidate import prepare, serving
from tasks.app.probing import plan
from tasks.risk.assess import assess
from tests.fix_app import Site

# What docs/example.md says is wrong, and the level of it.
EXPECTED = {
    "v1.2-drop-column": ("high", {"remove-column", "lose-column"}),
    "v1.2-rename-column": ("high", {"rename-column"}),
    "v1.2-not-null": ("blocked", {"null-values"}),
    "v1.2-unique": ("blocked", {"duplicate-values"}),
    "v1.2-plain-index": ("medium", {"add-index"}),
    "v1.2-data-migration": ("high", {"unbatched-data-migration"}),
    "v1.2-slow": ("low", set()),
    "v1.2-errors": ("low", set()),
    "v1.2-irreversible": ("high", {"irreversible", "unbatched-data-migration"}),
}


@pytest.mark.timeout(300)
def test_each_release_is_named_for_what_is_wrong_with_it(staging_site: Site) -> None:
    staging_site.check_out("v1.1")
    staging_site.manage("migrate")
    _fill(staging_site)
    environment = staging_site.environment
    found = {}
    for tag in EXPECTED:
        candidate = prepare(environment, staging_site.commit_of(tag), lambda _: None)
        risk = assess(environment, plan(environment, candidate), candidate, serving(environment))
        found[tag] = (risk.level, {finding.rule for finding in risk.findings})
    for tag, (level, rules) in EXPECTED.items():
        assert found[tag][0] == level, (tag, found[tag])
        assert found[tag][1] >= rules, (tag, found[tag])
        assert bool(found[tag][1]) == bool(rules), (tag, found[tag])


def _fill(site: Site) -> None:
    """Every document a hundred times: a small table would be no reason to wait for anything."""
    [(columns,)] = site.psql(
        "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns"
        " WHERE table_name = 'documents_document' AND column_name NOT IN ('id', 'slug')"
    )
    site.psql(
        f"INSERT INTO documents_document ({columns}, slug)"
        f" SELECT {columns}, gen_random_uuid()::text FROM documents_document, generate_series(1, 100)"
    )
