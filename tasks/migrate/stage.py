"""The migrate stage of §3.3."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.migrate.apply import apply
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, may_retry
from tasks.release.order import Order, Preview
from tasks.release.plan import Applied, table_of
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger


@task(
    name="apply migrations",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def apply_migrations(order: Order) -> Applied | Preview:
    """§3.3: apply the pending migrations under limits, one release at a time, and say how far it is."""
    log = get_run_logger().info
    environment = load(order.environment)
    limits = environment.migrate
    if order.dry_run:
        return Preview(
            stage="applied",
            would="apply the migrations below, every statement under lock_timeout"
            f" {limits.lock_timeout_s:g} s and statement_timeout {limits.statement_timeout_s:g} s",
        )

    def work(release: Release) -> Applied:
        bar = create_progress_artifact(
            progress=0.0 if release.plan and release.plan.pending else 100.0,
            key=f"migrate-{environment.name}",
            description=f"migrations of {order.ref} on {environment.name}",
        )

        def progress(done: float, of: int, what: str) -> None:
            if what:
                log(f"{what} ({int(done)} of {of} done)")
            try:
                update_progress_artifact(bar, progress=100.0 * done / of)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 - a bar that cannot be drawn must not end a migration
                log(f"the progress artifact could not be updated: {error}")

        return apply(environment, release, progress, log)

    applied = Ledger(Bucket(environment.storage), environment.name).carry_out(order.release_id, "applied", work, log)
    create_table_artifact(
        key=f"showmigrations-{environment.name}",
        table=table_of(applied.after),
        description=f"`showmigrations --plan` on {environment.name}, after {order.ref}",
    )
    return applied
