"""§4: deploy to production."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from tasks.app.stage import plan_migrations
from tasks.approve.stage import ask_for_approval, await_approval
from tasks.backup.stage import create_backup
from tasks.code.stage import deploy_code, reload_service
from tasks.gate.stage import check_prerequisites, look_again
from tasks.maintenance.stage import close_application, open_application, open_in_every_outcome
from tasks.migrate.stage import apply_migrations
from tasks.monitor.stage import start_watch
from tasks.notify.stage import announce, failure_told, tell, tell_of_question
from tasks.record.stage import publish_preview, release_of
from tasks.rehearse.stage import rehearse_on_backup
from tasks.release.order import Order, Preview
from tasks.release.way import Way
from tasks.risk.stage import assess_risk
from tasks.smoke.stage import smoke_test

Step = Callable[[Order], object]

# The page of the runbook, in its order; a dry run walks the same lists.
BEFORE: tuple[Step, ...] = (
    assess_risk,  # §4.1, §6
    check_prerequisites,  # §4
    announce,  # §4.2
    ask_for_approval,
    tell_of_question,
    await_approval,  # §4.1: somebody stands by, and says so
    look_again,  # §4: hours may have passed
    create_backup,  # §4.3
    rehearse_on_backup,  # §4.3: one restore proves the backup and serves the rehearsal
)
# At every moment the code that serves works on the schema that is there.
MIGRATE: dict[Way, tuple[Step, ...]] = {
    "migrate first": (deploy_code, apply_migrations, reload_service),  # §4.5
    "code first": (deploy_code, reload_service, apply_migrations),
    "in maintenance": (  # §4.4 to §4.6
        close_application,
        deploy_code,
        apply_migrations,
        reload_service,
        open_application,
    ),
}
AFTER: tuple[Step, ...] = (
    smoke_test,  # §4.6
    tell,  # §4.2
    start_watch,  # §4.7
)


@flow(name="production", flow_run_name="{ref}-to-{environment}", validate_parameters=True)
def production(
    ref: Annotated[str, Field(min_length=1)],
    environment: str = "production",
    dry_run: bool = False,
    release_id: str = "",
) -> State[None]:
    """Deploy a release to production: prerequisites, approval, backup, rehearsal, migrations under guard, watch.

    A run that died is started again with the same ref: finished stages are not repeated, and maintenance mode is off.

    Args:
        ref: Tag, branch or commit to deploy; the environment's branch must contain it.
        environment: Name of the environment file.
        dry_run: Only read: show what would be done.
        release_id: A release to take up again; "new" begins anew; empty takes up the newest one if it is unfinished
            and of this commit.
    """
    with (
        release_of("production", environment, ref, release_id, dry_run) as release,
        failure_told(release.order),
        open_in_every_outcome(release.order, release.lock),
    ):
        plan = release.carry_out(plan_migrations)
        results = [release.carry_out(step) for step in BEFORE]
        results += [release.carry_out(step) for step in MIGRATE[release.way()]]
        results += [release.carry_out(step) for step in AFTER]
    if dry_run:
        publish_preview(release.order, [result for result in results if isinstance(result, Preview)], plan)
        return Completed(message=f"dry run of {ref}: {len(plan.pending)} pending")
    return Completed(message=f"{ref} is on {environment}: release {release.order.release_id}")
