"""Git: the few questions and moves that a deployment needs."""

from __future__ import annotations

from pathlib import Path

from tasks.app import process
from tasks.release.environment import Environment
from tasks.release.errors import CodeError, CommandError, ConfigurationError

TIMEOUT_S = 300
# Nobody is there to type a password, and a hook of the checkout must not run with the runbook's rights.
VARIABLES = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}


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
        if changes:
            raise CodeError(
                f"{self.directory} has local changes: {', '.join(change.strip() for change in changes[:5])}",
                hint="commit them elsewhere or discard them; nothing was deployed",
            )

    def changes(self) -> list[str]:
        """Files that differ from the commit, as `git status` lists them; untracked files are not changes."""
        return self._git("status", "--porcelain", "--untracked-files=no").splitlines()

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
        """Make the working tree that of a commit; refused by git when a local change would be lost."""
        self._git("checkout", "--quiet", "--detach", commit)

    def add_worktree(self, directory: Path, commit: str) -> None:
        """Check a commit out beside, in a directory that must not exist."""
        self._git("worktree", "prune")
        # Forced twice: what was killed while it did this left a worktree that git takes for locked ("initializing").
        forced = ("--force", "--force")
        hint = "may this user write in the checkout's .git and beside the checkout?"
        self._git("worktree", "add", "--quiet", "--detach", *forced, str(directory), commit, hint=hint)

    def _git(self, *arguments: str, hint: str = "") -> str:
        # The checkout may belong to the application's user while a worker runs as another one.
        settings = [f"safe.directory={self.directory}", "core.hooksPath=/dev/null", "advice.detachedHead=false"]
        options = [part for setting in settings for part in ("-c", setting)]
        try:
            return process.run(
                self.environment,
                ["git", *options, *arguments],
                directory=self.directory,
                variables=VARIABLES,
                timeout_s=TIMEOUT_S,
                errors_apart=True,
                hint=hint,
            ).strip()
        except CommandError as error:
            why = error.output or error.message  # out of time, it may have said nothing
            raise CodeError(f"git {arguments[0]} failed in {self.directory}: {why}", hint=error.hint) from None
