"""The frame around a release's stages: one at a time, opened, closed in every outcome, and reported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.app.git import Git
from tasks.database.lock import advisory_lock
from tasks.record.opening import open_release
from tasks.record.report import preview_report, release_report
from tasks.release.environment import Environment, load
from tasks.release.errors import RETRY_DELAYS_S, RefusedError, RunbookError, may_retry
from tasks.release.order import Order, Preview
from tasks.release.plan import Plan
from tasks.release.release import Status
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger, now


@task(
    name="open release",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def open_order(environment_name: str, ref: str, release_id: str, dry_run: bool) -> Order:
    """Find out what the ref is, and open its release or take the unfinished one up again."""
    environment = load(environment_name)
    log = get_run_logger().info
    if dry_run:
        git = Git(environment)
        git.fetch()
        commit = git.commit_of(ref)
        return Order(environment=environment_name, ref=ref, commit=commit, release_id="", dry_run=True)
    ledger = Ledger(Bucket(environment.storage), environment_name)
    release = open_release(environment, ledger, ref, release_id, _requester(), log)
    return Order(environment=environment_name, ref=ref, commit=release.commit, release_id=release.id, dry_run=False)


@contextmanager
def release_of(kind: str, environment_name: str, ref: str, release_id: str, dry_run: bool) -> Iterator[Order]:
    """Hold the release lock around a release's stages, close its record in every outcome, and publish its report.

    Raises:
        RefusedError: The environment is of another kind than this chapter deploys to.
        ReleaseInProgressError: Another release of this environment is under way.
    """
    environment = load(environment_name)
    if environment.kind != kind:
        raise RefusedError(
            f"{environment_name} is of kind {environment.kind}; this flow deploys to {kind} only",
            hint=f"use the flow of its own chapter: each asks for what {environment.kind} needs",
        )
    if dry_run:
        yield open_order(environment_name, ref, release_id, dry_run)
        return
    with advisory_lock(environment.database, "release", f"{ref} by {_requester()}"):
        order = open_order(environment_name, ref, release_id, dry_run)
        try:
            yield order
        except BaseException as error:
            what = error.message if isinstance(error, RunbookError) else f"{type(error).__name__}: {error}"
            _close(environment, order, "failed", f"ended: {what}")
            raise
        _close(environment, order, "finished", "finished")


def publish_preview(order: Order, previews: Sequence[Preview], plan: Plan) -> None:
    """Publish what a dry run found."""
    create_markdown_artifact(
        preview_report(order, previews, plan), key=f"dry-run-{order.environment}", description=f"dry run of {order.ref}"
    )


def _close(environment: Environment, order: Order, status: Status, what: str) -> None:
    """Write the end down and publish the report; a failure of either must not hide why the release ended."""
    log = get_run_logger()
    ledger = Ledger(Bucket(environment.storage), environment.name)
    try:
        release = ledger.load(order.release_id)
        if release.status != "finished":
            release = ledger.update(order.release_id, lambda record: record.closed(status, what, now()))
        create_markdown_artifact(
            release_report(release),
            key=f"release-{environment.name}",
            description=f"{order.ref} to {environment.name}: {release.status}",
        )
    except RunbookError as error:
        log.error("the end of release %s could not be written down: %s", order.release_id, error)


def _requester() -> str:
    return str(flow_run.get_name() or "a run without a name")
