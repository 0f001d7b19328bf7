"""The scheduled collection as Prefect runs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from flows.follow import start
from tasks.signals.history import read
from tasks.store.bucket import Bucket
from tests.fix_app import Site
from tests.fix_prefect import PrefectServer


def test_the_deployment_keeps_what_an_application_tells(served_by_worker: tuple[PrefectServer, Site]) -> None:
    prefect, site = served_by_worker
    log = site.app.with_name(f"{site.app.name}-django.log")
    site.configure(monitor={"interval_s": 1, "logs": [{"path": str(log)}]})
    for _ in range(3):
        httpx.get(f"{site.url}/api/documents", trust_env=False).raise_for_status()
    with httpx.Client(base_url=prefect.api, timeout=30) as api:
        run = start(api, "collect-baseline/staging", "test-baseline", {})
    run, lines = prefect.finish(run)
    assert not [line for line in lines if "WARNING" in line]
    now = datetime.now(UTC)
    found = read(Bucket(site.environment.storage), now - timedelta(hours=1), now)
    assert found[found["metric"].str.startswith("log.errors:")]["total"].sum() >= 3
    assert set(found[found["metric"].str.startswith("probe.errors")]["metric"]) == {
        "probe.errors:/api/documents",
        "probe.errors:/api/health",
    }
    assert "database.connections" in set(found["metric"])
