"""The releases of the example application as a real git repository: `python examples/chatbot/history.py DESTINATION`.

`app/` is the tree of v1.0; `releases/<tag>/` holds the files that a release adds or replaces, and its commit MESSAGE.
Each v1.2 release stands on v1.1 and is reverted by the commit after it, so that the tips of `main` and `develop` equal
v1.1 and every tag is an ancestor of both. People and times are fixed: the commits have the same hashes wherever they
are built.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_SOURCE = shutil.ignore_patterns("__pycache__", "*.pyc", ".pytest_cache", ".ruff_cache", ".venv", ".env")
GOOD = "v1.1"
BAD = (
    "v1.2-drop-column",
    "v1.2-rename-column",
    "v1.2-not-null",
    "v1.2-unique",
    "v1.2-plain-index",
    "v1.2-data-migration",
    "v1.2-slow",
    "v1.2-errors",
    "v1.2-irreversible",
)
FIRST_COMMIT = datetime(2025, 9, 1, 9, 0, tzinfo=UTC)
BETWEEN_COMMITS = timedelta(hours=6)


class History:
    """A repository whose commits are a function of their content and order."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = FIRST_COMMIT

    def git(self, *arguments: str) -> str:
        """Run git without the settings of this user and machine; returns what it printed."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_DEFAULT_HASH": "sha1"}
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {
                f"GIT_{role}_NAME": "Example Team",
                f"GIT_{role}_EMAIL": "team@example.com",
                f"GIT_{role}_DATE": self.now.isoformat(),
            }
        # Modes and line endings are those of the source, whatever the file system of the destination does to them.
        command = [
            "git",
            "-C",
            str(self.directory),
            "-c",
            "core.fileMode=false",
            "-c",
            "core.autocrlf=false",
            *arguments,
        ]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout

    def commit(self, message: str, tag: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("tag", tag)
        self.now += BETWEEN_COMMITS

    def release(self, tag: str) -> None:
        """Commit and tag the tree that `releases/<tag>` makes of the present one."""
        overlay = HERE / "releases" / tag
        shutil.copytree(overlay, self.directory, dirs_exist_ok=True, ignore=NOT_SOURCE)
        (self.directory / "MESSAGE").unlink()
        self.commit((overlay / "MESSAGE").read_text(encoding="utf-8"), tag)

    def revert(self) -> None:
        self.git("revert", "--no-edit", "HEAD")
        self.now += BETWEEN_COMMITS

    def refs(self) -> set[str]:
        """Every branch and tag with its commit."""
        return set(
            self.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/heads", "refs/tags").splitlines()
        )


def build_history(destination: Path) -> None:
    """Build the repository at `destination`; one that already holds these commits is left as it is.

    It is built beside its place and renamed into it, so that it is there whole or not at all.

    Raises:
        FileExistsError: something else is at `destination`.
        subprocess.CalledProcessError: git failed; its `stderr` says why.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}-") as beside:
        history = History(Path(beside) / "repository")
        shutil.copytree(HERE / "app", history.directory, ignore=NOT_SOURCE)
        history.git("init", "--quiet", "--template=", "--initial-branch=main")
        history.commit("Documents, conversations and messages", "v1.0")
        history.release(GOOD)
        for tag in BAD:
            history.release(tag)
            history.revert()
        history.git("branch", "develop")
        if not destination.exists():
            history.directory.rename(destination)
        elif not (destination / ".git").is_dir() or not history.refs() <= History(destination).refs():
            raise FileExistsError(f"{destination} holds something else: remove it, or name another directory.")


if __name__ == "__main__":
    build_history(Path(sys.argv[1]).resolve())
