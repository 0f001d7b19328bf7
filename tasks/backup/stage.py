"""The backup stage of §3.1; it is proved where it is rehearsed on."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.backup.create import create
from tasks.backup.preview import look
from tasks.release.backup import Backup
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, may_retry
from tasks.release.order import Order, Preview
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger


@task(
    name="create backup",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def create_backup(order: Order) -> Backup | Preview:
    """§3.1: stream a dump of the database to the bucket."""
    log = get_run_logger().info
    environment = load(order.environment)
    bucket = Bucket(environment.storage)
    if order.dry_run:
        would, findings = look(environment, bucket)
        return Preview(stage="backup", would=would, findings=findings)
    made = Ledger(bucket, environment.name).carry_out(
        order.release_id, "backup", lambda release: create(environment, bucket, release.id, log), log
    )
    for finding in made.findings:
        get_run_logger().warning(finding)
    return made
