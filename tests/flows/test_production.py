"""§4 end to end: production takes what staging has proved, in the order that the rehearsal found."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from prefect.settings import PREFECT_API_URL

from flows.production import production
from flows.staging import staging
from tasks.release.errors import RefusedError, RunbookError
from tests.fix_app import Site
from tests.fix_prefect import PrefectServer, until

pytestmark = pytest.mark.timeout(600)
CATEGORY, INDEX = "documents.0002_document_category", "documents.0003_category_index"


@pytest.fixture
def live(
    prefect_server: PrefectServer, staging_site: Site, production_site: Site, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """A production whose flow runs in this process and asks nobody; staging stands beside it."""
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(production_site.directory))
    staging_site.start_service()
    production_site.configure(approval={"ask": "never"})
    with prefect_server.runs_here():
        yield production_site


def test_production_takes_what_staging_has_proved(live: Site, staging_site: Site) -> None:
    with pytest.raises(RefusedError, match="staging"):
        production("v1.1")
    assert live.checkout.commit == live.commit_of("v1.0")

    staging("v1.1", return_state=True)
    state = production("v1.1", return_state=True)
    assert state.is_completed(), state.message
    release = next(live.ledger.newest())
    assert release.status == "finished"
    assert release.gate is not None
    assert release.gate.evidence_release == next(staging_site.ledger.newest()).id
    assert {check.tick for check in release.gate.checks} == {"yes"}
    assert release.approval is not None
    assert not release.approval.asked
    assert release.rehearsal is not None
    assert release.maintenance is None
    assert live.applied() >= {CATEGORY, INDEX}
    applied, reloaded = release.stages["applied"], release.stages["reloaded"]
    assert applied.ended_at is not None
    assert applied.ended_at <= reloaded.began_at
    assert httpx.get(f"{live.url}/api/health").json()["release"] == live.commit_of("v1.1")


def test_what_the_serving_code_minds_comes_after_the_new_code(live: Site, staging_site: Site) -> None:
    for site in (staging_site, live):
        site.check_out("v1.1")
        site.manage("migrate")
        site.stop_service()
        site.start_service()
        site.psql("UPDATE documents_document SET summary = '' WHERE summary IS NULL")
    staging("v1.2-not-null", return_state=True)
    state = production("v1.2-not-null", return_state=True)
    assert state.is_completed(), state.message
    release = next(live.ledger.newest())
    applied, reloaded = release.stages["applied"], release.stages["reloaded"]
    assert reloaded.ended_at is not None
    assert reloaded.ended_at <= applied.began_at
    assert release.maintenance is None


def test_it_is_shut_while_the_checklist_demands_it_and_a_failure_opens_it_again(live: Site) -> None:
    live.configure(risk={"blocking_s": 0.000001}, app={"reload": ["false"]})
    staging("v1.1", return_state=True)
    with _answers(live, "/api/documents") as seen, pytest.raises(RunbookError, match="reload"):
        production("v1.1")
    release = next(live.ledger.newest())
    assert release.status == "failed"
    assert 503 in seen
    assert httpx.get(f"{live.url}/api/documents").status_code == 200
    assert "MAINTENANCE_MODE" not in (live.app / ".env").read_text(encoding="utf-8")

    live.configure(app={"reload": ["{python}", "config/reload.py"]})
    with _answers(live, "/api/documents") as seen:
        state = production("v1.1", return_state=True)
    assert state.is_completed(), state.message
    assert 503 in seen
    release = next(live.ledger.newest())
    assert release.maintenance is not None
    assert release.maintenance.needed
    assert release.reopened is not None
    assert httpx.get(f"{live.url}/api/documents").status_code == 200


def test_a_dry_run_says_what_each_step_would_do_and_does_nothing(live: Site) -> None:
    live.configure(gate={"evidence_from": "nowhere"}, approval={"ask": "always"})
    state = production("v1.1", dry_run=True, return_state=True)
    assert state.is_completed(), state.message
    assert not list(live.ledger.newest())
    assert live.checkout.commit == live.commit_of("v1.0")
    [shown] = _artifacts("dry-run-production")
    assert "refuse: 1 of 9 prerequisites do not hold" in shown
    assert "there is no environment 'nowhere'" in shown.replace("&#39;", "'")
    assert shown.count("ask a person for an approval") == 1
    assert "switch maintenance mode on by flag in" in shown
    assert "switch maintenance mode off" in shown


def _artifacts(key: str) -> list[str]:
    """What was published by this key, the newest first."""
    wanted = {"artifacts": {"key": {"any_": [key]}}, "limit": 1, "sort": "CREATED_DESC"}
    found = httpx.post(f"{PREFECT_API_URL.value()}/artifacts/filter", json=wanted, trust_env=False)
    return [one["data"] for one in found.raise_for_status().json()]


@contextmanager
def _answers(site: Site, path: str) -> Iterator[set[int]]:
    """The statuses that requests are answered with while the block runs."""
    seen: set[int] = set()
    ended = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=site.url, timeout=10, trust_env=False) as client:
            while not ended.is_set():
                try:
                    seen.add(client.get(path).status_code)
                except httpx.HTTPError:
                    seen.add(0)
                ended.wait(0.02)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        until(lambda: 200 in seen, "the application answers")
        yield seen
    finally:
        ended.set()
        thread.join()
