"""§3 end to end: the flow, on a real Prefect server, a real application, database, bucket and repository."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from flows.staging import staging
from tasks.database.lock import advisory_lock
from tasks.release.errors import RefusedError, ReleaseInProgressError
from tasks.release.migration_set import hash_of
from tasks.store.bucket import Bucket
from tasks.store.evidence import newest
from tests.fix_app import Site
from tests.fix_prefect import PrefectServer

PICKY = """
from django.db import migrations


def pick(apps, schema_editor):
    if apps.get_model("documents", "Document").objects.filter(title="the one").first() is None:
        raise RuntimeError("no such document")


class Migration(migrations.Migration):
    dependencies = [("documents", "0003_category_index")]
    operations = [migrations.RunPython(pick, migrations.RunPython.noop)]
"""
V11 = {"documents.0002_document_category", "documents.0003_category_index"}


@pytest.fixture
def here(prefect_server: PrefectServer, served_site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site whose flow runs in this process, known to the server."""
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(served_site.directory))
    with prefect_server.runs_here():
        yield served_site


def test_a_release_goes_to_staging_and_no_secret_is_left_anywhere(
    served_by_worker: tuple[PrefectServer, Site], tmp_path: Path
) -> None:
    server, site = served_by_worker
    with _WatchedProcesses() as seen:
        _, lines = server.finish(server.start("v1.1"))

    release = next(site.ledger.newest())
    assert release.status == "finished"
    assert release.backup is not None
    assert release.verification is not None
    assert release.verification.level == "restored"
    assert release.verification.rows == release.backup.rows
    assert release.risk is not None
    assert (release.risk.level, release.risk.findings) == ("low", ())
    assert release.rehearsal is not None
    assert release.plan is not None
    assert [one.migration for one in release.rehearsal.migrations] == sorted(V11)
    assert all(one.backward_compatible and one.again_identical for one in release.rehearsal.migrations)
    proved = newest(Bucket(site.environment.storage), hash_of(release.plan))
    assert proved is not None
    assert (proved.release_id, proved.passed) == (release.id, True)
    assert release.applied is not None
    assert {migration.label for migration in release.applied.migrations} == V11
    assert site.applied() >= V11
    assert {run.attempts for run in release.stages.values()} == {1}
    assert httpx.get(f"{site.url}/api/health").json()["release"] == site.commit_of("v1.1")
    assert any("documents.0002_document_category is being applied" in line for line in lines)

    data = _artifacts(server)
    assert "```mermaid\n" in data["release-staging"]
    assert "\ngantt\n" in data["release-staging"]
    assert "AccessExclusiveLock" in data["rehearsal-staging"]
    assert "v1.1 is on staging" in data["release-staging"]
    assert 'ADD COLUMN "category"' in data["release-staging"]
    assert data["migrate-staging"] == 100.0
    assert "documents.0003_category_index" in data["showmigrations-staging"]

    environment = site.environment
    assert environment.database.password
    assert environment.storage.secret_key
    for secret in (environment.database.password.get_secret_value(), environment.storage.secret_key.get_secret_value()):
        needle = secret.encode()
        assert len(seen.command_lines) > 20
        assert not [line for line in seen.command_lines if needle in line]
        assert needle not in _dump(server, tmp_path)
        for log in [
            *server.state_dir.glob("logs/*"),
            *(server.state_dir / "prefect").rglob("*"),
            *tmp_path.glob("*.log"),
        ]:
            assert not log.is_file() or needle not in log.read_bytes(), log
        bucket = Bucket(environment.storage)
        for key in bucket.keys(environment.storage.prefix):
            stored = bucket.read(key)
            assert stored
            assert needle not in stored.body, key


def test_a_dry_run_changes_nothing(here: Site) -> None:
    before = here.checkout.commit
    state = staging("v1.1", dry_run=True, return_state=True)
    assert state.message == "dry run of v1.1: 2 pending"
    assert list(here.ledger.newest()) == []
    bucket = Bucket(here.environment.storage)
    assert list(bucket.keys(here.environment.storage.prefix)) == []
    assert here.checkout.commit == before
    assert not here.applied() & V11


def test_what_is_blocked_is_refused_before_anything_is_touched(here: Site, prefect_server: PrefectServer) -> None:
    staging("v1.1", return_state=True)
    with pytest.raises(RefusedError, match=r"v1\.2-not-null is blocked"):
        staging("v1.2-not-null")
    failed = next(here.ledger.newest())
    assert failed.status == "failed"
    assert failed.risk is not None
    assert failed.risk.level == "blocked"
    assert {finding.rule for finding in failed.risk.findings} >= {"null-values"}
    assert failed.backup is None
    assert here.checkout.commit == here.commit_of("v1.1")
    assert "null-values" in _artifacts(prefect_server)["risk-staging"]

    state = staging("develop", return_state=True)
    assert state.is_completed()
    assert next(here.ledger.newest()).status == "finished"


def test_what_fails_on_the_restored_backup_goes_no_further(here: Site, prefect_server: PrefectServer) -> None:
    """No rule can know what a data migration meets."""
    here.publish({"apps/documents/migrations/0004_picky.py": PICKY}, on="v1.1", tag="v1.2-picky")
    here.check_out("v1.1")
    here.manage("migrate")
    with pytest.raises(RefusedError, match=r"documents\.0004_picky on the backup: .*no such document"):
        staging("v1.2-picky")
    failed = next(here.ledger.newest())
    assert failed.verification is not None
    assert failed.rehearsal is not None
    assert failed.code is None
    assert "documents.0004_picky" not in here.applied()
    assert "no such document" in _artifacts(prefect_server)["release-staging"]
    assert not here.psql("SELECT datname FROM pg_database WHERE datname LIKE 'rb\\_scratch%%'")


def test_two_releases_at_once_are_refused(here: Site) -> None:
    with (
        advisory_lock(here.environment.database, "release", "v0.9 by somebody"),
        pytest.raises(ReleaseInProgressError, match=r"v0\.9 by somebody"),
    ):
        staging("v1.1")
    assert list(here.ledger.newest()) == []


def test_another_chapters_environment_is_refused(here: Site) -> None:
    here.configure(kind="production")
    with pytest.raises(RefusedError, match="deploys to staging only"):
        staging("v1.1")
    assert list(here.ledger.newest()) == []


def test_a_finished_release_is_not_repeated(here: Site) -> None:
    staging("v1.1", return_state=True)
    first = next(here.ledger.newest())
    staging("v1.1", release_id=first.id, return_state=True)
    assert next(here.ledger.newest()).stages == first.stages


def _artifacts(server: PrefectServer) -> dict[str, Any]:
    """The newest artifact of each key."""
    found = httpx.post(f"{server.api}/artifacts/latest/filter", json={}).json()
    return {artifact["key"]: artifact["data"] for artifact in found}


class _WatchedProcesses:
    """Every command line of the machine while the block runs, looked at again and again as `ps` would."""

    def __init__(self) -> None:
        self.command_lines: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _WatchedProcesses:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.command_lines.add(entry.read_bytes())
                except OSError:
                    continue


def _dump(server: PrefectServer, tmp_path: Path) -> bytes:
    """Everything that the Prefect server knows: its whole database as text."""
    target = tmp_path / "prefect.sql"
    if not target.exists():
        with psycopg.connect(server.database) as connection, target.open("wb") as file:
            tables = connection.execute(
                "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
            ).fetchall()
            for (table,) in tables:
                with connection.cursor().copy(f"COPY public.{table} TO STDOUT".encode()) as rows:
                    for row in rows:
                        file.write(row)
    content = target.read_bytes()
    assert b"v1.1-to-staging" in content
    return content


def test_the_dump_of_prefects_database_would_show_a_secret(prefect_server: PrefectServer, tmp_path: Path) -> None:
    """The search above would find what is there."""
    httpx.post(f"{prefect_server.api}/variables/", json={"name": "marker", "value": "v1.1-to-staging needle"})
    assert b"needle" in _dump(prefect_server, tmp_path)
