"""The watch as a flow run: started by a deploying flow, killed, taken up again, and failing when it convicts."""

from __future__ import annotations

import json

import httpx
import pytest

from flows.follow import Run, follow, start
from tasks.monitor.stage import start_watch
from tasks.release.errors import RunbookError
from tasks.release.order import Order
from tasks.store.bucket import Bucket
from tests.fix_app import Site
from tests.fix_prefect import PrefectServer, until
from tests.tasks.monitor.scene import configured, released


def test_a_watch_survives_its_process_and_fails_when_the_service_breaks(
    served_by_worker: tuple[PrefectServer, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, site = served_by_worker
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(site.directory))
    configured(site, watch_s=600)
    record = released(site, "v1.0", "0001_initial")
    order = Order(environment="staging", ref="v1.0", commit=record.commit, release_id=record.id, dry_run=False)
    with server.runs_here():
        first = start_watch(order)
        assert start_watch(order) == first
    assert site.ledger.load(record.id).status == "watching"

    bucket = Bucket(site.environment.storage)
    key = bucket.storage.key("watches", f"{record.id}.json")

    def judged() -> int:
        stored = bucket.read(key)
        return int(json.loads(stored.body)["judged"]) if stored else 0

    until(lambda: judged() >= 2, "two intervals are judged")
    server.kill(Run(first, "watch", "RUNNING", ""))
    before = judged()

    with httpx.Client(base_url=server.api, timeout=30) as api:
        parameters = {"environment": "staging", "release_id": record.id}
        second = start(api, "monitor/staging", "again", parameters)
        until(lambda: judged() > before, "the watch goes on")
        assert follow(api, start(api, "monitor/staging", "third", parameters), print).message.startswith(
            "another watch"
        )
        site.stop_service()
        with pytest.raises(RunbookError, match=r"v1\.0 has broken staging: the service is down"):
            follow(api, second, print)
    assert server.state_of(second) == "FAILED"
    ended = site.ledger.load(record.id)
    assert ended.status == "convicted"
    assert ended.verdict is not None
    assert ended.verdict.intervals > before
    found = httpx.post(f"{server.api}/artifacts/latest/filter", json={}).json()
    report = next(one["data"] for one in found if one["key"] == "verdict-staging")
    assert "v1.0 does harm" in report
    assert "xychart-beta" in report
    assert ended.verdict.pictures[0] in report
    picture = bucket.read(ended.verdict.pictures[0])
    assert picture is not None
    assert picture.body.startswith(b"\x89PNG")
