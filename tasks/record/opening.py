"""Opening a release: a new record, or the unfinished one of the same commit taken up again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta

from tasks.app.git import Git
from tasks.database.applied import applied_of
from tasks.release.environment import Environment
from tasks.release.errors import RefusedError
from tasks.release.release import SERVING, Release, new_id
from tasks.release.rules import blocking
from tasks.store.ledger import Ledger, now

NEW = "new"  # as a release id: begin anew, whatever was left unfinished


def open_release(
    environment: Environment,
    ledger: Ledger,
    ref: str,
    release_id: str,
    requested_by: str,
    report: Callable[[str], None],
    *,
    resumed_run: str = "",
    goes_on: Callable[[str], bool] = lambda _: False,
) -> Release:
    """Open the release of a ref; the caller holds the release lock, so whoever left a record running is dead.

    Args:
        environment: Where to.
        ledger: Its releases.
        ref: Tag, branch or commit.
        release_id: A release to take up again; `new`: none; empty: the newest one, if it is unfinished and of the same
            commit and its backup is still good to migrate on, else a new one.
        requested_by: Who or what asked, for the record.
        report: Takes a line for the log.
        resumed_run: The flow run, where it was suspended to ask a person: it goes on with the release it asked about.
        goes_on: Whether a flow run, by its id, is still suspended or under way.

    Raises:
        CodeError: The ref is unknown to the remote, not in the environment's branch, or the checkout has local changes.
        RefusedError: There is no such release, it is of another commit, or it is no longer the one to go on with; or
            the newest one waits for a person.
    """
    git = Git(environment)
    git.fetch()
    commit = git.commit_of(ref)
    git.check_deployable(commit, ref)
    if resumed_run:
        release_id = _asked_by(ledger, resumed_run).id
    if release_id not in ("", NEW):
        release = ledger.load(release_id)
        if release.commit != commit:
            raise RefusedError(
                f"release {release_id} is of {release.ref} ({release.commit[:12]}), not of {ref} ({commit[:12]})",
                hint=f"`{NEW}` as release id starts a new release",
            )
        _refuse_what_is_over(environment, ledger, release, git.head())
        for one in (release, *_newer(ledger, release)):
            _refuse_what_waits(one, resumed_run, goes_on)
        return _taken_up(ledger, release, requested_by, report)
    newest = next(ledger.newest(), None)
    if newest and newest.status not in SERVING:
        if release_id != NEW:
            _refuse_what_waits(newest, resumed_run, goes_on)
        undone = _undone(environment, newest, git.head())
        if release_id != NEW and newest.commit == commit and not undone and _may_go_on(environment, newest):
            return _taken_up(ledger, newest, requested_by, report)
        _ended(ledger, newest, undone or f"superseded by a release of {ref}", report)
    at = now()
    head = git.head()
    previous = _serving(newest, head)
    release = Release(
        id=new_id(ref, commit, at),
        environment=environment.name,
        ref=ref,
        commit=commit,
        previous_commit=previous,
        checked_out=head,
        commits=tuple(git.subjects(previous, commit)),
        created_at=at,
        requested_by=requested_by,
    ).noted(f"opened by {requested_by}", at)
    report(
        f"release {release.id}: {ref} ({commit[:12]}) to {environment.name}, where {release.previous_commit[:12]} is"
    )
    return ledger.create(release)


def _refuse_what_is_over(environment: Environment, ledger: Ledger, release: Release, head: str) -> None:
    """Refuse a release asked for by its id that is not what the checkout and the other releases stand at."""
    hint = f"`{NEW}` as release id starts a new release"
    since = next((newer for newer in _newer(ledger, release) if newer.status in SERVING), None)
    if release.status in SERVING:
        if since or head != release.commit:
            why = f"release {since.id} finished since" if since else f"the checkout is at {head[:12]}"
            raise RefusedError(f"release {release.id} is finished and no longer what serves: {why}", hint=hint)
        return
    undone = f"release {since.id} of {since.ref} finished since" if since else _undone(environment, release, head)
    if undone:
        raise RefusedError(f"release {release.id} cannot go on: {undone}", hint=hint)


def _asked_by(ledger: Ledger, run: str) -> Release:
    """The release that a flow run asked a person about.

    Raises:
        RefusedError: Another run has taken it over, or it was closed meanwhile.
    """
    hint = "deploy the same ref again"
    release = next((one for one in ledger.newest() if one.asked and one.asked.flow_run_id == run), None)
    if release is None:
        raise RefusedError("the release that this run asked about was taken over by another run", hint=hint)
    if release.status == "failed" and release.approval is None:
        why = release.timeline[-1].what if release.timeline else ""
        raise RefusedError(f"release {release.id} waits for nobody any more: {why}", hint=hint)
    return release


def _refuse_what_waits(release: Release, run: str, goes_on: Callable[[str], bool]) -> None:
    """Refuse to take a release away from the run that waits for a person's answer."""
    asked = release.asked
    if release.status != "waiting" or asked is None or asked.flow_run_id == run or asked.expired(now()):
        return
    if goes_on(asked.flow_run_id):
        raise RefusedError(
            f"release {release.id} of {release.ref} waits for an approval until {asked.expires_at:%Y-%m-%d %H:%M} UTC",
            hint=f"`runbook approve {release.environment}` or `runbook reject {release.environment}` answers;"
            f" `{NEW}` as release id gives it up and starts a new release",
        )


def _newer(ledger: Ledger, release: Release) -> Iterator[Release]:
    return itertools.takewhile(lambda record: record.id != release.id, ledger.newest())


def _taken_up(ledger: Ledger, release: Release, requested_by: str, report: Callable[[str], None]) -> Release:
    if release.status in SERVING:
        report(f"release {release.id} is {release.status}; nothing is repeated")
        return release
    done = ", ".join(stage for stage in release.stages if release.result(stage)) or "nothing"
    report(f"release {release.id} is taken up again; finished before: {done}")
    return ledger.update(
        release.id, lambda record: record.closed("running", f"taken up again by {requested_by}", now())
    )


def _serving(newest: Release | None, head: str) -> str:
    """The commit that serves: not the one that is checked out, where a release failed before its reload.

    Several may have failed one after the other: each knows what served when it was opened.
    """
    if newest and newest.reloaded is None and head in (newest.commit, newest.checked_out):
        return newest.previous_commit
    return head


def _ended(ledger: Ledger, release: Release, why: str, report: Callable[[str], None]) -> None:
    """Close a record that is not taken up again."""
    if release.smoke is not None and release.status == "running":
        # It died between its last stage and its last line.
        ledger.update(release.id, lambda record: record.closed("finished", "finished", now()))
    elif release.status == "waiting":
        ledger.update(
            release.id, lambda record: record.closed("failed", f"no answer is waited for any more; {why}", now())
        )
        report(f"release {release.id} waited for an approval; it is closed as failed: {why}")
    elif release.status == "running":
        ledger.update(release.id, lambda record: record.closed("failed", f"its run died; {why}", now()))
        report(f"release {release.id} was left running by a run that died; it is closed as failed: {why}")
    else:
        report(f"release {release.id} is not taken up again: {why}")


def _undone(environment: Environment, release: Release, head: str) -> str:
    """What the release stands on that is no longer so, since somebody or another release changed it; empty: nothing."""
    if release.code is None and head not in (release.checked_out, release.commit):
        return f"it was opened at {release.checked_out[:12]}, the checkout is at {head[:12]} by now"
    if release.code and head != release.commit:
        return f"it had checked out {release.commit[:12]}, the checkout is at {head[:12]} by now"
    if release.applied and release.plan:
        applied = _applied(environment, release)
        gone = [migration.label for migration in release.plan.pending if migration.label not in applied]
        if gone:
            return f"it had applied {', '.join(gone)}, which the database does not have any more"
    return ""


def _may_go_on(environment: Environment, release: Release) -> bool:
    """Whether what a release found out still counts: it was not blocked, and its backup is good to migrate on.

    What blocked it may be mended by now, in the data or elsewhere: that is judged anew. A backup is good while it is
    fresh, or when a migration has begun on it.
    """
    if blocking(release):
        return False
    if release.backup is None or release.plan is None:
        return True
    fresh = now() - release.backup.started_at < timedelta(seconds=environment.backup.max_age_s)
    return fresh or bool(_applied(environment, release))


def _applied(environment: Environment, release: Release) -> set[str]:
    """Which planned migrations stand applied."""
    names = [migration.label for migration in release.plan.pending] if release.plan else []
    return applied_of(environment.database, release.migrations_schema, names)
