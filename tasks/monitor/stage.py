"""The watch of §3.5 and §4.7 as tasks: it is started by the deploying flow, and is a flow of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger

from tasks.database.lock import advisory_lock
from tasks.markdown.verdict import verdict_report
from tasks.monitor.conclude import conclude, drawn, picture_url, superseded
from tasks.monitor.replay import Replayed, placebo, replay
from tasks.monitor.watch import Watch
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, ConfigurationError, DatabaseError, MonitorError, may_retry
from tasks.release.order import Order
from tasks.release.release import Release
from tasks.release.watch import Placebo, Verdict
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger, now

CHUNK = 30  # intervals of one task: a row in the UI tells how far the watch is, and a retry begins there


@task(
    name="start watch",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def start_watch(order: Order) -> str:
    """§3.5, §4.7: ask for the run that watches the release; twice gives one. The last step of a deploying flow.

    Returns:
        The run's id; "": this environment watches nothing, or the order is a dry run.
    """
    environment = load(order.environment)
    log = get_run_logger().info
    if environment.monitor.watch_s == 0:
        log("%s is not watched here: watch_s is 0", order.ref)
        return ""
    if order.dry_run:
        log("would watch for %.0f s", environment.monitor.watch_s)
        return ""
    try:
        run = run_deployment(
            f"monitor/{order.environment}",
            parameters={"environment": order.environment, "release_id": order.release_id},
            flow_run_name=f"watch-{order.release_id}",
            timeout=0,
            as_subflow=False,
            idempotency_key=f"monitor-{order.release_id}",
        )
    except ObjectNotFound:
        raise ConfigurationError(
            f"there is no deployment monitor/{order.environment}: {order.ref} serves and is not watched",
            hint="`runbook register`, then deploy the same ref again: what is done is not repeated",
        ) from None
    assert isinstance(run, FlowRun)  # noqa: S101 - outside of a coroutine it is one

    def watching(record: Release) -> Release:
        # A fast watch may have ended already.
        what = f"watched by flow run {run.name}"
        return record if record.verdict else record.closed("watching", what, now())

    Ledger(Bucket(environment.storage), environment.name).update(order.release_id, watching)
    return str(run.id)


@contextmanager
def sole_watch(environment_name: str, release_id: str) -> Iterator[None]:
    """Hold the lock of a watch; where the database is away, the conditional write of the state has to do.

    Raises:
        ReleaseInProgressError: Another run watches this release.
    """
    environment = load(environment_name)
    lock = advisory_lock(environment.database, f"watch {release_id}", "by a monitor")
    try:
        lock.__enter__()
    except DatabaseError as error:
        # A database that is down is what a watch has to tell of.
        get_run_logger().warning("the watch goes on without its lock: %s", error.message)
        yield
        return
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


@task(
    name="watch intervals",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def watch_intervals(environment_name: str, release_id: str) -> str:
    """Watch for CHUNK intervals, from where the bucket says that the watch stands.

    Returns:
        Why the watch is over; "" while it is not.
    """
    log = get_run_logger().info
    environment = load(environment_name)
    ledger = Ledger(Bucket(environment.storage), environment.name)
    watch = Watch.open(environment, ledger.load(release_id))
    bar = _bar(watch)
    watch.begin(now())
    last = watch.state.judged + CHUNK
    while not watch.ended and watch.state.judged < last:
        if superseded(ledger, release_id):
            return "superseded"
        before = watch.state.judged
        time.sleep(max(0.0, watch.due_s(now())))
        watch.advance(now())
        if watch.state.judged - before > 1:
            log("%d intervals made up for", watch.state.judged - before)
        _tell(watch, bar, log_it=watch.state.judged // 5 != before // 5 or bool(watch.ended))
    return watch.ended


@task(
    name="verdict",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def deliver_verdict(environment_name: str, release_id: str, ended: str) -> Verdict:
    """Write the verdict down and publish it.

    Raises:
        MonitorError: It convicts: this task fails, and the flow run with it, which is what triggers the rollback.
    """
    environment = load(environment_name)
    ledger = Ledger(Bucket(environment.storage), environment.name)
    watch = Watch.open(environment, ledger.load(release_id))
    verdict = conclude(watch, ledger, ended, now())
    _publish(watch, verdict)
    if verdict.outcome == "convicted":
        raise MonitorError(verdict.sentence, hint=f"`runbook report {environment_name} {release_id}` shows why")
    return verdict


@task(
    name="replay",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def replay_at(environment_name: str, at: datetime) -> Replayed:
    """Judge the past as if a migration had happened then."""
    return replay(load(environment_name), at)


@task(
    name="placebo replays",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def replay_placebos(environment_name: str) -> Placebo:
    """Judge the last days on which nothing was released, which tells how often the judge is wrong here."""
    return placebo(load(environment_name), now())


def _bar(watch: Watch) -> UUID | None:
    try:
        bar = create_progress_artifact(
            progress=_progress(watch),
            key=f"watch-{watch.environment.name}",
            description=f"watch of {watch.release.ref} on {watch.environment.name}",
        )
        return bar if isinstance(bar, UUID) else None
    except Exception as error:  # noqa: BLE001 - a bar that cannot be drawn must not end a watch
        get_run_logger().warning("the progress artifact could not be made: %s", error)
        return None


def _tell(watch: Watch, bar: UUID | None, *, log_it: bool) -> None:
    log = get_run_logger()
    if log_it:
        log.info("%s", watch.described())
    try:
        if bar:
            update_progress_artifact(bar, progress=_progress(watch))
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("the progress artifact could not be updated: %s", error)


def _progress(watch: Watch) -> float:
    settings = watch.environment.monitor
    return min(100.0, 100.0 * watch.state.judged * settings.interval_s / max(settings.watch_s, settings.interval_s))


def _publish(watch: Watch, verdict: Verdict) -> None:
    threshold = 1 / watch.environment.monitor.false_alarm_rate
    url = picture_url(watch.environment, verdict)
    report = verdict_report(watch.release.ref, verdict, drawn(watch.state), threshold, url)
    try:
        create_markdown_artifact(
            report,
            key=f"verdict-{watch.environment.name}",
            description=f"{watch.release.ref} on {watch.environment.name}: {verdict.outcome}",
        )
    except Exception as error:  # noqa: BLE001 - the verdict stands in the record, whatever Prefect takes
        get_run_logger().error("the verdict could not be published: %s", error)
