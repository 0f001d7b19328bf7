"""The two states of the code that a check compares: the working tree, and the base as git has it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.release.errors import ConfigurationError

TIMEOUT_S = 120
DEFAULT_BASES = ("origin/HEAD", "origin/main", "origin/master")


@dataclass(frozen=True)
class Repository:
    """The git repository that the application's directory lies in.

    Args:
        directory: The application's, where its management command runs.
        top: The repository's; file names in reports are relative to it.
    """

    directory: Path
    top: Path

    def base_commit(self, base: str) -> str:
        """The commit where this branch left the base; empty base: the remote's own branch.

        Raises:
            ConfigurationError: There is no such commit here, or nothing in common with it.
        """
        names = [base] if base else list(DEFAULT_BASES)
        known = [name for name in names if _git(self.top, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")]
        if not known:
            raise ConfigurationError(
                f"there is no {base or 'base to compare with'} in {self.top}",
                hint="name the branch that this one will be merged into: `--base origin/main`; in CI, fetch it first"
                " (actions/checkout: `fetch-depth: 0`)",
            )
        found = _git(self.top, "merge-base", known[0], "HEAD")
        if not found:
            raise ConfigurationError(
                f"{known[0]} and HEAD have no commit in common in {self.top}",
                hint="is the clone shallow? fetch the whole history (actions/checkout: `fetch-depth: 0`)",
            )
        return found

    def changed_migrations(self, commit: str) -> list[str]:
        """The migrations' files that differ from a commit in the working tree, new ones included."""
        changed = _git(self.top, "diff", "--name-only", "--diff-filter=d", commit).splitlines()
        new = _git(self.top, "ls-files", "--others", "--exclude-standard").splitlines()
        return sorted(name for name in {*changed, *new} if "/migrations/" in f"/{name}" and name.endswith(".py"))

    @contextlib.contextmanager
    def exported(self, commit: str) -> Iterator[Path]:
        """The application's directory as it was in a commit, in a temporary place; the repository stays as it is.

        Files that git ignores beside the management command (.env, local settings) are linked in, since the
        application may not start without them.

        Raises:
            ConfigurationError: git cannot export the commit.
        """
        with tempfile.TemporaryDirectory(prefix="runbook-base-") as scratch:
            home = Path(scratch) / "base"
            home.mkdir()
            # An index of its own: the repository's, and its working tree, stay as they are.
            index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
            for command in (["read-tree", commit], ["checkout-index", "--all", "--quiet", f"--prefix={home}/"]):
                done = _run(self.top, command, index)
                if done.returncode:
                    raise ConfigurationError(f"git cannot export {commit[:12]}: {done.stderr.strip()}")
            there = home / self.directory.relative_to(self.top)
            if not there.is_dir():
                raise ConfigurationError(
                    f"{self.directory.relative_to(self.top)} is not there in {commit[:12]}",
                    hint="a base without the application has nothing to compare with: name another one",
                )
            ignored = _git(self.directory, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory")
            for name in ignored.splitlines():
                if not name.endswith("/") and "/" not in name and not (there / name).exists():
                    (there / name).symlink_to(self.directory / name)
            yield there


def repository_of(directory: Path) -> Repository | None:
    """The repository of a directory; None: it lies in none."""
    top = _git(directory, "rev-parse", "--show-toplevel")
    return Repository(directory.resolve(), Path(top).resolve()) if top else None


def _git(directory: Path, *arguments: str) -> str:
    """What git says; empty where it refuses."""
    done = _run(directory, arguments)
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(
    directory: Path, arguments: Sequence[str], variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # Without what a git hook sets, which would lead to its repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(directory), *arguments],
        env={**inherited, **(variables or {})},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )
