"""The smoke stage of §3.4."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.app.git import Git
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, may_retry
from tasks.release.order import Order, Preview
from tasks.release.release import Release, Smoked
from tasks.smoke.endpoints import look, smoke
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger


@task(
    name="smoke test",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def smoke_test(order: Order) -> Smoked | Preview:
    """§3.4: request every endpoint, then write and read a row."""
    log = get_run_logger().info
    environment = load(order.environment)
    if order.dry_run:
        answers = look(environment, Git(environment).head())
        findings = tuple(f"{answer.name} today: {answer.problem}" for answer in answers if not answer.ok)
        return Preview(
            stage="smoke", would=f"request {', '.join(answer.name for answer in answers)}", findings=findings
        )

    def work(release: Release) -> Smoked:
        return smoke(environment, release.commit, release.migrations_schema)

    return Ledger(Bucket(environment.storage), environment.name).carry_out(order.release_id, "smoke", work, log)
