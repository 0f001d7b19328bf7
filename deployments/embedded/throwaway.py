"""A PostgreSQL server for one task: made in a temporary directory, and gone with everything in it afterwards."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import SecretStr

from deployments.embedded.account import prepare_place, server_account
from deployments.embedded.cluster import SUPERUSER, Cluster
from deployments.embedded.errors import ServiceNotStarted
from deployments.embedded.ports import LOOPBACK, any_free
from deployments.embedded.processes import Process
from deployments.embedded.starting import Files
from tasks.release.environment import Database

ATTEMPTS = 5
# Nothing of it has to survive anything.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "log_min_duration_statement": "-1"}


@contextlib.contextmanager
def throwaway_server(settings: Mapping[str, str] = SETTINGS) -> Iterator[Database]:
    """Start a server; yields its database `postgres` as the superuser.

    Raises:
        ServiceNotStarted: It did not start; the error carries its last words.
    """
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="runbook-pg-", ignore_cleanup_errors=True)))
        home.chmod(0o711)  # the server's account has to reach its own directory in it
        place = prepare_place(home, server_account())
        if place.outside is not None:
            stack.callback(shutil.rmtree, place.outside, ignore_errors=True)
        password = secrets.token_urlsafe(18)
        cluster = Cluster("throw-away postgres", place.clusters / "throwaway", place.bin, place.account, settings)
        cluster.create(password, {}, durable=False)
        port = _started(cluster, Files(home / "pid.json", home / "server.log", {}), stack)
        yield Database.model_validate(
            {
                "host": LOOPBACK,
                "port": port,
                "name": "postgres",
                "user": SUPERUSER,
                "password": SecretStr(password),
                "sslmode": "disable",
            }
        )


def _started(cluster: Cluster, files: Files, stack: contextlib.ExitStack) -> int:
    """Start on a free port, again when somebody took it between the choice and the start; the port."""

    def end() -> None:
        if process := Process.read(files.record):
            cluster.stop(process)

    stack.callback(end)  # before the start, which may be interrupted
    for attempt in range(ATTEMPTS):
        [port] = any_free(1)
        try:
            cluster.start(port, files)
        except ServiceNotStarted as error:
            if not error.port_taken or attempt == ATTEMPTS - 1:
                raise
        else:
            return port
    raise AssertionError("unreachable")
