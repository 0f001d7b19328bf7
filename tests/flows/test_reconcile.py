"""The sweep on real parts: what a killed process left, questions, watches, and a release that is well."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from prefect.client.schemas.objects import State

from deployments.embedded.ports import LOOPBACK, any_free
from flows.reconcile import reconcile
from tasks.database.lock import holder_of
from tasks.reconcile.memory import Memory, recall, remember
from tasks.reconcile.runs import FlowRun, left_running, mark_crashed, state_of
from tasks.release.decisions import Asked
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tests.builders import plan, release
from tests.fix_app import Site
from tests.fix_prefect import PrefectServer, until

APPLIED, PENDING = "documents.0001_initial", "documents.0002_document_category"
# A run that has switched maintenance mode on, and is killed.
DIES = """
import sys, time
from pathlib import Path
from tasks.database.lock import advisory_lock
from tasks.maintenance.switch import switch_on
from tasks.release.decisions import Closed
from tasks.release.environment import load
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger, now
from tasks.release.release import Release

environment = load("production")
ledger = Ledger(Bucket(environment.storage), "production")
with advisory_lock(environment.database, "release", "v1.1 by somebody"):
    record = ledger.create(Release.model_validate_json(sys.stdin.read()))
    close = lambda _: Closed(since=now(), how=switch_on(environment, print), needed=True)
    ledger.carry_out(record.id, "maintenance", close, print)
    ledger.update(record.id, lambda record: record.began("applied", now()))
    print("amid it", flush=True)
    time.sleep(600)
"""


class Post:
    """What was sent to a mail server."""

    def __init__(self) -> None:
        self.subjects: list[tuple[str, str]] = []
        self.texts: list[str] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        message = message_from_bytes(envelope.original_content or b"", policy=default)
        body = message.get_body(("plain",))
        self.subjects.append((message["To"], message["Subject"]))
        self.texts.append(body.get_content() if body else "")
        return "250 OK"

    def about(self, words: str) -> list[str]:
        """Who was written to with these words in the subject."""
        return [to for to, subject in self.subjects if words in " ".join(subject.split()).lower()]


@pytest.fixture
def mail() -> Iterator[tuple[Post, int]]:
    """A mail server: what it was sent, and its port."""
    post = Post()
    [port] = any_free(1)
    controller = Controller(post, hostname=LOOPBACK, port=port)
    controller.start()
    yield post, port
    controller.stop()


@pytest.fixture
def post(mail: tuple[Post, int]) -> Post:
    return mail[0]


@pytest.fixture
def site(
    prefect_server: PrefectServer, production_site: Site, mail: tuple[Post, int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """A production that serves, with people who can be written to; the flow runs in this process."""
    email = {"host": LOOPBACK, "port": mail[1], "security": "none", "sender": "runbook@example.com"}
    production_site.configure(
        notify={"channels": [{"name": "team", "email": {**email, "to": ["team@example.com"]}}]},
        contacts=[{"name": name, "email": f"{name}@example.com", "answer_within_s": 600} for name in ("ada", "ben")],
    )
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(production_site.directory))
    monkeypatch.setenv("PREFECT_API_URL", prefect_server.api)
    with prefect_server.runs_here():
        yield production_site


def sweep() -> State[Any]:
    return reconcile(environment="production", return_state=True)


def opened(**changes: Any) -> Release:
    """A release that had something to apply; with an id of its own, since the Prefect server is shared."""
    fields = {
        "id": f"20261122-030000-v1.1-{secrets.token_hex(3)}",
        "environment": "production",
        "plan": plan(APPLIED, PENDING),
        "created_at": datetime.now(UTC),
    }
    return release(**fields | changes)


def aged(site: Site, by: timedelta) -> None:
    """Make what the sweeps remember older, instead of waiting."""
    bucket = Bucket(site.environment.storage)
    memory, etag = recall(bucket)
    entries = {
        key: entry.model_copy(
            update={"since": entry.since - by, "acted_at": entry.acted_at - by if entry.acted_at else None}
        )
        for key, entry in memory.entries.items()
    }
    remember(bucket, Memory(entries=entries), etag)


def status_of(site: Site) -> int:
    return httpx.get(f"{site.url}/api/documents", trust_env=False).status_code


def artifacts(server: PrefectServer) -> list[str]:
    wanted = {"artifacts": {"key": {"any_": ["reconcile-production"]}}, "sort": "CREATED_DESC"}
    found = httpx.post(f"{server.api}/artifacts/filter", json=wanted).raise_for_status().json()
    return [artifact["data"] for artifact in found]


@pytest.fixture
def killed(site: Site) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the release lock, and the application shut; a test kills it."""
    process = subprocess.Popen(
        [sys.executable, "-c", DIES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(opened().model_dump_json())
    process.stdin.close()
    assert any("amid it" in line for line in process.stdout)
    yield process
    process.kill()
    process.wait(10)


def test_what_a_killed_run_left_is_put_right_and_told_once(
    prefect_server: PrefectServer, site: Site, killed: subprocess.Popen[str], post: Post
) -> None:
    # A release that is well is not touched, however often it is looked at.
    [before] = site.ledger.newest()
    pages = artifacts(prefect_server)
    for _ in range(2):
        assert sweep().message == "nothing is wrong"
    assert status_of(site) == 503
    assert list(site.ledger.newest()) == [before]
    assert not post.subjects
    assert artifacts(prefect_server) == pages

    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    with psycopg.connect(site.server.dsn(site.database), application_name="runbook: migrate x"):
        until(lambda: not lock_is_held(site), "the lock is free")
        assert sweep().is_completed()

        assert status_of(site) == 200
        [dead] = site.ledger.newest()
        assert dead.maintenance is None, "who takes it up must shut the application again"
        assert any("by the sweep" in one.what for one in dead.timeline)
        assert post.about("maintenance mode") == ["team@example.com"]
        assert f"A PART of its migrations: {APPLIED}. Not applied: {PENDING}" in post.texts[0]
        assert "seen to be off" in artifacts(prefect_server)[0]

        assert not post.about("died"), "the grace is not over"
        aged(site, timedelta(minutes=3))
        assert sweep().is_completed()
    assert post.about("died amid 'applied'") == ["team@example.com"]
    assert len(post.about("migrate x")) == 1
    aged(site, timedelta(days=1))
    told = len(post.subjects)
    assert sweep().is_completed()
    assert len(post.subjects) == told

    [dead] = site.ledger.newest()
    assert dead.status == "running", "the next run of the ref takes it up"
    assert any("its run died; told team" in one.what for one in dead.timeline)
    assert f"--release-id {dead.id}" in "".join(post.texts)


def lock_is_held(site: Site) -> bool:
    return holder_of(site.environment.database, "release") is not None


def test_what_a_person_shut_stays_shut(site: Site) -> None:
    site.ledger.create(opened().closed("finished", "finished", datetime.now(UTC)))
    with (site.app / ".env").open("a") as file:
        file.write("MAINTENANCE_MODE=true\n")
    until(lambda: status_of(site) == 503, "the application is shut")
    assert sweep().message == "nothing is wrong"
    assert status_of(site) == 503


def test_one_that_cannot_be_put_right_does_not_keep_the_others(site: Site, post: Post) -> None:
    site.configure(maintenance={"within_s": 0.3})
    with (site.app / ".env").open("a") as file:
        file.write("MAINTENANCE_MODE=yes\n")  # in words of somebody else, so that it stays
    until(lambda: status_of(site) == 503, "the application is shut")
    site.ledger.create(opened().began("maintenance", datetime.now(UTC)))
    state = sweep()
    assert state.is_failed()
    assert "503" in (state.message or "")
    aged(site, timedelta(minutes=3))
    assert sweep().is_failed()
    assert len(post.about("maintenance mode")) == 1, "told once, tried at every sweep"
    assert len(post.about("died")) == 1
    memory, _ = recall(Bucket(site.environment.storage))
    assert next(entry.times for key, entry in memory.entries.items() if key.startswith("maintenance")) == 2


def suspended(server: PrefectServer) -> str:
    """A flow run that is suspended; its id."""
    with httpx.Client(base_url=server.api, timeout=30) as api:
        deployment = api.get("/deployments/name/staging/staging").raise_for_status().json()["id"]
        body = {"parameters": {"ref": "v1.1"}, "state": {"type": "SCHEDULED"}}
        run = api.post(f"/deployments/{deployment}/create_flow_run", json=body).raise_for_status().json()["id"]
        state = {"state": {"type": "PAUSED", "name": "Suspended"}, "force": True}
        api.post(f"/flow_runs/{run}/set_state", json=state).raise_for_status()
    return str(run)


def asking(server: PrefectServer, site: Site, since: timedelta, left: timedelta) -> str:
    """A release that waits for an approval; the id of its run."""
    run, at = suspended(server), datetime.now(UTC)
    asked = Asked(flow_run_id=run, level="high", demands=("approval",), asked_at=at - since, expires_at=at + left)
    site.ledger.create(opened().asks(asked))
    return run


def test_a_question_goes_from_contact_to_contact_and_is_closed_when_nobody_answers(
    prefect_server: PrefectServer, site: Site, post: Post
) -> None:
    run = asking(prefect_server, site, since=timedelta(minutes=5), left=timedelta(hours=1))
    for _ in range(2):
        assert sweep().is_completed()
    assert post.about("approval wanted") == ["ada@example.com"]

    [record] = site.ledger.newest()
    assert record.asked
    earlier = record.asked.model_copy(update={"asked_at": record.asked.asked_at - timedelta(minutes=6)})
    site.ledger.update(record.id, lambda record: record.model_copy(update={"asked": earlier}))
    for _ in range(2):
        assert sweep().is_completed()
    assert post.about("approval wanted") == ["ada@example.com", "ben@example.com"]

    over = earlier.model_copy(update={"expires_at": datetime.now(UTC), "told": ("ada", "ben")})
    site.ledger.update(record.id, lambda record: record.model_copy(update={"asked": over}))
    for _ in range(2):
        assert sweep().is_completed()
    [record] = site.ledger.newest()
    assert record.status == "failed"
    assert "nobody approved" in record.timeline[-1].what
    state = httpx.get(f"{prefect_server.api}/flow_runs/{run}").json()["state"]
    assert state["type"] == "CANCELLED"
    assert post.about("nobody approved") == ["team@example.com"]
    assert status_of(site) == 200


def test_a_watch_whose_monitor_is_dead_goes_on(prefect_server: PrefectServer, site: Site, post: Post) -> None:
    deploy_monitor(prefect_server)
    site.configure(monitor={"watch_s": 7200, "interval_s": 60})
    began = datetime.now(UTC) - timedelta(minutes=5)
    record = opened(created_at=began).closed("watching", "is watched", began)
    site.ledger.create(record)
    for _ in range(2):
        assert sweep().is_completed()
    runs = monitors(prefect_server, record.id)
    assert len(runs) == 1
    assert runs[0]["parameters"] == {"environment": "production", "release_id": record.id}

    httpx.post(
        f"{prefect_server.api}/flow_runs/{runs[0]['id']}/set_state",
        json={"state": {"type": "CRASHED"}, "force": True},
    ).raise_for_status()
    aged(site, timedelta(minutes=5))
    assert sweep().is_completed()
    assert len(monitors(prefect_server, record.id)) == 2
    assert not post.subjects
    aged(site, timedelta(minutes=5))
    assert sweep().is_completed()
    assert len(monitors(prefect_server, record.id)) == 2, "one that no worker has taken yet is not asked for twice"
    assert len(post.about("nothing was seen of the watch")) == 1

    bucket = Bucket(site.environment.storage)
    bucket.write(site.environment.storage.key("watches", f"{record.id}.json"), b"{}")
    aged(site, timedelta(minutes=5))
    assert sweep().message == "nothing is wrong"


def deploy_monitor(server: PrefectServer) -> None:
    """Stand in for the monitor's deployment where it is not registered."""
    with httpx.Client(base_url=server.api, timeout=30) as api:
        if api.get("/deployments/name/monitor/production").status_code == httpx.codes.NOT_FOUND:
            flow = api.post("/flows/", json={"name": "monitor"}).raise_for_status().json()["id"]
            api.post("/deployments/", json={"name": "production", "flow_id": flow}).raise_for_status()


def monitors(server: PrefectServer, release_id: str) -> list[dict[str, Any]]:
    wanted = {"flows": {"name": {"any_": ["monitor"]}}}
    found = httpx.post(f"{server.api}/flow_runs/filter", json=wanted, timeout=30).raise_for_status().json()
    return [run for run in found if run["parameters"].get("release_id") == release_id]


def test_a_run_that_prefect_shows_as_running_is_known_to_have_crashed(prefect_server: PrefectServer) -> None:
    with httpx.Client(base_url=prefect_server.api, timeout=30) as api:
        flow = api.post("/flows/", json={"name": "production"}).raise_for_status().json()["id"]

        def shown(pid: str, **parameters: Any) -> str:
            body = {
                "flow_id": flow,
                "parameters": {"environment": "production", **parameters},
                "state": {"type": "RUNNING"},
            }
            run = str(api.post("/flow_runs/", json=body).raise_for_status().json()["id"])
            api.patch(f"/flow_runs/{run}", json={"infrastructure_pid": pid or None}).raise_for_status()
            return run

        with subprocess.Popen(["true"]) as gone:
            gone.wait()
        dead, reused, unknown = shown(str(gone.pid)), shown(str(os.getpid())), shown("")
        dry, elsewhere = shown(str(gone.pid), dry_run=True), shown(str(gone.pid), environment="another")
        alive = str(uuid.uuid4())
        mark = {**os.environ, "PREFECT__FLOW_RUN_ID": alive}
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=mark) as process:
            assert not mark_crashed(api, FlowRun(alive, "alive", str(process.pid)))
        for run in left_running(api, "production", "production", datetime.now(UTC) + timedelta(minutes=1)):
            mark_crashed(api, run)
        states = [state_of(api, run) for run in (dead, reused, unknown, dry, elsewhere)]
    assert states == ["CRASHED", "CRASHED", "RUNNING", "RUNNING", "RUNNING"]


def test_sweeps_are_scheduled_in_a_pool_of_their_own(prefect_server: PrefectServer) -> None:
    """Registered is not enough: the server's scheduler must make runs of it."""

    def scheduled() -> set[tuple[str, str]]:
        wanted = {"flows": {"name": {"any_": ["reconcile"]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        found = httpx.post(f"{prefect_server.api}/flow_runs/filter", json=wanted, timeout=30).raise_for_status().json()
        return {(run["parameters"]["environment"], run["work_pool_name"]) for run in found if run["auto_scheduled"]}

    with httpx.Client(base_url=prefect_server.api, timeout=30) as api:
        ours = [
            api.get(f"/deployments/name/reconcile/{name}").raise_for_status().json()["id"]
            for name in ("staging", "production")
        ]
        try:
            for deployment in ours:
                api.post(f"/deployments/{deployment}/resume_deployment").raise_for_status()
            wanted = {("staging", "rollback"), ("production", "rollback")}
            until(lambda: scheduled() == wanted, "sweeps of both are scheduled")
        finally:
            for deployment in ours:
                api.post(f"/deployments/{deployment}/pause_deployment").raise_for_status()
