"""The task that keeps the baseline."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.baseline.keep import Kept, keep
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, may_retry
from tasks.store.ledger import now


@task(
    name="collect baseline",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def keep_baseline(environment: str) -> Kept:
    """Collect what the sources told since the last run, and keep it."""
    return keep(load(environment), now(), get_run_logger().warning)
