"""The risk stage of §4.1: every pending migration judged by facts."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.app.candidate import prepare, serving
from tasks.app.probing import plan
from tasks.markdown.risk import checklist_table, facts_list, findings_list
from tasks.markdown.text import cell
from tasks.release.checklist import checklist
from tasks.release.environment import load
from tasks.release.errors import RETRY_DELAYS_S, RefusedError, may_retry
from tasks.release.order import Order, Preview
from tasks.release.plan import Plan
from tasks.release.release import Release
from tasks.release.risk import Risk
from tasks.release.rules import refuse_blocked
from tasks.risk.assess import assess
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger


@task(
    name="assess risk",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def assess_risk(order: Order) -> Risk | Preview:
    """§4.1, §6: judge the pending migrations by their operations, their SQL, the code and the database."""
    log = get_run_logger().info
    environment = load(order.environment)
    if order.dry_run:
        candidate = prepare(environment, order.commit, log)
        planned = plan(environment, candidate)
        risk = assess(environment, planned, candidate, serving(environment))
        _publish(order, planned, risk)
        made = checklist(planned, risk)
        return Preview(
            stage="risk",
            would=f"judge the migrations: {made.level} before any rehearsal; demands: {', '.join(made.demands)}",
            findings=tuple(f"{finding.migration}: {finding.message}" for finding in risk.findings),
        )
    ledger = Ledger(Bucket(environment.storage), environment.name)

    def work(release: Release) -> Risk:
        if release.plan is None:
            raise RefusedError(f"release {release.id} has no plan to judge")
        previous = prepare(environment, release.previous_commit, log)
        return assess(environment, release.plan, prepare(environment, order.commit, log), previous)

    risk = ledger.carry_out(order.release_id, "risk", work, log)
    release = ledger.load(order.release_id)
    if release.plan:
        _publish(order, release.plan, risk)
    for finding in risk.findings:
        if finding.suppressed is None:
            get_run_logger().warning("%s (%s): %s", finding.migration, finding.severity, finding.message)
    refuse_blocked(release)
    return risk


def _publish(order: Order, planned: Plan, risk: Risk) -> None:
    parts = [
        f"# Risk of {cell(order.ref)} on {order.environment}",
        checklist_table(checklist(planned, risk)),
        "## Findings",
        findings_list(risk),
        facts_list(risk),
    ]
    create_markdown_artifact(
        "\n\n".join(part for part in parts if part),
        key=f"risk-{order.environment}",
        description=f"what {order.ref} risks on {order.environment}, before it is rehearsed",
    )
