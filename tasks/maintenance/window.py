"""The time in which a release keeps the application shut, and its end in every outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tasks.maintenance.switch import is_on, refuse_without_switch, switch_off, switch_on
from tasks.release.decisions import Closed, Reopened
from tasks.release.environment import Environment
from tasks.release.release import Release
from tasks.release.way import needs_maintenance
from tasks.store.ledger import Ledger, now

REOPENING: Literal["reopened"] = "reopened"


def needed(release: Release) -> bool:
    """Whether maintenance mode has to be on for what is left to be done of a release."""
    return needs_maintenance(release) and not _brought_out(release)


def may_be_on(release: Release) -> bool:
    """Whether a release may have left maintenance mode on.

    Its stage is begun in the record before anything is switched, so this holds after a SIGKILL too.
    """
    begun = "maintenance" in release.stages and release.reopened is None
    return begun and (release.maintenance is None or release.maintenance.needed)


def close(environment: Environment, release: Release, report: Callable[[str], None]) -> Closed:
    """Switch maintenance mode on where the release needs it.

    Raises:
        RefusedError: It is needed, and the environment has no switch.
        MaintenanceError: It could not be switched on; it is off.
    """
    if not needed(release):
        report("maintenance mode is not needed")
        return Closed(since=now(), how="", needed=False)
    refuse_without_switch(environment, needed=True)
    since = now()
    return Closed(since=since, how=switch_on(environment, report), needed=True)


def still_closed(environment: Environment, release: Release, report: Callable[[str], None]) -> None:
    """Switch maintenance mode on again where somebody has ended it since the release's own attempt that died.

    Raises:
        MaintenanceError: It could not be switched on; it is off.
    """
    closed = release.maintenance
    if not (closed and closed.needed and release.reopened is None) or _brought_out(release):
        return
    if is_on(environment) is not True:
        report("maintenance mode was ended from outside meanwhile")
        switch_on(environment, report)


def reopen(environment: Environment, release: Release, report: Callable[[str], None]) -> Reopened:
    """Switch maintenance mode off where the release had switched it on.

    Raises:
        MaintenanceError: The application still shows it.
    """
    # Its own "reopened" stage is begun by now, not finished: the record still says that it may be on.
    if may_be_on(release):
        switch_off(environment, report)
    return Reopened(at=now(), by="the release")


def put_right(
    environment: Environment,
    ledger: Ledger,
    release_id: str,
    by: Literal["the release", "a later run", "the sweep"],
    report: Callable[[str], None],
) -> bool:
    """End what a release that failed or died may have left on; whether there was anything to do.

    Where code and migrations were not all brought out yet, the record forgets that it was on: whoever takes the
    release up again must shut the application anew. To be called under the release lock.

    Raises:
        MaintenanceError: The application still shows maintenance mode.
    """
    if not may_be_on(ledger.load(release_id)):
        return False
    switch_off(environment, report)
    ledger.update(release_id, lambda record: _opened(record, by))
    return True


def _opened(release: Release, by: Literal["the release", "a later run", "the sweep"]) -> Release:
    if release.reopened is not None:
        return release
    if release.maintenance is None or not _brought_out(release):
        return release.opened_early(by, now())
    at = now()
    opened = release.began(REOPENING, at).finished(REOPENING, Reopened(at=at, by=by), at)
    return opened.model_copy(update={"status": release.status})  # one that has failed does not run by this


def _brought_out(release: Release) -> bool:
    return release.applied is not None and release.reloaded is not None
