"""Ports on the loopback address: is one taken, which is the next free one."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

LOOPBACK = "127.0.0.1"


def unproxied(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep the loopback address away from the proxy that an environment may name."""
    old = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    names = [name.strip() for name in old.split(",") if name.strip()]
    if "*" not in names:  # all of them; programs know it only when it stands alone
        names += [name for name in (LOOPBACK, "localhost") if name not in names]
    return dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(names))


def is_free(port: int) -> bool:
    """Tell whether a server could listen on this port now. Remains of closed connections do not count as taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def next_free(port: int, avoid: Collection[int] = ()) -> int:
    """Return the first port from `port` upward that is free and not in `avoid`.

    Raises:
        OSError: there is none left.
    """
    for candidate in range(port, 65536):
        if candidate not in avoid and is_free(candidate):
            return candidate
    raise OSError(f"no free port at or above {port}")


def any_free(count: int) -> list[int]:
    """Return `count` different ports that were free a moment ago, chosen by the kernel."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()


def listens(pid: int, port: int) -> bool:
    """Tell whether this very process listens on this port of 127.0.0.1.

    An answer from the port proves nothing: a server that takes long to start can lose its port to another.
    """
    listening = {
        f"socket:[{fields[9]}]"
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[1] == f"0100007F:{port:04X}" and fields[3] == "0A"
    }
    descriptors = Path(f"/proc/{pid}/fd")
    with contextlib.suppress(OSError):
        for name in os.listdir(descriptors):  # noqa: PTH208 - names suffice
            with contextlib.suppress(OSError):  # closed meanwhile
                if str((descriptors / name).readlink()) in listening:
                    return True
    return False
