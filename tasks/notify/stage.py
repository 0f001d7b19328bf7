"""The notices of §4.2, and those that other flows send: by email, and by Prefect's notification blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx
import prefect.blocks.notifications  # noqa: F401 - makes Prefect's own kinds of block known
from prefect import task
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import Pause, PrefectException
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for

from tasks.notify.deliver import came_through, deliver, deliver_to
from tasks.notify.notice import Notice
from tasks.notify.text import after, approval, before, failed, of_verdict
from tasks.release.decisions import Delivery, Told
from tasks.release.environment import Environment, load
from tasks.release.errors import RETRY_DELAYS_S, NoticeError, RunbookError, may_retry
from tasks.release.order import Order, Preview
from tasks.release.people import Contact, Occasion
from tasks.release.prefect_api import may_pass
from tasks.release.release import Release, StageName
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger

Report = Callable[[str], None]


@task(
    name="announce release",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def announce(order: Order) -> Told | Preview:
    """§4.2: tell the team what is about to be deployed, and how it would be taken back."""
    return _carried_out(order, "announced", "before", before)


@task(
    name="tell of release",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def tell(order: Order) -> Told | Preview:
    """§4.2: tell the team that it was deployed."""
    return _carried_out(order, "told", "after", after)


@task(
    name="tell of question",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def tell_of_question(order: Order) -> None:
    """Tell people that the release waits for an approval, where it does."""
    if order.dry_run:
        return
    environment = load(order.environment)
    release = Ledger(Bucket(environment.storage), environment.name).load(order.release_id)
    if release.status == "waiting" and release.asked and release.approval is None:
        notice = approval(environment, release, release.asked.expires_at, run_url())
        notify(environment, release.id, notice, get_run_logger().info)


@contextmanager
def failure_told(order: Order) -> Iterator[None]:
    """Tell people when the release fails, and why; a release that waits for an approval has not failed."""
    try:
        yield
    except Pause:
        raise
    except BaseException:
        log = get_run_logger()
        try:
            environment = load(order.environment)
            release = Ledger(Bucket(environment.storage), environment.name).load(order.release_id)
            notify(environment, release.id, failed(environment, release, run_url()), log.info)
        except Exception as error:  # noqa: BLE001 - why the release ended must not be hidden
            log.error("nobody could be told of it: %s", error)
        raise


@contextmanager
def verdict_told(environment_name: str, release_id: str) -> Iterator[None]:
    """Tell people when a watch ends with a verdict that asks for them: it convicts, or nothing could be said."""
    try:
        yield
    finally:
        log = get_run_logger()
        try:
            environment = load(environment_name)
            release = Ledger(Bucket(environment.storage), environment.name).load(release_id)
            if notice := of_verdict(environment, release, run_url()):
                notify(environment, release.id, notice, log.info)
        except RunbookError as error:  # the run's end, which a rollback is triggered by, must not be hidden
            log.error("nobody could be told of it: %s", error)


def notify(environment: Environment, release_id: str, notice: Notice, report: Report) -> tuple[Delivery, ...]:
    """Tell every channel that takes this occasion, unless it was told the same before; never raises for a delivery.

    Args:
        environment: Names the channels.
        release_id: Whose record takes down what became of each delivery.
        notice: What to say; tasks/notify/text.py has one for each occasion.
        report: Takes a line for the log.
    """
    ledger = Ledger(Bucket(environment.storage), environment.name)
    return deliver(
        environment,
        notice,
        post_to_block,
        before=ledger.load(release_id).notices,
        done=lambda delivery: _write_down(ledger, release_id, delivery, report),
    )


def notify_contact(
    environment: Environment, release_id: str, contact: Contact, notice: Notice, report: Report
) -> Delivery:
    """Tell one contact, unless that person was told the same before; never raises for a delivery."""
    ledger = Ledger(Bucket(environment.storage), environment.name)
    earlier = came_through(ledger.load(release_id).notices, contact.name, notice)
    if earlier:
        return earlier
    delivery = deliver_to(environment, contact, notice, post_to_block)
    _write_down(ledger, release_id, delivery, report)
    return delivery


def run_url() -> str:
    """The address of this flow run in Prefect's UI; empty outside of a run."""
    identity = flow_run.get_id()
    return (url_for("flow-run", obj_id=identity) or "") if identity else ""


def post_to_block(slug: str, notice: Notice) -> None:
    """Hand a notice to a notification block.

    Raises:
        NoticeError: There is no such block, or the service behind it did not take it. The block's address is a secret
            and is not told.
    """
    try:
        block = _block(slug)
        with block.raise_on_failure():
            cast("Any", block).notify(notice.markdown, subject=notice.headline)
    except NotificationError as error:
        codes = re.findall(r"error=(\d{3})", error.log)  # Apprise says it so
        raise NoticeError(
            f"the service behind the block {slug} did not take it" + (f" ({codes[0]})" if codes else ""),
            hint="is the block's address right, and does the service answer?",
            retryable=not (codes and codes[0].startswith("4") and codes[0] != "429"),
        ) from None
    except httpx.HTTPError as error:
        status = f"status {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else "no answer"
        raise NoticeError(f"the service behind the block {slug}: {status}", retryable=may_pass(error)) from None


def _block(slug: str) -> NotificationBlock:
    try:
        block = Block.load(slug)
    except ValueError:  # Prefect's word for a block that is not there
        raise NoticeError(
            f"there is no block {slug} on the Prefect server",
            hint="make it in the UI (Blocks); [[notify.channels]] block is its type's slug and its name",
        ) from None
    except (httpx.HTTPError, PrefectException) as error:
        raise NoticeError(
            f"the block {slug} could not be read: {type(error).__name__}",
            hint="does the Prefect server answer?",
            retryable=True,
        ) from None
    if not isinstance(block, NotificationBlock):
        raise NoticeError(f"the block {slug} is a {type(block).__name__}, which sends no notices")
    return block


def _carried_out(
    order: Order, stage: StageName, occasion: Occasion, text: Callable[[Environment, Release, str], Notice]
) -> Told | Preview:
    log = get_run_logger().info
    environment = load(order.environment)
    if order.dry_run:
        return _preview(environment, stage, occasion)
    url = run_url()

    def work(release: Release) -> Told:
        return Told(deliveries=notify(environment, release.id, text(environment, release, url), log))

    return Ledger(Bucket(environment.storage), environment.name).carry_out(order.release_id, stage, work, log)


def _preview(environment: Environment, stage: StageName, occasion: Occasion) -> Preview:
    """Whom it would tell, and which blocks are not there."""
    channels = [one for one in environment.notify.channels if occasion in one.occasions]
    findings = []
    for channel in channels:
        try:
            if channel.block:
                _block(channel.block)
        except NoticeError as error:
            findings.append(error.message)
    names = ", ".join(f"{one.name} ({one.block or 'email'})" for one in channels)
    return Preview(stage=stage, would=f"tell {names or 'nobody: no channel is configured'}", findings=tuple(findings))


def _write_down(ledger: Ledger, release_id: str, delivery: Delivery, report: Report) -> None:
    came = f"was told: {delivery.subject}" if delivery.ok else f"could not be told: {delivery.error}"
    report(f"{delivery.to} {came}")
    try:
        ledger.update(release_id, lambda record: record.delivered(delivery))
    except RunbookError as error:
        report(f"what became of it could not be written down: {error.message}")
