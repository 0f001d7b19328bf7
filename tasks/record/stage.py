"""The frame around a release's stages: one at a time, opened, closed in every outcome, and reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, Pause
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.app.git import Git
from tasks.database.lock import Held, advisory_lock
from tasks.record.opening import open_release
from tasks.record.report import preview_report, release_report
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, RefusedError, RunbookError, may_retry
from tasks.release.order import ASKED_BY, Order, Preview
from tasks.release.plan import Plan
from tasks.release.release import SERVING, Release, Status
from tasks.release.rules import refuse_unapproved
from tasks.release.way import Way, way_of
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger, now

T = TypeVar("T")


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
        git.check_deployable(commit, ref)  # before its code is run, with the environment's secrets
        return Order(environment=environment_name, ref=ref, commit=commit, release_id="", dry_run=True)
    ledger = Ledger(Bucket(environment.storage), environment_name)
    release = open_release(
        environment, ledger, ref, release_id, _requester(), log, resumed_run=_resumed_run(), goes_on=_goes_on
    )
    return Order(environment=environment_name, ref=ref, commit=release.commit, release_id=release.id, dry_run=False)


@dataclass(frozen=True)
class UnderWay:
    """A release whose stages are being carried out, one after the other, under the release lock."""

    order: Order
    lock: Held | None  # a dry run needs none

    def carry_out(self, stage: Callable[[Order], T]) -> T:
        """Carry one stage out, if the release lock is still ours.

        Raises:
            ReleaseInProgressError: The lock was lost.
        """
        if self.lock:
            self.lock.check()
        return stage(self.order)

    def way(self) -> Way:
        """The order of code and migrations; a dry run, which rehearses nothing, shows the usual one.

        Raises:
            RefusedError: No order keeps the service at work, or it risks more than was approved.
        """
        if self.order.dry_run:
            return "in maintenance"  # it has every step, each of which says on what it depends
        environment = load(self.order.environment)
        release = Ledger(Bucket(environment.storage), environment.name).load(self.order.release_id)
        refuse_unapproved(release)
        return way_of(release)


@contextmanager
def release_of(kind: str, environment_name: str, ref: str, release_id: str, dry_run: bool) -> Iterator[UnderWay]:
    """Hold the release lock around a release's stages, close its record in every outcome, and publish its report.

    Raises:
        RefusedError: The environment is of another kind than this chapter deploys to.
        ReleaseInProgressError: Another release of this environment is under way.
        StoreError: The end could not be written to the record.
    """
    environment = load(environment_name)
    if environment.kind != kind:
        raise RefusedError(
            f"{environment_name} is of kind {environment.kind}; this flow deploys to {kind} only",
            hint=f"use the flow of its own chapter: each asks for what {environment.kind} needs",
        )
    if dry_run:
        yield UnderWay(open_order(environment_name, ref, release_id, dry_run), None)
        return
    with advisory_lock(environment.database, "release", f"{ref} by {_asked_by()}") as lock:
        order = open_order(environment_name, ref, release_id, dry_run)
        ledger = Ledger(Bucket(environment.storage), environment_name)
        try:
            yield UnderWay(order, lock)
        except Pause:
            # A person is asked, as the record says; the run begins again from the top when there is an answer.
            try:
                _publish(ledger.load(order.release_id))
            except Exception as error:  # noqa: BLE001 - the question stands, whether its page is there or not
                get_run_logger().error("the report could not be published, `runbook report` shows it: %s", error)
            raise
        except BaseException as error:
            if not lock.is_held():
                # Whoever has it by now writes this record; ours would be a second hand in it.
                get_run_logger().error("the release lock was lost; the record is left to the run that takes it up")
                raise
            what = error.message if isinstance(error, RunbookError) else f"{type(error).__name__}: {error}"
            try:
                _publish(_closed(ledger, order, "failed", f"ended: {what}"))
            except Exception as second:  # noqa: BLE001 - why the release ended must not be hidden
                get_run_logger().error("the end of %s could not be written down or told: %s", order.release_id, second)
            raise
        release = _closed(ledger, order, "finished", "finished")
        try:
            _publish(release)
        except Exception as error:  # noqa: BLE001 - a report that Prefect does not take changes nothing of the release
            get_run_logger().error("the report could not be published, `runbook report` shows it: %s", error)


def publish_preview(order: Order, previews: Sequence[Preview], plan: Plan) -> None:
    """Publish what a dry run found."""
    create_markdown_artifact(
        preview_report(order, previews, plan), key=f"dry-run-{order.environment}", description=f"dry run of {order.ref}"
    )


def _closed(ledger: Ledger, order: Order, status: Status, what: str) -> Release:
    """Write a release's end down, unless it has ended or is being watched already."""

    def close(record: Release) -> Release:
        return record if record.status in SERVING else record.closed(status, what, now())

    return ledger.update(order.release_id, close)


def _publish(release: Release) -> None:
    create_markdown_artifact(
        release_report(release),
        key=f"release-{release.environment}",
        description=f"{release.ref} to {release.environment}: {release.status}",
    )


def _resumed_run() -> str:
    """This flow run's id, if it was suspended before; else empty."""
    run = flow_run.get_id()
    if not run:
        return ""
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(UUID(run))
    return run if any(state.is_paused() for state in states) else ""


def _goes_on(run: str) -> bool:
    """Whether a flow run has not ended."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(run)).state
        except ObjectNotFound:
            return False
    return state is not None and not state.is_final()


def _requester() -> str:
    """Who asked, and in which run."""
    return f"{_asked_by()} (run {flow_run.get_name() or 'without a name'})"


def _asked_by() -> str:
    """Who asked, as far as anybody can tell: Prefect itself knows no users."""
    asked = [tag.removeprefix(ASKED_BY) for tag in flow_run.get_tags() or () if tag.startswith(ASKED_BY)]
    return asked[0] if asked else "the Prefect UI or API"
