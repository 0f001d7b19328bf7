"""The embedded S3 server: its bucket keeps versions, its objects outlive it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from deployments.embedded import status, up
from deployments.embedded.storage import Storage
from tests.deployments.embedded.conftest import named, wait_until


def test_bucket_keeps_versions_and_objects_survive_a_kill(state_dir: Path) -> None:
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


def kill(state_dir: Path, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: named(status(state_dir), "s3").state != "running")
