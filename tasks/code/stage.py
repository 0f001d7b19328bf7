"""The code stages of §3.2: the checkout, and the service's reload."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.app.candidate import serving
from tasks.app.git import Git
from tasks.code.deploy import deploy, reload
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, may_retry
from tasks.release.order import Order, Preview
from tasks.release.release import Deployed, Reloaded
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger


@task(
    name="deploy code",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def deploy_code(order: Order) -> Deployed | Preview:
    """§3.2: check the release out where the application serves from, and install its requirements."""
    log = get_run_logger().info
    environment = load(order.environment)
    if order.dry_run:
        Git(environment).check_deployable(order.commit, order.ref)
        at = serving(environment)
        return Preview(stage="code", would=f"check {order.commit[:12]} out in {at.directory}, at {at.commit[:12]} now")
    return Ledger(Bucket(environment.storage), environment.name).carry_out(
        order.release_id, "code", lambda release: deploy(environment, release, log), log
    )


@task(
    name="reload service",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def reload_service(order: Order) -> Reloaded | Preview:
    """§3.2: make the service run what is checked out; after the migration, which the old code does not mind."""
    log = get_run_logger().info
    environment = load(order.environment)
    if order.dry_run:
        command = " ".join(environment.app.reload) or "nothing: no command is configured"
        return Preview(stage="reloaded", would=f"run {command}")
    return Ledger(Bucket(environment.storage), environment.name).carry_out(
        order.release_id, "reloaded", lambda release: reload(environment, release, log), log
    )
