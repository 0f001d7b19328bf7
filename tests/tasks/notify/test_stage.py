"""The stages of notices, through a real notification block of a real Prefect server."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock, SlackWebhook
from prefect.blocks.system import Secret

from deployments.embedded.ports import LOOPBACK
from tasks.notify.stage import announce, notify, tell
from tasks.notify.text import trouble
from tasks.release.decisions import Told
from tasks.release.environment import Environment, load
from tasks.release.order import Order, Preview
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger
from tests import builders
from tests.fix_prefect import PrefectServer
from tests.fix_s3 import S3Server

TOKEN = "hook-t0ken"
_numbers = itertools.count(1)


@dataclass
class Hook:
    """A webhook that takes down what it is sent; `says` are the statuses of the next answers, before 200."""

    port: int = 0
    says: list[int] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            status = hook.says.pop(0) if hook.says else 200
            if status == 200:
                hook.bodies.append(body)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    http = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    hook.port = http.server_address[1]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield hook
    http.shutdown()
    thread.join(5)
    http.server_close()


@pytest.fixture
def name(prefect_server: PrefectServer, hook: Hook) -> Iterator[str]:
    """Of the blocks that lead to the webhook."""
    name = f"team-{next(_numbers)}"
    url = f"http://{LOOPBACK}:{hook.port}/{TOKEN}"
    with prefect_server.runs_here():
        data = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(name=name, url=url, json_data=data).save(name)
        # What Apprise calls a JSON address: a Slack block takes any that it knows.
        SlackWebhook(url=url.replace("http://", "json://")).save(name)
        Secret(value="x").save(name)
        yield name


@pytest.fixture
def environment(s3: S3Server, bucket: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    keys = {"access_key": s3.access_key, "secret_key": s3.secret_key}
    for key, value in keys.items():
        (tmp_path / key).write_text(value)
    storage = {"endpoint": s3.endpoint, "bucket": bucket, **{key: {"file": key} for key in keys}}
    channels = [
        {"name": "hook", "block": f"custom-webhook/{name}"},
        {"name": "chat", "block": f"slack-webhook/{name}"},
        {"name": "quiet", "block": f"custom-webhook/{name}", "occasions": ["alarm"]},
        {"name": "none", "block": "custom-webhook/nowhere"},
        {"name": "secret", "block": f"secret/{name}"},
    ]
    content = builders.content(storage=storage, notify={"channels": channels})
    (tmp_path / "staging.toml").write_text(tomli_w.dumps(content))
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(tmp_path))
    return load("staging")


@pytest.fixture
def ledger(environment: Environment) -> Ledger:
    return Ledger(Bucket(environment.storage), environment.name)


@flow
def announcing(order: Order) -> Told | Preview:
    return announce(order)


@flow
def telling(order: Order) -> Told | Preview:
    return tell(order)


def order(release: Release, *, dry_run: bool = False) -> Order:
    return Order(environment="staging", ref=release.ref, commit=release.commit, release_id=release.id, dry_run=dry_run)


def test_channels_are_told_and_their_failures_stop_nothing(
    environment: Environment, ledger: Ledger, hook: Hook
) -> None:
    release = ledger.create(builders.release(plan=builders.plan("documents.0004_pinned"), risk=builders.risk()))
    told = announcing(order(release))
    assert isinstance(told, Told)
    came = {one.to: (one.ok, one.error) for one in told.deliveries}
    assert came == {
        "hook": (True, ""),
        "chat": (True, ""),
        "none": (False, "there is no block custom-webhook/nowhere on the Prefect server"),
        "secret": (False, f"the block {environment.notify.channels[4].block} is a Secret, which sends no notices"),
    }
    by_hook = next(json.loads(body) for body in hook.bodies if "subject" in json.loads(body))
    assert by_hook["subject"] == "Staging migration v1.1: documents.0004_pinned, 2026-11-22 03:00 UTC"
    assert "**Migrations:** documents.0004_pinned" in by_hook["body"]
    assert "/runs/flow-run/" in by_hook["body"]
    assert "migrate documents zero" in by_hook["body"]  # the rollback procedure
    assert len(hook.bodies) == 2
    record = ledger.load(release.id)
    assert set(record.notices) == set(told.deliveries)
    assert announcing(order(release)) == told  # a stage that is finished is not repeated
    assert len(hook.bodies) == 2


def test_a_stage_that_died_does_not_tell_twice(ledger: Ledger, hook: Hook) -> None:
    """Killed after the deliveries, before the stage was finished: they stand in the record already."""
    release = ledger.create(builders.release(plan=builders.plan(), risk=builders.risk()))
    told = telling(order(release))
    assert isinstance(told, Told)
    ledger.update(release.id, lambda record: record.model_copy(update={"told": None}))
    again = telling(order(release))
    assert isinstance(again, Told)
    assert [one for one in again.deliveries if one.ok] == [one for one in told.deliveries if one.ok]
    assert len(hook.bodies) == 2


def test_a_webhook_is_tried_again_where_that_may_help_and_its_address_is_not_told(
    environment: Environment, ledger: Ledger, hook: Hook
) -> None:
    release = ledger.create(builders.release())
    [channel, *_] = environment.notify.channels
    only = environment.model_copy(update={"notify": environment.notify.model_copy(update={"channels": [channel]})})
    lines: list[str] = []
    hook.says = [503]
    [passed] = notify(only, release.id, trouble(only, release, "first"), lines.append)
    assert (passed.ok, passed.tries) == (True, 2)
    hook.says = [404]
    [refused] = notify(
        only, release.id, trouble(only, release.model_copy(update={"ref": "v2"}), "second"), lines.append
    )
    assert (refused.ok, refused.tries) == (False, 1)
    assert refused.error.endswith("status 404")
    assert TOKEN not in refused.error + "".join(lines)


def test_a_dry_run_tells_nobody_and_finds_what_is_missing(ledger: Ledger, hook: Hook) -> None:
    preview = announcing(order(builders.release(), dry_run=True))
    assert isinstance(preview, Preview)
    assert "hook (custom-webhook/" in preview.would
    assert "quiet" not in preview.would
    assert preview.findings[0] == "there is no block custom-webhook/nowhere on the Prefect server"
    assert len(preview.findings) == 2
    assert hook.bodies == []
