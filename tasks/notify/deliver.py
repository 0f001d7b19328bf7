"""Delivery of notices: each is tried a few times, and what became of it is said, never raised."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from tasks.notify.mail import send
from tasks.notify.notice import Notice
from tasks.release.decisions import Delivery
from tasks.release.environment import Environment
from tasks.release.errors import NoticeError, RunbookError
from tasks.release.people import Channel, Contact

PAUSES_S = (1.0, 4.0)  # between the tries of one delivery
MOST_AT_ONCE = 8  # deliveries side by side: one that hangs keeps no other waiting

Post = Callable[[str, Notice], None]  # to a Prefect block; raises NoticeError


def deliver(
    environment: Environment,
    notice: Notice,
    post: Post,
    *,
    before: Sequence[Delivery],
    done: Callable[[Delivery], None],
    pauses_s: Sequence[float] = PAUSES_S,
) -> tuple[Delivery, ...]:
    """Tell every channel that takes this occasion.

    Args:
        environment: Names the channels.
        notice: What to say.
        post: Hands a notice to a notification block of Prefect.
        before: Deliveries of earlier attempts: what came through is not sent again, and is returned as it was.
        done: Takes down what became of each delivery as soon as it is known; several threads call it.
        pauses_s: Seconds between the tries.

    Returns:
        What became of each, in the order of the channels.
    """
    channels = [one for one in environment.notify.channels if notice.occasion in one.occasions]
    if not channels:
        return ()

    def one(channel: Channel) -> Delivery:
        earlier = came_through(before, channel.name, notice)
        if earlier:
            return earlier
        delivery = _tried(environment, channel.name, notice, _way(environment, channel, notice, post), pauses_s)
        done(delivery)
        return delivery

    with ThreadPoolExecutor(min(MOST_AT_ONCE, len(channels))) as pool:
        # Prefect finds its server and its logger in the context of the run.
        runs = [pool.submit(contextvars.copy_context().run, one, channel) for channel in channels]
    return tuple(run.result() for run in runs)


def deliver_to(
    environment: Environment,
    contact: Contact,
    notice: Notice,
    post: Post,
    *,
    pauses_s: Sequence[float] = PAUSES_S,
) -> Delivery:
    """Tell a contact: by this person's channel, else by email through the first email channel's server."""
    channels = {one.name: one for one in environment.notify.channels}
    if contact.channel:
        way = _way(environment, channels[contact.channel], notice, post)
    else:
        way = _by_mail(environment, contact, notice)
    return _tried(environment, contact.name, notice, way, pauses_s)


def came_through(deliveries: Sequence[Delivery], to: str, notice: Notice) -> Delivery | None:
    """The delivery of the same notice to the same channel or contact, if there was one."""
    told = (to, notice.occasion, notice.headline)
    return next((one for one in deliveries if one.ok and (one.to, one.occasion, one.subject) == told), None)


def _way(environment: Environment, channel: Channel, notice: Notice, post: Post) -> Callable[[], None]:
    block, email = channel.block, channel.email
    if block is not None:
        return lambda: post(block, notice)
    assert email is not None  # noqa: S101 - Channel itself sees to it
    return lambda: send(email, email.to, notice, environment.notify.timeout_s)


def _by_mail(environment: Environment, contact: Contact, notice: Notice) -> Callable[[], None]:
    address = contact.email or ""
    email = next((one.email for one in environment.notify.channels if one.email), None)

    def mail() -> None:
        if email is None:
            raise NoticeError(
                f"{contact.name} has an address, and no channel of notify.channels has a mail server",
                hint="add an email channel, or name the contact's channel",
            )
        send(email, [address], notice, environment.notify.timeout_s)

    return mail


def _tried(
    environment: Environment, to: str, notice: Notice, way: Callable[[], None], pauses_s: Sequence[float]
) -> Delivery:
    """Try a delivery until it is done, cannot be done, or was tried often enough."""
    tries = 0
    problem = None
    for pause_s in (*pauses_s, None):
        tries += 1
        problem = _bounded(way, environment.notify.timeout_s)
        if problem is None or not problem.retryable or pause_s is None:
            break
        time.sleep(pause_s)
    return Delivery(
        to=to,
        occasion=notice.occasion,
        subject=notice.headline,
        ok=problem is None,
        tries=tries,
        error=environment.redacted(problem.message) if problem else "",
        at=datetime.now(UTC),
    )


def _bounded(way: Callable[[], None], timeout_s: float) -> RunbookError | None:
    """What went wrong with one try. One that has no end is left behind: a server may drip its answer for ever."""
    outcome: list[RunbookError | None] = []

    def work() -> None:
        try:
            way()
        except RunbookError as error:
            outcome.append(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop a release
            outcome.append(NoticeError(f"not delivered: {type(error).__name__}"))  # its text may hold the address
        else:
            outcome.append(None)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    thread.join(timeout_s)
    # Tried again, though it may yet come through: told twice is better than not at all.
    return outcome[0] if outcome else NoticeError(f"no end after {timeout_s:g} s", retryable=True)
