"""The plan stage: what would this release do to the database?"""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.app.candidate import prepare
from tasks.app.guard import check_identity
from tasks.app.probing import plan
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, may_retry
from tasks.release.order import Order
from tasks.release.plan import Plan, table_of
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger


@task(
    name="plan migrations",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def plan_migrations(order: Order) -> Plan:
    """Ask the new code, checked out beside the serving one, what it would migrate."""
    log = get_run_logger().info
    environment = load(order.environment)

    def work(_: object = None) -> Plan:
        made = plan(environment, prepare(environment, order.commit, log))
        check_identity(environment, made.database)
        return made

    if order.dry_run:
        made = work()
    else:
        made = Ledger(Bucket(environment.storage), environment.name).carry_out(order.release_id, "plan", work, log)
    create_table_artifact(
        key=f"showmigrations-{environment.name}",
        table=table_of(made.listed),
        description=f"`showmigrations --plan` for {order.ref} on {environment.name}, before the release",
    )
    for migration in made.pending:
        log(f"pending: {migration.label}")
    for finding in made.findings:
        get_run_logger().warning(finding)
    return made
