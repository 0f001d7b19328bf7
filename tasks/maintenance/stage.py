"""The stages of §4.4 and §4.6: maintenance mode on, and off."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.database.lock import SWEEP, Held, advisory_lock
from tasks.maintenance.switch import described, is_on, refuse_without_switch
from tasks.maintenance.window import close, needed, put_right, reopen, still_closed
from tasks.release.decisions import Closed, Reopened
from tasks.release.environment import Environment, load
from tasks.release.errors import RETRY_DELAYS_S, ReleaseInProgressError, may_retry
from tasks.release.order import Order, Preview
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger

LOOKED_AT = 20  # newest releases; what an older one left on, the sweep has found


@task(
    name="close application",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def close_application(order: Order) -> Closed | Preview:
    """§4.4: switch maintenance mode on where the checklist demands it, and see that it is."""
    log = get_run_logger().info
    environment = load(order.environment)
    if order.dry_run:
        return Preview(
            stage="maintenance",
            would=f"switch maintenance mode on by {_way(environment)}, if the checklist or a person demands it",
            findings=_findings(environment),
        )
    ledger = Ledger(Bucket(environment.storage), environment.name)
    release = ledger.load(order.release_id)
    if release.maintenance is None:
        refuse_without_switch(environment, needed(release))  # before the record says that it may be on
    closed = ledger.carry_out(order.release_id, "maintenance", lambda record: close(environment, record, log), log)
    if release.maintenance is not None:
        still_closed(environment, release, log)
    return closed


@task(
    name="open application",
    retries=len(RETRY_DELAYS_S),
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_condition_fn=may_retry,
    cache_policy=NO_CACHE,
)
def open_application(order: Order) -> Reopened | Preview:
    """§4.6: switch maintenance mode off where it was switched on, and see that it is."""
    log = get_run_logger().info
    environment = load(order.environment)
    if order.dry_run:
        return Preview(stage="reopened", would="switch maintenance mode off, if the release had switched it on")
    return Ledger(Bucket(environment.storage), environment.name).carry_out(
        order.release_id, "reopened", lambda release: reopen(environment, release, log), log
    )


@contextmanager
def open_in_every_outcome(order: Order, lock: Held | None) -> Iterator[None]:
    """Switch maintenance mode off that a run of another release has left on, and that this one leaves on when it fails.

    What a SIGKILL leaves on, the next run or the sweep puts right.

    Args:
        order: What is released.
        lock: The release lock; a dry run has none. When it was lost, it is taken anew or the application is left to
            whoever has it by then: a release that is being migrated must not be opened by another hand.

    Raises:
        MaintenanceError: The application still shows the maintenance mode of another release.
    """
    if lock is None:
        yield
        return
    log = get_run_logger()
    environment = load(order.environment)
    ledger = Ledger(Bucket(environment.storage), environment.name)
    for release in itertools.islice(ledger.newest(), LOOKED_AT):
        if release.id != order.release_id and put_right(environment, ledger, release.id, "a later run", log.info):
            log.warning("release %s had left maintenance mode on", release.id)
    try:
        yield
    except BaseException:
        try:
            with nullcontext() if lock.is_held() else advisory_lock(environment.database, "release", SWEEP):
                put_right(environment, ledger, order.release_id, "the release", log.info)
        except ReleaseInProgressError:
            log.warning("the release lock is another run's by now, and so is the application")
        except Exception as error:  # noqa: BLE001 - why the release ended must not be hidden
            log.error("maintenance mode could not be ended: %s", environment.redacted(str(error)))
        raise


def _way(environment: Environment) -> str:
    return described(environment.maintenance) if environment.maintenance else "nothing, since there is no switch"


def _findings(environment: Environment) -> tuple[str, ...]:
    """What is wrong already, asked without switching anything."""
    if environment.maintenance is None:
        return (f"{environment.name} has no [maintenance] section: a release that needs it is refused",)
    shown = is_on(environment)
    if shown is None:
        return ("the application does not answer check_path: maintenance mode could not be seen",)
    return ("maintenance mode is on already",) if shown else ()
