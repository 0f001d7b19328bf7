"""The gate as a whole, between two real environments: what staging proved opens production."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tasks.gate.gate import Looked, refuse_another
from tasks.release.errors import RefusedError
from tasks.release.evidence import evidence_of
from tasks.release.plan import Plan
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tasks.store.evidence import keep
from tasks.store.ledger import now
from tests.builders import applied, plan, rehearsal, release, risk
from tests.fix_app import Kit, Site

LABEL = "documents.0002_document_category"
NAMES = {
    "release freeze", "branch", "CI status", "staging evidence", "drift", "replication", "longest transaction",
    "prepared transactions", "vacuum against wraparound",
}  # fmt: skip


@pytest.fixture
def places(
    kit: Kit, tmp_path: Path, chatbot_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Site, Site]]:
    """Staging and production at v1.0; neither serves."""
    with (
        kit.site("staging", tmp_path, chatbot_repository) as staging,
        kit.site("production", tmp_path, chatbot_repository) as production,
    ):
        monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(production.directory))
        yield staging, production


def proved(staging: Site, age: timedelta = timedelta(), **changes: Any) -> Release:
    """A release of staging that rehearsed the migration, with its evidence."""
    fields = {"plan": plan(LABEL), "risk": risk(labels=(LABEL,)), "rehearsal": rehearsal(), "status": "finished"}
    made = staging.ledger.create(release(**fields | changes))
    evidence = evidence_of(made).model_copy(update={"kept_at": now() - age})
    keep(Bucket(staging.environment.storage), evidence)
    return made


def looked(production: Site, planned: Plan | None = None, ref: str = "v1.1") -> Looked:
    production.fetch()
    return Looked(production.environment, planned or plan(LABEL), production.commit_of(ref), ref, now())


def said(found: Looked, name: str = "staging evidence") -> tuple[str, str]:
    [check] = [check for check in found.checks if check.name == name]
    return check.tick, check.evidence


def test_production_opens_on_what_staging_has_proved(places: tuple[Site, Site]) -> None:
    staging, production = places
    refused = looked(production)
    with pytest.raises(RefusedError, match="staging has not rehearsed these 1 migrations") as caught:
        refused.gated()
    assert "runbook deploy staging --ref v1.1" in caught.value.message
    assert not caught.value.retryable
    assert [check.name for check in refused.failing] == ["staging evidence"]
    assert {check.name for check in refused.checks} == NAMES
    assert said(looked(production, plan())) == ("yes", "not needed: no migration is pending")

    made = proved(staging)
    gated = looked(production).gated()
    assert (gated.evidence_release, gated.rehearsal) == (made.id, made.rehearsal)
    # Another content of the same migration, by name, is not what was rehearsed.
    [other] = plan(LABEL).pending
    changed = plan(LABEL, pending=(other.model_copy(update={"file_sha256": "f" * 64}),))
    assert said(looked(production, changed))[0] == "no"
    with pytest.raises(RefusedError, match="no longer those that were approved"):
        refuse_another(plan(LABEL), changed)
    refuse_another(plan(LABEL), plan(LABEL, planned_at=now()))


@pytest.mark.parametrize("status", ["failed", "running", "convicted"])
def test_a_release_that_did_not_get_through_is_no_evidence(places: tuple[Site, Site], status: str) -> None:
    staging, production = places
    proved(staging, status=status)
    tick, evidence = said(looked(production))
    assert (tick, f"and is {status}" in evidence) == ("no", True)
    # Unless a later one runs on the same migrations: it found them applied, so it had none to rehearse.
    listed = plan(LABEL).listed[0].model_copy(update={"applied": True})
    later = release(id="20261123-030000-later", status="finished", applied=applied(after=(listed,)))
    staging.ledger.create(later)
    assert said(looked(production)) == (
        "yes",
        f"release {release().id} of staging rehearsed them; release {later.id}, which runs on them, got through",
    )


def test_old_or_failed_evidence_does_not_count(places: tuple[Site, Site]) -> None:
    staging, production = places
    made = proved(staging, age=timedelta(days=15))
    assert said(looked(production))[0] == "no"
    production.configure(gate={"evidence_max_age_s": 16 * 86400})
    assert said(looked(production))[0] == "yes"
    bad = evidence_of(made).model_copy(update={"passed": False, "release_id": "20261124-030000-bad"})
    keep(Bucket(staging.environment.storage), bad)
    assert "did not pass" in said(looked(production))[1]


def test_every_mistake_is_told_at_once_and_the_world_is_asked(places: tuple[Site, Site]) -> None:
    staging, production = places
    proved(staging)
    (production.app / "manage.py").write_text("edited by hand")
    production.configure(
        gate={
            "longest_transaction_s": 0.001,
            "freezes": [{"begins": now(), "ends": now() + timedelta(hours=1), "reason": "sale"}],
        }
    )
    with psycopg.connect(production.server.dsn(production.database)) as holder:
        holder.execute("SELECT 1")
        found = looked(production)
    assert {check.name for check in found.failing} == {"branch", "release freeze", "longest transaction"}
    with pytest.raises(RefusedError, match="3 of 9 prerequisites do not hold") as caught:
        found.gated()
    assert all(check.mend in caught.value.message for check in found.failing)


def test_a_server_that_is_away_is_unknown_and_may_be_asked_again(places: tuple[Site, Site]) -> None:
    staging, production = places
    proved(staging)
    production.configure(database={"port": 1})
    found = looked(production)
    assert [(check.name, check.tick) for check in found.failing] == [("database", "unknown")]
    with pytest.raises(RefusedError) as caught:
        found.gated()
    assert caught.value.retryable
