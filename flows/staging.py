"""§3: deploy to staging."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from tasks.app.stage import plan_migrations
from tasks.backup.stage import create_backup
from tasks.code.stage import deploy_code, reload_service
from tasks.migrate.stage import apply_migrations
from tasks.monitor.stage import start_watch
from tasks.record.stage import publish_preview, release_of
from tasks.rehearse.stage import rehearse_on_backup
from tasks.release.order import Preview
from tasks.risk.stage import assess_risk
from tasks.smoke.stage import smoke_test

# The page of the runbook, in its order; a dry run walks the same list.
STEPS = (
    assess_risk,  # §4.1, §6
    create_backup,  # §3.1
    rehearse_on_backup,  # §4.3, §2.4: one restore proves the backup and serves the rehearsal
    deploy_code,  # §3.2
    apply_migrations,  # §3.3
    reload_service,  # §3.2, after the migration: the old code does not miss what the new one needs
    smoke_test,  # §3.4
    start_watch,  # §3.5
)


@flow(name="staging", flow_run_name="{ref}-to-{environment}", validate_parameters=True)
def staging(
    ref: Annotated[str, Field(min_length=1)],
    environment: str = "staging",
    dry_run: bool = False,
    release_id: str = "",
) -> State[None]:
    """Deploy a release to staging: plan, risk, backup, rehearsal, code, migrations, reload, smoke test, report.

    A run that died is started again with the same ref: finished stages are not repeated.

    Args:
        ref: Tag, branch or commit to deploy; the environment's branch must contain it.
        environment: Name of the environment file.
        dry_run: Only read: show what would be done.
        release_id: A release to take up again; "new" begins anew; empty takes up the newest one if it is unfinished
            and of this commit.
    """
    with release_of("staging", environment, ref, release_id, dry_run) as release:
        plan = release.carry_out(plan_migrations)
        results = [release.carry_out(step) for step in STEPS]
    if dry_run:
        publish_preview(release.order, [result for result in results if isinstance(result, Preview)], plan)
        return Completed(message=f"dry run of {ref}: {len(plan.pending)} pending")
    return Completed(message=f"{ref} is on {environment}: release {release.order.release_id}")
