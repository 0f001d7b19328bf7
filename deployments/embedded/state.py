"""The state directory: what is kept about the services, their secrets, and the lock that one `up` or `down` holds.

services.json   one entry per service: process, ports, address, since when
pids/<name>     identity of the process last started for a service, written before its program begins
secrets/<name>  generated passwords and keys, readable by their owner only
logs/<name>.log
clusters/  s3/  prefect/   data
apps/           the example application's repository and checkouts
environments/   environment files with the addresses of these services
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from deployments.embedded.processes import SERVICE_VARIABLE, STATE_VARIABLE, Process
from deployments.embedded.starting import Files
from tasks.release.errors import ServiceError

PARTS = ("apps", "clusters", "environments", "logs", "pids", "postgresql", "prefect", "s3", "secrets", "services.json")
LOCK = "lock"


@dataclass(frozen=True)
class Entry:
    """What is remembered of one service, also while it is stopped.

    `since` is its start in UTC (ISO 8601); `needs` holds the addresses of the services it was started against.
    """

    name: str
    process: Process | None = None
    port: int | None = None
    internal_ports: tuple[int, ...] = ()
    url: str = ""
    since: str = ""
    needs: tuple[str, ...] = field(default=())


class State:
    """Access to one state directory; safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._writing = threading.Lock()

    def prepare(self) -> None:
        """Make the directory. Root's may be passed through by the account PostgreSQL runs as, but not listed.

        Raises:
            ServiceError: it is another user's, or no directory.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for name in ("logs", "pids", "secrets"):
                (self.root / name).mkdir(exist_ok=True)
                (self.root / name).chmod(0o700)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            raise self._unusable(error) from None

    def files(self, name: str) -> Files:
        """Return where the traces of a service go."""
        return Files(
            record=self.root / "pids" / name,
            log=self.log(name),
            marks={STATE_VARIABLE: str(self.root), SERVICE_VARIABLE: name},
        )

    def log(self, name: str) -> Path:
        """Return the log file of a service."""
        return self.root / "logs" / f"{name}.log"

    def entries(self) -> dict[str, Entry]:
        """Return what is remembered, by service; nothing from a file that is missing or damaged.

        Raises:
            ServiceError: the state directory is another user's, or no directory.
        """
        try:
            content = json.loads((self.root / "services.json").read_text())
            return {name: _entry(name, fields) for name, fields in content["services"].items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}
        except (PermissionError, NotADirectoryError) as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> ServiceError:
        try:
            owner = self.root.owner()
        except (OSError, KeyError):  # not even that may be seen, or the user has no name
            owner = "another user"
        return ServiceError(
            f"the state directory {self.root}, which belongs to {owner}, cannot be used: {error.strerror}",
            hint="run as its owner, or let RUNBOOK_STATE name a directory of your own",
        )

    def entry(self, name: str) -> Entry:
        """Return what is remembered of one service."""
        return self.entries().get(name, Entry(name))

    def remember(self, entry: Entry) -> None:
        """Replace what is remembered of one service, in one step that no crash can halve."""
        with self._writing:
            entries = {**self.entries(), entry.name: entry}
            content = {"services": {name: asdict(kept) for name, kept in sorted(entries.items())}}
            write_whole(self.root / "services.json", json.dumps(content, indent=2) + "\n", mode=0o600)

    def running(self, name: str) -> Entry | None:
        """Return the entry of a service that is ours and completely started; None otherwise."""
        entry = self.entry(name)
        return entry if entry.process is not None and entry.process.alive() else None

    def stray(self, name: str) -> Process | None:
        """Return a living process that was started for a service but never remembered: its start was interrupted."""
        started = Process.read(self.root / "pids" / name)
        remembered = self.entry(name).process
        return started if started is not None and started != remembered and started.alive() else None

    def forget_process(self, name: str) -> None:
        """Note that a service does not run; its ports stay remembered."""
        (self.root / "pids" / name).unlink(missing_ok=True)
        self.remember(replace(self.entry(name), process=None, since=""))

    def secret_file(self, name: str) -> Path:
        """Return the file of a secret."""
        return self.root / "secrets" / name

    def secret(self, name: str) -> str:
        """Return a secret, generated (32 random bytes) when first asked for."""
        path = self.secret_file(name)
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(32), mode=0o600)
        return path.read_text()

    @contextlib.contextmanager
    def lock(self, report: Callable[[str], None]) -> Iterator[None]:
        """Hold the directory against other commands; wait for one that holds it.

        The kernel drops the lock with the process that holds it, so none is ever left behind.
        """
        path = self.root / LOCK
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    report("another command is at work on these services; waiting for it")
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    yield
                    return
            finally:
                os.close(descriptor)
            self.prepare()  # whoever held it deleted the directory's content


def write_whole(path: Path, text: str, *, mode: int) -> None:
    """Write a file so that readers see the old text or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    process = fields["process"]
    return Entry(
        name=name,
        process=None if process is None else Process(process["pid"], process["started"], process["boot"]),
        port=fields["port"],
        internal_ports=tuple(fields["internal_ports"]),
        url=fields["url"],
        since=fields["since"],
        needs=tuple(fields["needs"]),
    )
