"""A watch of the example application under a small load: good and bad releases, and what is not their fault."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.maintenance.flag import add_flag, remove_flag
from tasks.monitor.watch import Watch
from tasks.release.errors import ReleaseInProgressError
from tests.fix_app import Kit, Site
from tests.fix_postgres import PostgresServer
from tests.fix_prefect import until
from tests.fix_s3 import S3Server
from tests.tasks.monitor.scene import configured, load, past, released, serve, settle_soon, talked_about, watched


@pytest.fixture(scope="module")
def site(
    postgres: PostgresServer,
    s3: S3Server,
    sites_bucket: str,
    chatbot_history: Path,
    chatbot_python: Path,
    chatbot_template: Callable[[PostgresServer], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A site with a past, which serves v1.1 at first."""
    home = tmp_path_factory.mktemp("watched")
    kit = Kit(postgres, s3, sites_bucket, chatbot_history, chatbot_python, chatbot_template)
    with pytest.MonkeyPatch.context() as patch, kit.site("staging", home, chatbot_history) as site:
        settle_soon(patch)
        configured(site)
        talked_about(site)
        serve(site, "v1.1")
        past(site, datetime.now(UTC))
        yield site


@contextmanager
def hog(processes: int) -> Iterator[None]:
    """Processes that take all the time of the machine."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_a_good_release_passes_and_maintenance_mode_is_left_out(site: Site) -> None:
    flag_file = site.app / ".env"
    configured(site, watch_s=6)
    site.configure(maintenance={"flag_file": str(flag_file), "check_path": "/api/documents"})
    record = released(site, "v1.1", "0003_category_index")

    def maintain(watch: Watch) -> None:
        if watch.state.judged >= 3 and not watch.state.maintained:
            add_flag(flag_file, "MAINTENANCE_MODE=true")
        if watch.state.maintained >= 2:
            remove_flag(flag_file, "MAINTENANCE_MODE=true")

    with load(site):
        verdict = watched(site, record, maintain)
    assert verdict.outcome == "passed", verdict
    assert verdict.intervals == 12
    assert 2 <= verdict.maintained < 6
    assert site.ledger.load(record.id).status == "finished"


def test_a_slow_machine_is_not_the_releases_fault(site: Site) -> None:
    configured(site, watch_s=4)
    record = released(site, "v1.1", "0003_category_index")
    with load(site), hog(2):
        verdict = watched(site, record)
    assert verdict.outcome in ("inconclusive", "passed"), verdict
    assert verdict.blame is None


def test_without_traffic_nothing_is_said(site: Site) -> None:
    configured(site, watch_s=2)
    record = released(site, "v1.1", "0003_category_index")
    verdict = watched(site, record)
    assert verdict.outcome == "inconclusive", verdict
    assert verdict.intervals == 8  # twice as long as asked for: it waited for traffic


def test_whoever_goes_on_stands_where_the_dead_one_stopped(site: Site) -> None:
    configured(site, watch_s=4)
    record = released(site, "v1.1", "0003_category_index")
    with load(site):
        first = Watch.open(site.environment, record)
        first.begin(datetime.now(UTC))
        until(lambda: first.due_s(datetime.now(UTC)) < -1, "some intervals")
        first.advance(datetime.now(UTC))
        assert first.state.judged >= 2

        second = Watch.open(site.environment, record)
        assert second.state == first.state
        assert second.normal == first.normal
        until(lambda: second.due_s(datetime.now(UTC)) < -1, "a while in which nobody watches")
        second.advance(datetime.now(UTC))
        seen = [point.total for point in second.state.series["log.errors@share"]]
        assert second.state.judged == len(seen) >= first.state.judged + 2

        with pytest.raises(ReleaseInProgressError, match="watched by another run"):
            first.advance(datetime.now(UTC))


def test_a_service_that_is_down_is_convicted_without_any_history(site: Site) -> None:
    prefix = site.environment.storage.prefix
    site.configure(storage={"prefix": f"{prefix}-new"})
    try:
        record = released(site, "v1.1", "0003_category_index")
        site.stop_service()
        verdict = watched(site, record)
    finally:
        site.configure(storage={"prefix": prefix})
    assert verdict.outcome == "convicted", verdict
    assert verdict.intervals < 6
    assert verdict.may_roll_back


def test_a_release_with_errors_is_convicted_and_blamed_on_its_migration(site: Site) -> None:
    configured(site)
    record = released(site, "v1.2-errors", "0004_document_experiment")
    with load(site):
        verdict = watched(site, record)
    assert verdict.outcome == "convicted", verdict
    assert verdict.blame is not None
    assert verdict.blame.migration == "documents.0004_document_experiment"
    assert verdict.blame.relation == "documents_document"
    assert "/api/documents" in verdict.blame.what
    stored = site.ledger.load(record.id)
    assert (stored.status, stored.verdict) == ("convicted", verdict)
    assert not verdict.may_roll_back
    assert "not tried yet" in verdict.why_not


def test_a_slow_release_is_convicted_and_blamed_on_its_migration(site: Site) -> None:
    configured(site)
    record = released(site, "v1.2-slow", "0004_pinned_conversation")
    with load(site):
        verdict = watched(site, record)
    assert verdict.outcome == "convicted", verdict
    assert verdict.blame is not None
    assert verdict.blame.migration == "documents.0004_pinned_conversation"
    assert verdict.blame.what == "response time of /api/documents"
    assert verdict.blame.began_at is not None
    assert abs((verdict.blame.began_at - verdict.began_at).total_seconds()) < 3
