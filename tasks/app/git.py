"""Git: the few questions and moves that a deployment needs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tasks.app import process
from tasks.release.environment import Environment
from tasks.release.errors import CodeError, CommandError, ConfigurationError

TIMEOUT_S = 300
# Nobody is there to type a password, and a hook of the checkout must not run with the runbook's rights.
VARIABLES = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}
LOCKS = ("index.lock", "HEAD.lock")  # what a killed checkout leaves; git never removes them
COMPARE = ("diff", "--no-renames", "--no-ext-diff")


class Git:
    """The repository that an application is deployed from.

    Args:
        environment: Whose application.
        directory: A checkout of it; none: the one that serves.
    """

    def __init__(self, environment: Environment, directory: Path | None = None) -> None:
        self.environment = environment
        self.directory = directory or environment.app.directory

    def head(self) -> str:
        """The commit that is checked out."""
        return self._git("rev-parse", "--verify", "HEAD^{commit}")

    def fetch(self) -> None:
        """Fetch branches and tags of the remote; retryable, since it may be away for a moment."""
        remote = self.environment.app.remote
        try:
            # A tag that was moved on the remote is taken as it is there; git would refuse every later fetch.
            self._git("fetch", "--quiet", "--tags", "--force", "--prune", remote)
        except CodeError as error:
            raise CodeError(
                f"cannot fetch from {remote}: {error.message}",
                hint="is the remote reachable from here, and may this user read it?",
                retryable=True,
            ) from None

    def commit_of(self, ref: str) -> str:
        """The commit that a tag, a branch of the remote or a hash names.

        Raises:
            CodeError: None, or more than one.
        """
        app = self.environment.app
        if ref.startswith("-"):
            raise CodeError(f"{ref!r} is not a ref", hint="name a tag, a branch or a commit")
        # The remote's branch before a local one: what was pushed is what is deployed.
        for candidate in (f"refs/tags/{ref}", f"refs/remotes/{app.remote}/{ref}", ref):
            try:
                return self._git("rev-parse", "--verify", "--quiet", f"{candidate}^{{commit}}")
            except CodeError:
                continue
        raise CodeError(
            f"{ref!r} is no tag, branch or commit of {app.remote}", hint=f"was it pushed? `git ls-remote {app.remote}`"
        )

    def branch_contains(self, commit: str) -> bool:
        """Whether the environment's branch, as the remote has it, contains a commit.

        Raises:
            CodeError: The remote has no such branch.
        """
        app = self.environment.app
        tip = self.commit_of(f"refs/remotes/{app.remote}/{app.branch}")
        return not self._git("rev-list", "--max-count=1", commit, f"^{tip}")

    def check_deployable(self, commit: str, ref: str) -> None:
        """What must hold before this directory is brought to a commit.

        What a killed checkout of this commit wrote is no local change: checking it out again finishes it.

        Raises:
            CodeError: The environment's branch does not contain the commit, or the tree has local changes.
        """
        app = self.environment.app
        if not self.branch_contains(commit):
            raise CodeError(
                f"{ref} ({commit[:12]}) is not contained in {app.remote}/{app.branch}",
                hint=f"merge it to {app.branch} first: {self.environment.name} deploys only what that branch contains",
            )
        changes = self.changes()
        if changes and not self.interrupted(commit):
            edits = set(self._compared(commit)[1])
            # Those of a killed checkout beside them are not named; but where none is left, all are.
            named = [change.strip() for change in changes if change.split(maxsplit=1)[-1] in edits]
            named += [f"?? {path}" for path in sorted(edits - {change.split(maxsplit=1)[-1] for change in changes})]
            raise CodeError(
                f"{self.directory} has local changes: {', '.join((named or changes)[:5])}",
                hint="commit them elsewhere or discard them; nothing was deployed",
            )

    def changes(self) -> list[str]:
        """Files that differ from the commit, as `git status` lists them; untracked files are not changes."""
        return self._git("status", "--porcelain", "--untracked-files=no").splitlines()

    def interrupted(self, commit: str) -> bool:
        """Whether a checkout of this commit was killed here: what differs from HEAD is all exactly as in the commit.

        New files of the commit, which git does not know yet, count as well.
        """
        begun, edits = self._compared(commit)
        return begun and not edits

    def untracked(self) -> list[str]:
        """Files that git does not know and is not told to ignore: they are in nobody's review."""
        return self._git("ls-files", "--others", "--exclude-standard").splitlines()

    def differing(self, old: str, new: str, paths: list[str]) -> bool:
        """Whether any of the files that call for an install differs between two commits.

        Args:
            old: A commit.
            new: Another one.
            paths: [app] requirements, as git's own patterns of paths.

        Raises:
            ConfigurationError: Neither commit has such a file, so that a change would never be seen.
        """
        nothing = self._git("hash-object", "-t", "tree", "/dev/null")
        for path in paths:
            if not any(self._git("diff", "--name-only", nothing, commit, "--", path) for commit in (old, new)):
                raise ConfigurationError(
                    f"[app] requirements names {path}, which neither {old[:12]} nor {new[:12]} has: what changes would"
                    " never be installed",
                    hint="name the files that say what is installed, such as poetry.lock or uv.lock, and the command"
                    " that does it as [app] install; requirements = [] when nothing ever is",
                )
        return bool(paths) and bool(self._git("diff", "--name-only", old, new, "--", *paths))

    def subjects(self, old: str, new: str) -> list[str]:
        """Hash and subject of the commits that the new one has and the old one has not, newest first."""
        return self._git("log", "--format=%h %s", "--max-count=100", f"{old}..{new}").splitlines()

    def checkout(self, commit: str) -> None:
        """Make the working tree that of a commit; refused by git when a local change would be lost.

        A killed checkout of this commit is finished: its lock is removed, its files are written again.

        Raises:
            CodeError: Git refuses; retryable where another git is at work here.
        """
        self._remove_stale_locks()
        # Only what is exactly the commit's already is overwritten by force.
        forced = ["--force"] if self.interrupted(commit) else []
        self._git("checkout", "--quiet", "--detach", *forced, commit)

    def add_worktree(self, directory: Path, commit: str) -> None:
        """Check a commit out beside, in a directory that must not exist."""
        self._git("worktree", "prune")
        # Forced twice: what was killed while it did this left a worktree that git takes for locked ("initializing").
        forced = ("--force", "--force")
        hint = "may this user write in the checkout's .git and beside the checkout?"
        self._git("worktree", "add", "--quiet", "--detach", *forced, str(directory), commit, hint=hint)

    def _compared(self, commit: str) -> tuple[bool, list[str]]:
        """Whether a checkout of a commit was begun, and the files that are neither HEAD's nor the commit's."""
        moves = _statuses(self._git(*COMPARE, "--name-status", "HEAD", commit))
        from_head, from_commit = self._differs("HEAD"), self._differs(commit)
        staged = set(self._git(*COMPARE, "--name-only", "--cached", "HEAD").splitlines())
        edits = staged & set(self._git(*COMPARE, "--name-only", "--cached", commit).splitlines())
        for path, status in from_head.items():
            # A file that is missing is the commit's doing only where the commit has none.
            as_in_commit = status == "D" if moves.get(path) == "D" else path in moves and path not in from_commit
            if not as_in_commit:
                edits.add(path)
        new = [path for path, move in moves.items() if move == "A"]
        for path in new:
            if path in from_commit and (from_commit[path] != "D" or self._in_the_way(path, moves)):
                edits.add(path)
        begun = bool(from_head or staged) or any(path not in from_commit for path in new)
        return begun, sorted(edits)

    def _differs(self, commit: str) -> dict[str, str]:
        """The files of a commit that are other or missing here, with git's letter, whatever the index says."""
        with tempfile.TemporaryDirectory(prefix="runbook-index-") as home:
            index = {"GIT_INDEX_FILE": f"{home}/index"}
            self._git("read-tree", commit, variables=index)
            return _statuses(self._git(*COMPARE, "--name-status", variables=index))

    def _in_the_way(self, path: str, moves: Mapping[str, str]) -> bool:
        """Whether somebody's file is where a new file, which is not here yet, needs a directory, or the reverse."""
        place = self.directory / path
        if _is_directory(place):
            return bool(self._git("ls-files", "--others", "--", f":(literal){path}"))
        above = [str(parent) for parent in Path(path).parents][:-1]
        files = [
            name
            for name in above
            if os.path.lexists(self.directory / name) and not _is_directory(self.directory / name)
        ]
        return any(moves.get(name) != "D" for name in files)

    def _remove_stale_locks(self) -> None:
        for name in LOCKS:
            lock = self.directory / self._git("rev-parse", "--git-path", name)
            if not lock.exists():
                continue
            holder = _holder(lock.resolve(), self.directory.resolve())
            if holder:
                raise CodeError(
                    f"{lock} is held: {holder}",
                    hint="wait until it has ended, then run the release again",
                    retryable=True,
                )
            try:
                lock.unlink(missing_ok=True)
            except OSError as error:
                raise CodeError(
                    f"{lock} is left by a git that was killed, and cannot be removed: {error.strerror}",
                    hint="remove it, and let this user write in the checkout",
                ) from None

    def _git(self, *arguments: str, hint: str = "", variables: Mapping[str, str] | None = None) -> str:
        # The checkout may belong to the application's user while a worker runs as another one.
        settings = [f"safe.directory={self.directory}", "core.hooksPath=/dev/null", "advice.detachedHead=false"]
        settings.append("core.quotePath=false")
        options = [part for setting in settings for part in ("-c", setting)]
        try:
            return process.run(
                self.environment,
                ["git", *options, *arguments],
                directory=self.directory,
                variables={**VARIABLES, **(variables or {})},
                timeout_s=TIMEOUT_S,
                errors_apart=True,
                hint=hint,
            ).strip()
        except CommandError as error:
            why = error.output or error.message  # out of time, it may have said nothing
            raise CodeError(f"git {arguments[0]} failed in {self.directory}: {why}", hint=error.hint) from None


def _statuses(lines: str) -> dict[str, str]:
    """Paths and their letters, of what `git diff --name-status` prints."""
    parted = (line.partition("\t") for line in lines.splitlines())
    return {path: status for status, _, path in parted}


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _holder(lock: Path, directory: Path) -> str:
    """Who may still need a lock: a process that has it open, or a git that works in the directory; empty: nobody."""
    for process_directory in Path("/proc").glob("[0-9]*"):
        pid = process_directory.name
        try:
            head, _, state = (process_directory / "stat").read_text(errors="replace").rpartition(")")
            if state.split()[0] in "ZX":
                continue  # it was killed, and nobody took notice yet
            if head.partition("(")[2] == "git":
                try:
                    at = (process_directory / "cwd").readlink()
                except PermissionError:
                    return f"a git of another user is at work, nobody can tell where (process {pid})"
                if at.is_relative_to(directory):
                    return f"git works in {at} (process {pid})"
            if any(file.readlink() == lock for file in (process_directory / "fd").iterdir()):
                return f"process {pid} has it open"
        except OSError:
            continue  # it ended meanwhile, or its files are another user's to see
    return ""
