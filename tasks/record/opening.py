"""Opening a release: a new record, or the unfinished one of the same commit taken up again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
from psycopg import sql

from tasks.app.git import Git
from tasks.database.connection import connect, explained
from tasks.release.environment import Environment
from tasks.release.errors import RefusedError
from tasks.release.plan import Plan
from tasks.release.release import Release, new_id
from tasks.store.ledger import Ledger, now

NEW = "new"  # as a release id: begin anew, whatever was left unfinished


def open_release(
    environment: Environment,
    ledger: Ledger,
    ref: str,
    release_id: str,
    requested_by: str,
    report: Callable[[str], None],
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

    Raises:
        CodeError: The ref is unknown to the remote, not in the environment's branch, or the checkout has local changes.
        RefusedError: There is no such release, or it is of another commit.
    """
    git = Git(environment)
    git.fetch()
    commit = git.commit_of(ref)
    git.check_deployable(commit)
    if release_id not in ("", NEW):
        release = ledger.load(release_id)
        if release.commit != commit:
            raise RefusedError(
                f"release {release_id} is of {release.ref} ({release.commit[:12]}), not of {ref} ({commit[:12]})",
                hint=f"`{NEW}` as release id starts a new release",
            )
        return _taken_up(ledger, release, requested_by, report)
    newest = next(ledger.newest(), None)
    if newest and newest.status != "finished":
        if release_id != NEW and newest.commit == commit and _backup_is_good(environment, newest):
            return _taken_up(ledger, newest, requested_by, report)
        if newest.smoke is not None:
            # It died between its last stage and its last line.
            ledger.update(newest.id, lambda record: record.closed("finished", "finished", now()))
        elif newest.status == "running":
            what = f"its run died; superseded by a release of {ref}"
            ledger.update(newest.id, lambda record: record.closed("failed", what, now()))
            report(f"release {newest.id} was left running by a run that died; it is closed as failed")
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


def _taken_up(ledger: Ledger, release: Release, requested_by: str, report: Callable[[str], None]) -> Release:
    if release.status == "finished":
        report(f"release {release.id} is finished; nothing is repeated")
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


def _backup_is_good(environment: Environment, release: Release) -> bool:
    """Whether the migration may go on with this release's backup: not taken yet, fresh, or already migrated on."""
    if release.backup is None or release.plan is None:
        return True
    fresh = now() - release.backup.started_at < timedelta(seconds=environment.backup.max_age_s)
    return fresh or _is_begun(environment, release.plan)


def _is_begun(environment: Environment, plan: Plan) -> bool:
    """Whether any planned migration stands applied."""
    names = [migration.label for migration in plan.pending]
    schema = plan.database.migrations_schema
    table = sql.Identifier(*([schema] if schema else []), "django_migrations")
    with connect(environment.database, "look for applied migrations") as connection:
        try:
            row = connection.execute(
                sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE app || '.' || name = ANY(%s))").format(table), [names]
            ).fetchone()
        except psycopg.errors.UndefinedTable:
            return False
        except psycopg.Error as error:
            raise explained(error, "cannot look for applied migrations") from None
    return row == (True,)
