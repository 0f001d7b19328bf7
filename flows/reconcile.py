"""The sweep: what died is found in the records of releases, and put right or told."""

from __future__ import annotations

from collections.abc import Callable

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.utilities.urls import url_for

from tasks.maintenance.window import may_be_on
from tasks.maintenance.window import put_right as reopen
from tasks.migrate.run import SESSION
from tasks.notify.deliver import deliver
from tasks.notify.escalate import due
from tasks.notify.notice import Notice
from tasks.notify.stage import notify, notify_contact, post_to_block
from tasks.notify.text import approval
from tasks.reconcile.hands import Hands, Message
from tasks.reconcile.stage import drop_scratch, look_around, put_right, write_down
from tasks.release.decisions import Delivery
from tasks.release.environment import Environment
from tasks.release.errors import ConflictError
from tasks.release.people import Contact
from tasks.release.release import Release

TIMEOUT_S = 600  # the longest part switches maintenance mode off


@flow(name="reconcile", flow_run_name="sweep-{environment}", validate_parameters=True, timeout_seconds=TIMEOUT_S)
def reconcile(environment: str = "staging") -> State[None]:
    """Find what died in an environment and put it right, or tell people; safe beside releases and other sweeps.

    Maintenance mode that a dead release left on is switched off, questions that nobody answered are closed or told to
    the next contact, watches go on, and of releases and other things left behind people are told once.

    Args:
        environment: Name of the environment file.
    """
    try:
        taken = look_around(environment, HANDS)
    except ConflictError:
        return Completed(message="another sweep was faster")
    done = [put_right(environment, HANDS, trouble, entry) for trouble, entry in taken.tasks]
    if taken.facts.lock_is_free and (outcome := drop_scratch(environment)):
        done.append(outcome)
    if done:
        write_down(environment, done)
    failed = [one.error for one in done if one.error]
    failed += [f"{part} could not be looked at: {why}" for part, why in taken.facts.unseen.items()]
    if failed:
        return Failed(message="; ".join(failed))
    return Completed(message="; ".join(f"{one.trouble.what}: {one.did}" for one in done) or "nothing is wrong")


def _tell(
    environment: Environment, release_id: str | None, message: Message, report: Callable[[str], None]
) -> tuple[Delivery, ...]:
    notice = Notice(occasion=message.occasion, subject=message.subject, facts=message.facts)
    if release_id:
        return notify(environment, release_id, notice, report)
    return deliver(environment, notice, post_to_block, before=(), done=lambda one: report(f"{one.to}: {one.subject}"))


def _ask(environment: Environment, release: Release, contact: Contact, report: Callable[[str], None]) -> Delivery:
    assert release.asked is not None  # noqa: S101 - it is about the question
    run_url = url_for("flow-run", obj_id=release.asked.flow_run_id) or ""
    notice = approval(environment, release, release.asked.expires_at, run_url)
    return notify_contact(environment, release.id, contact, notice, report)


HANDS = Hands(may_be_on=may_be_on, put_right=reopen, due=due, tell=_tell, ask=_ask, migrating=SESSION)
