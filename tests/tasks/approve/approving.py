"""A flow that is nothing but a release, its judgement and its approval; a worker can run it too."""

from __future__ import annotations

from prefect import flow

from tasks.approve.stage import await_approval
from tasks.record.stage import release_of
from tasks.release.environment import load
from tasks.release.order import Order
from tasks.release.plan import Plan
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger
from tests.builders import plan, risk

MIGRATION = "documents.0002_document_category"


def plan_and_judge(order: Order) -> Plan:
    """Give the release a plan and a judgement."""
    environment = load(order.environment)
    ledger = Ledger(Bucket(environment.storage), order.environment)
    planned = ledger.carry_out(order.release_id, "plan", lambda _: plan(MIGRATION), print)
    ledger.carry_out(order.release_id, "risk", lambda _: risk(labels=(MIGRATION,), limits=environment.risk), print)
    return planned


@flow(name="approving")
def approving(ref: str, environment: str = "production", release_id: str = "") -> None:
    """Ask for an approval of a release, and finish it."""
    with release_of("production", environment, ref, release_id, dry_run=False) as release:
        release.carry_out(plan_and_judge)
        release.carry_out(await_approval)
