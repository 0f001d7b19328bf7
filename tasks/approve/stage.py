"""The approval stage of §4.1: the flow run is suspended until a person answers, and who stands by is a part of it."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from pydantic import ValidationError

from tasks.approve.answer import Answer, approved, mistake, refuse_what_is_over
from tasks.approve.question import described, question, still_holds, unasked
from tasks.release.decisions import Approved
from tasks.release.environment import Environment, load
from tasks.release.errors import RETRY_DELAYS_S, RefusedError, may_retry
from tasks.release.order import Order, Preview
from tasks.release.release import Release
from tasks.release.rules import refuse_blocked, refuse_stale
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger, now


class Form(RunInput, Answer):
    """The answer as Prefect asks for it."""


@task(
    name="ask for approval",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def ask_for_approval(order: Order) -> Approved | Preview | None:
    """§4.1: write the question into the record, unless nobody has to be asked or this run has asked before.

    Returns:
        The approval, where there is one already or nobody has to be asked; None: a person is asked.
    """
    environment = load(order.environment)
    if order.dry_run:
        who = {"always": "a person", "never": "nobody", "when demanded": "a person if the risk demands it"}
        return Preview(stage="approval", would=f"ask {who[environment.approval.ask]} for an approval")
    ledger = Ledger(Bucket(environment.storage), environment.name)
    release = ledger.load(order.release_id)
    if still_holds(environment, release, now()):
        get_run_logger().info("approval: given before, not asked for again")
        return release.approval
    refuse_blocked(release)
    run = flow_run.get_id() or ""
    if release.approval is None and release.asked and release.asked.flow_run_id == run:
        return None  # it was asked before the run was suspended
    if nobody := unasked(environment, release, now()):
        return ledger.update(release.id, lambda record: _unasked(record, nobody)).approval
    if release.verification:
        refuse_stale(environment, release)  # no answer could come in time
    made = question(environment, release, run, now())
    ledger.update(release.id, lambda record: record.asks(made))
    get_run_logger().warning(
        "%s waits for an approval until %s UTC: Resume in the menu of this run's page, or `runbook approve %s`",
        release.id,
        f"{made.expires_at:%Y-%m-%d %H:%M}",
        environment.name,
    )
    return None


def await_approval(order: Order) -> Approved | None:
    """Ask for an approval where one is needed, and wait for it outside of any process.

    It is called by the flow itself, since Prefect suspends no task. The flow run ends here as suspended; once it is
    answered it begins from the top, comes here again, and goes on or is refused.

    Raises:
        RefusedError: A person rejected the release, or answered too late; nothing was deployed.
        prefect.exceptions.Pause: The run is suspended.
    """
    if order.dry_run:  # what would be asked, the asking has said
        return None
    found = ask_for_approval(order)
    if isinstance(found, Approved):
        return found
    environment = load(order.environment)
    ledger = Ledger(Bucket(environment.storage), environment.name)
    problem = ""
    while True:
        release = ledger.load(order.release_id)
        answer, problem = _answer(release, problem)
        if answer is not None:
            return _settled(ledger, release, answer)
        get_run_logger().warning("the answer could not be taken: %s", problem)
        _ask_again(environment, ledger, release, problem)


def _answer(release: Release, problem: str) -> tuple[Answer | None, str]:
    """The answer to a release's question, or what is wrong with it; without any, the run is suspended here."""
    run = flow_run.get_id() or ""
    refuse_what_is_over(release, run)
    asked = release.asked
    if asked is None:
        raise RefusedError(f"release {release.id} asks for nothing", hint="deploy the same ref again")
    try:
        answer = suspend_flow_run(
            wait_for_input=Form.with_initial_data(description=described(release, asked, problem)), key=asked.key
        )
    except ValidationError as error:  # whoever sets the run's state by hand passes by the form and its checks
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False))
        return None, told
    wrong = mistake(answer, asked)
    return (None, wrong) if wrong else (answer, "")


def _settled(ledger: Ledger, release: Release, answer: Answer) -> Approved:
    """Write an answer down, and who stands by; or the refusal."""
    at = now()
    asked = release.asked
    if asked is None:
        raise RefusedError(f"release {release.id} asks for nothing", hint="deploy the same ref again")
    try:
        given = approved(answer, asked, at)
    except RefusedError as refusal:
        told = refusal
        ledger.update(release.id, lambda record: record.failed("approval", told.message, at, told.hint))
        raise
    ledger.update(
        release.id,
        lambda record: record.finished("approval", given, at).noted(
            f"approved by {given.by}, {given.standby} on standby", at, "approval"
        ),
    )
    get_run_logger().info("approved by %s, %s on standby", given.by, given.standby)
    return given


def _ask_again(environment: Environment, ledger: Ledger, release: Release, problem: str) -> None:
    """Put the question once more, and not for longer than before."""
    before = release.asked
    again = question(environment, release, flow_run.get_id() or "", now())
    if before:
        if before.expired(again.asked_at):
            refusal = f"the question expired at {before.expires_at:%Y-%m-%d %H:%M:%S} UTC without a valid answer"
            hint = "nothing was deployed. Deploy the same ref again, which asks again"
            ledger.update(release.id, lambda record: record.failed("approval", refusal, now(), hint))
            raise RefusedError(refusal, hint=hint)
        again = again.model_copy(update={"expires_at": before.expires_at, "told": before.told})
    ledger.update(
        release.id,
        lambda record: record.noted(f"an answer was not taken: {problem}", now(), "approval").asks(again),
    )


def _unasked(record: Release, nobody: Approved) -> Release:
    """The record with the approval that nobody had to give."""
    again = record.model_copy(update={"approval": None})
    return again.began("approval", nobody.answered_at).finished("approval", nobody, nobody.answered_at)
