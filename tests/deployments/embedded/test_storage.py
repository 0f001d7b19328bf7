"""The embedded S3 server: its bucket keeps versions, its objects outlive it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from deployments.embedded import status, up
from deployments.embedded.storage import Storage
from tests.deployments.embedded.conftest import named, wait_until
from tests.fix_s3 import S3Server


def test_bucket_keeps_versions_and_objects_survive_a_kill(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):  # nobody listens there, and nobody needs to
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    running = named(up(["s3"], state_dir), "s3")
    assert running.pid is not None
    assert running.port is not None
    keys = [(state_dir / "secrets" / f"s3.{name}").read_text() for name in ("access-key", "secret-key")]
    client = Storage("s3", state_dir / "s3", *keys).client(running.port)
    assert client.get_bucket_versioning(Bucket="runbook")["Status"] == "Enabled"
    client.put_object(Bucket="runbook", Key="kept", Body=b"content")

    kill(state_dir, running.pid)
    again = named(up(["s3"], state_dir), "s3")
    assert again.port == running.port
    assert client.get_object(Bucket="runbook", Key="kept")["Body"].read() == b"content"
    assert again.pid is not None
    kill(state_dir, again.pid)  # spares the teardown an orderly end of 15 s


def test_a_removed_bucket_gives_its_volumes_back(s3: S3Server) -> None:
    """The `bucket` of each test takes some; after sixty that stayed, the server answers 500."""
    bucket, client = s3.create_bucket(), s3.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        client.put_object(Bucket=bucket, Key="kept", Body=b"content")
    client.create_multipart_upload(Bucket=bucket, Key="begun")
    wait_until(lambda: bucket in collections(s3))
    s3.delete_bucket(bucket)
    wait_until(lambda: bucket not in collections(s3))


def collections(s3: S3Server) -> str:
    """What has volumes, as the master knows it."""
    return httpx.get(f"http://127.0.0.1:{s3.ports[1]}/vol/status", timeout=10).raise_for_status().text


def kill(state_dir: Path, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: named(status(state_dir), "s3").state != "running")
