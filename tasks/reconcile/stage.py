"""The sweep's tasks: looking and taking on, putting right one by one, and telling it all in one page."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.reconcile.hands import Hands
from tasks.reconcile.memory import Entry
from tasks.reconcile.mend import Bench, dropped, mend
from tasks.reconcile.text import page
from tasks.reconcile.trouble import Outcome, Trouble
from tasks.reconcile.turn import Taken, leave, take_on
from tasks.release.environment import Environment, load
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger, now


@task(name="look for what died", cache_policy=NO_CACHE)
def look_around(environment_name: str, hands: Hands) -> Taken:
    """Compare the records with what is really at work, and take on what is to be done."""
    environment = load(environment_name)
    taken = take_on(environment, _ledger(environment), hands, now())
    for part, why in taken.facts.unseen.items():
        get_run_logger().warning("%s could not be looked at: %s", part, why)
    return taken


@task(name="put right", cache_policy=NO_CACHE)
def put_right(environment_name: str, hands: Hands, trouble: Trouble, entry: Entry) -> Outcome:
    """Put one thing right or tell people of it; an error ends in the outcome, so that it stops nothing else."""
    log = get_run_logger()
    environment = load(environment_name)
    log.warning("%s", trouble.what)
    try:
        outcome = mend(Bench(environment, _ledger(environment), hands, log.info), trouble, entry)
    except Exception as error:  # noqa: BLE001 - a mistake in one way of mending must not keep the others from their work
        outcome = Outcome(trouble, "", environment.redacted(f"{type(error).__name__}: {error}"), done=False)
    log.info("%s", outcome.did or "nothing was done")
    if outcome.error:
        log.error("%s", outcome.error)
    return outcome


@task(name="drop scratch databases left behind", cache_policy=NO_CACHE)
def drop_scratch(environment_name: str) -> Outcome | None:
    """Drop what rehearsals and proofs that died have left on the server."""
    outcome = dropped(load(environment_name))
    if outcome:
        get_run_logger().info("%s", outcome.did or outcome.error)
    return outcome


@task(name="write down", cache_policy=NO_CACHE)
def write_down(environment_name: str, outcomes: Sequence[Outcome]) -> None:
    """Leave to the next sweep what was done, and tell it on one page."""
    leave(_ledger(load(environment_name)), outcomes)
    create_markdown_artifact(
        page(environment_name, outcomes), key=f"reconcile-{environment_name}", description="what a sweep found and did"
    )


def _ledger(environment: Environment) -> Ledger:
    return Ledger(Bucket(environment.storage), environment.name)
