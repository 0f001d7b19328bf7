"""The gate stage of §4: what must be so before anything is begun."""

from __future__ import annotations

from datetime import timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.app.candidate import prepare
from tasks.app.probing import plan
from tasks.gate.gate import Looked, refuse_another, sentence
from tasks.release.decisions import Gated
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, RefusedError, may_retry
from tasks.release.order import Order, Preview
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger, now

FRESH = timedelta(minutes=5)  # prerequisites that were found to hold are not looked at again for so long


@task(
    name="check prerequisites",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def check_prerequisites(order: Order) -> Gated | Preview:
    """§4: evidence from staging, CI, branch, drift, replicas, transactions, vacuum, freeze."""
    log = get_run_logger().info
    environment = load(order.environment)
    if order.dry_run:
        planned = plan(environment, prepare(environment, order.commit, log))
        looked = Looked(environment, planned, order.commit, order.ref, now())
        failing = looked.failing
        would = f"refuse: {len(failing)} of {len(looked.checks)} prerequisites do not hold" if failing else "go on"
        return Preview(stage="gate", would=would, findings=tuple(sentence(check) for check in failing))

    def work(release: Release) -> Gated:
        if release.plan is None:
            raise RefusedError(f"release {release.id} has no plan: it cannot be told what it needs")
        return Looked(environment, release.plan, release.commit, order.ref, now()).gated()

    gated = Ledger(Bucket(environment.storage), environment.name).carry_out(order.release_id, "gate", work, log)
    for check in gated.checks:
        log("%s: %s", check.name, check.evidence)
    return gated


@task(
    name="look again",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def look_again(order: Order) -> None:
    """§4: plan and prerequisites are still what they were: hours or days may have passed since they were looked at.

    Nothing is looked at where that was done just now, or where the code is being deployed already: then going on is
    safer.

    Raises:
        RefusedError: They are not.
    """
    environment = load(order.environment)
    if order.dry_run:
        return
    log = get_run_logger().info
    release = Ledger(Bucket(environment.storage), environment.name).load(order.release_id)
    if release.plan is None or release.gate is None or "code" in release.stages:
        return
    if now() - release.gate.checked_at < FRESH:
        return
    refuse_another(release.plan, plan(environment, prepare(environment, release.commit, log)))
    Looked(environment, release.plan, release.commit, order.ref, now()).gated()
    log("plan and prerequisites are what they were")
