"""A throw-away S3 server (SeaweedFS): `s3`, and a fresh `bucket`."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deployments.embedded.errors import ServiceNotStarted
from deployments.embedded.ports import LOOPBACK, any_free
from deployments.embedded.processes import Process
from deployments.embedded.starting import Files
from deployments.embedded.storage import INTERNAL_PORTS, Storage, forget_sockets

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_numbers = itertools.count(1)


@dataclass
class S3Server:
    """A running S3 server and its credentials."""

    storage: Storage
    home: Path
    port: int = 0
    process: Process | None = None
    ports: list[int] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def access_key(self) -> str:
        return self.storage.access_key

    @property
    def secret_key(self) -> str:
        return self.storage.secret_key

    def start(self) -> None:
        """Start the server; after `kill` on the port it had."""
        for attempt in range(5):
            port, *internal = any_free(1 + INTERNAL_PORTS)
            try:
                self.process = self.storage.start(
                    self.port or port, internal, Files(self.home / "pid.json", self.home / "server.log", {})
                )
            except ServiceNotStarted as error:  # somebody took a port between the choice and the start
                if not error.port_taken or attempt == 4:
                    raise
                continue
            self.port = self.port or port
            self.ports = [self.port, *internal]
            return

    def kill(self) -> None:
        """End the server as a power cut would."""
        if self.process is not None:
            self.process.signal(signal.SIGKILL)
            self.process.wait(10)
            forget_sockets(self.ports)

    def client(self) -> S3Client:
        return self.storage.client(self.port)

    def create_bucket(self, *, object_lock: bool = False) -> str:
        """Make a bucket and return its name. With `object_lock` its objects have versions and can be locked."""
        name = f"test-{next(_numbers)}-{secrets.token_hex(3)}"
        self.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)
        return name

    def delete_bucket(self, name: str) -> None:
        """Remove a bucket with all it holds: each takes volumes of its own, and the server has not many."""
        self.client().delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server shared by the whole session."""
    home = tmp_path_factory.mktemp("s3")
    server = S3Server(Storage("s3", home, secrets.token_hex(10), secrets.token_urlsafe(30)), home)
    with contextlib.ExitStack() as stack:
        stack.callback(server.kill)  # nothing of it is kept, and an orderly end takes up to 20 s
        server.start()
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> Iterator[str]:
    """The name of a fresh bucket on `s3`, removed afterwards."""
    name = s3.create_bucket()
    yield name
    s3.delete_bucket(name)
