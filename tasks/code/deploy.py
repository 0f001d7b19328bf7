"""Deploying code: `git pull` with the checks that a person forgets, requirements, and the service's reload."""

from __future__ import annotations

from collections.abc import Callable

from tasks.app.candidate import serving
from tasks.app.command import program
from tasks.app.git import Git
from tasks.app.guard import serving_at
from tasks.release.environment import Environment
from tasks.release.errors import CodeError, CommandError
from tasks.release.release import Deployed, Release, Reloaded
from tasks.release.rules import refuse_stale

INSTALL_TIMEOUT_S = 1800


def deploy(environment: Environment, release: Release, report: Callable[[str], None]) -> Deployed:
    """Check the release's commit out where the application serves from, and install its requirements.

    Safe to repeat: a killed attempt is done again from the checkout on, also one that died inside of it.

    Raises:
        RefusedError: There is no proved backup: no code without it.
        StaleBackupError: It is too old to migrate on: better refused before the code is changed than after.
        CodeError: The branch does not contain the commit, the tree has local changes, or git refuses.
        CommandError: The requirements cannot be installed.
    """
    refuse_stale(environment, release)
    git = Git(environment)
    git.check_deployable(release.commit, release.ref)
    git.checkout(release.commit)
    # Asked afterwards: before it, new files that a killed checkout wrote would be taken for nobody's.
    untracked = git.untracked()
    if untracked:
        report(f"{environment.app.directory} has files that no release brought: {', '.join(untracked[:5])}")
    report(f"{environment.app.directory} is at {release.commit[:12]}, from {release.previous_commit[:12]}")
    # The interpreter has the requirements of one of the two: of what serves, or of a release that failed since.
    install = any(
        git.differing(before, release.commit, environment.app.requirements)
        for before in (release.previous_commit, release.checked_out)
    )
    if install:
        program(
            environment,
            serving(environment),
            environment.app.install,
            timeout_s=INSTALL_TIMEOUT_S,
            line=report,
            hint="[app] install; the code is checked out, the service still runs the old one",
        )
    return Deployed(previous=release.previous_commit, commit=release.commit, installed=install)


def reload(environment: Environment, release: Release, report: Callable[[str], None]) -> Reloaded:
    """Make the service run the release's code.

    Raises:
        CodeError: Other code is checked out, or the reload command failed.
    """
    checkout = serving_at(environment, release.commit)
    if not environment.app.reload:
        report("no reload command is configured: the service is left as it is")
        return Reloaded(commit=checkout.commit, told=False)
    try:
        program(environment, checkout, environment.app.reload, line=report)
    except CommandError as error:
        raise CodeError(
            f"the service could not be reloaded: {error.message}",
            hint="is it running? start it, then run the release again",
        ) from None
    return Reloaded(commit=checkout.commit, told=True)
