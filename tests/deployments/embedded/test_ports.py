"""Whose port is it?"""

from __future__ import annotations

import os
import socket

from deployments.embedded.ports import is_free, listens, next_free, unproxied


def test_listens_is_true_for_the_owner_only() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port)
        assert not is_free(port)
        assert next_free(port) > port
    assert not listens(os.getpid(), port)


def test_the_loopback_address_needs_no_proxy() -> None:
    assert unproxied({}) == {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    assert unproxied({"NO_PROXY": "example.org, localhost"})["no_proxy"] == "example.org,localhost,127.0.0.1"
    assert unproxied({"no_proxy": "*"})["NO_PROXY"] == "*"
