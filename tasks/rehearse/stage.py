"""The rehearsal stage of §2.4 and §4.1: the backup is proved, and the migrations are tried on what was restored."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.markdown.rehearsal import rehearsal_section
from tasks.rehearse.prove import prove_and_rehearse
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, may_retry
from tasks.release.evidence import evidence_of
from tasks.release.order import Order, Preview
from tasks.release.rehearsal import Rehearsal
from tasks.release.rules import refuse_blocked
from tasks.store.bucket import Bucket
from tasks.store.evidence import keep
from tasks.store.ledger import Ledger


@task(
    name="rehearse on backup",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def rehearse_on_backup(order: Order) -> Rehearsal | Preview:
    """§4.3, §2.4: prove the backup by restoring it, and try the migrations on what was restored."""
    environment = load(order.environment)
    if order.dry_run:
        would = f"prove the backup: {environment.backup.verify}"
        if environment.backup.verify == "restored":
            would += "; apply the migrations below to a copy of what was restored, reverse them and apply them again"
        return Preview(stage="rehearsal", would=would)
    rehearsal = prove_and_rehearse(environment, order.release_id, get_run_logger().info)
    for finding in rehearsal.findings:
        get_run_logger().warning(finding)
    bucket = Bucket(environment.storage)
    release = Ledger(bucket, environment.name).load(order.release_id)
    if rehearsal.migrations:
        keep(bucket, evidence_of(release))
        create_markdown_artifact(
            rehearsal_section(rehearsal),
            key=f"rehearsal-{environment.name}",
            description=f"the migrations of {order.ref} on the restored backup of {environment.name}",
        )
    refuse_blocked(release)
    return rehearsal
