"""The candidate: the code to deploy, checked out beside the serving one and asked before it is trusted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tasks.app.command import Checkout, program
from tasks.app.git import Git
from tasks.release.environment import Environment
from tasks.release.errors import CodeError

KEPT = 3  # candidates; those that were not used for the longest time are removed when another one is prepared
LOCK = ".lock"  # beside the candidates; held while one is prepared
COMPLETE = ".runbook-complete"  # written last into a candidate's interpreter


def serving(environment: Environment) -> Checkout:
    """The checkout that serves now.

    Raises:
        CodeError: There is none.
    """
    directory = environment.app.directory
    if not directory.is_dir():
        raise CodeError(f"{directory} does not exist", hint="[app] directory names the git checkout that serves")
    return Checkout(directory, directory / environment.app.python, Git(environment).head())


def prepare(environment: Environment, commit: str, report: Callable[[str], None]) -> Checkout:
    """Check a commit out beside the serving code, with an interpreter that has its requirements.

    Nothing is installed into the serving interpreter: where the requirements differ from those of the serving commit,
    the candidate gets one of its own. Safe to repeat; what a killed attempt left is made anew. Of several runs one
    prepares at a time.

    Args:
        environment: Whose application.
        commit: The full hash.
        report: Takes a line for the log.

    Raises:
        CodeError: Git refuses, or this user may not write beside the checkout.
        ConfigurationError: [app] requirements names a file that does not exist.
        CommandError: The interpreter or its requirements cannot be made.
    """
    now = serving(environment)
    if now.commit == commit:
        return now
    home = environment.app.directory.parent / f".{environment.app.directory.name}-candidates"
    directory = home / commit[:12]
    try:
        with _alone(home, report):
            if not _is_whole(environment, directory, commit):
                shutil.rmtree(directory, ignore_errors=True)
                Git(environment).add_worktree(directory, commit)
            _link_untracked(environment, directory)
            os.utime(directory)
            _remove_old(home, directory)
            if not Git(environment).differing(now.commit, commit, environment.app.requirements):
                return Checkout(directory, now.python, commit)
            report("the requirements differ from the serving ones: the candidate gets an interpreter of its own")
            return _with_interpreter(environment, directory, commit)
    except OSError as error:
        raise CodeError(
            f"no candidate can be made in {home}: {error}",
            hint=f"the worker's user must be able to write beside the checkout, in {home.parent}",
        ) from None


@contextlib.contextmanager
def _alone(home: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the candidates; it goes with the process that holds it, however that ends."""
    home.mkdir(exist_ok=True)
    with (home / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another run is preparing a candidate: waiting until it is done")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_whole(environment: Environment, directory: Path, commit: str) -> bool:
    if not (directory / ".git").exists():
        return False
    git = Git(environment, directory)
    try:
        return git.head() == commit and not git.changes()
    except CodeError:
        return False


def _link_untracked(environment: Environment, directory: Path) -> None:
    for name in environment.app.untracked:
        link = directory / name
        if not link.is_symlink() and not link.exists():  # a link to what is not there yet is a link too
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(environment.app.directory / name)


def _with_interpreter(environment: Environment, directory: Path, commit: str) -> Checkout:
    home = directory / ".runbook-venv"
    checkout = Checkout(directory, home / "bin" / "python", commit)
    if not (home / COMPLETE).exists():
        shutil.rmtree(home, ignore_errors=True)
        make = [part.replace("{directory}", str(home)) for part in environment.app.venv]
        program(environment, checkout, make, hint="[app] venv makes an interpreter for a candidate")
        program(environment, checkout, environment.app.install, timeout_s=1800, hint="[app] install")
        (home / COMPLETE).touch()
    return checkout


def _remove_old(home: Path, but: Path) -> None:
    """Remove all but the candidates that were used last.

    A run uses its candidate after the lock is given back. It loses it only when KEPT others are prepared meanwhile,
    and then fails and prepares it anew when it is run again; a lock held for the whole run would make a release wait
    for the plan of another one.
    """
    others = [path for path in home.iterdir() if path.is_dir() and path != but]
    for old in sorted(others, key=lambda path: path.stat().st_mtime)[: -(KEPT - 1)]:
        shutil.rmtree(old, ignore_errors=True)
