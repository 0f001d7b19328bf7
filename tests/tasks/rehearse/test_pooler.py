"""A pooler is known by its pids: the process that answers is not the one that was connected to."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tasks.rehearse.pooler import is_pooled, poolers
from tests.builders import reached
from tests.fix_app import Site
from tests.tasks.backup.relay import Relay

BACKEND_KEY_DATA = b"K\x00\x00\x00\x0c"


class Pooler(Relay):
    """Tells clients a process id of its own, as PgBouncer does."""

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := one.recv(65536):
                place = content.find(BACKEND_KEY_DATA)
                if place >= 0:
                    pid = place + len(BACKEND_KEY_DATA)
                    content = content[:pid] + b"\x00\x00\x30\x39" + content[pid + 4 :]
                other.sendall(content)
            other.shutdown(socket.SHUT_WR)


@pytest.fixture
def pooler(staging_site: Site) -> Iterator[Pooler]:
    way = Pooler(staging_site.server.port)
    yield way
    way.refuse()
    way.cut()
    for end in way.sockets:
        end.close()


def test_a_pooler_is_named(staging_site: Site, pooler: Pooler) -> None:
    environment = staging_site.environment
    assert not is_pooled(environment.database)
    assert poolers(environment, reached(pooled=False), None) == ()
    assert poolers(environment, reached(), None) == ()

    by_pooler = staging_site.configure(database={"port": pooler.port})
    assert is_pooled(by_pooler.database)
    [finding] = poolers(by_pooler, reached(), None)
    assert f"[database] {staging_site.database} at 127.0.0.1:{pooler.port}" in finding
    assert "session settings" in finding


def test_the_application_has_one(staging_site: Site) -> None:
    [finding] = poolers(staging_site.environment, reached(pooled=True), None)
    assert "the application reaches shop at 127.0.0.1:5432 through a pooler" in finding
