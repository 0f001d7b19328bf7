"""Mending: what is done about each kind of trouble. All of it is safe to repeat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from tasks.backup.scratch import drop_leftover_scratch
from tasks.database.lock import SWEEP, advisory_lock, holder_of
from tasks.reconcile.hands import Hands, Message, Report
from tasks.reconcile.memory import Entry
from tasks.reconcile.runs import (
    WAITING_FOR_A_WORKER,
    cancel_suspended,
    left_running,
    mark_crashed,
    prefect_api,
    start_again,
    state_of,
)
from tasks.reconcile.text import go_on, message, standing
from tasks.reconcile.trouble import DAY, GRACE, PRESENT, Kind, Outcome, Trouble
from tasks.release.environment import Environment
from tasks.release.errors import ReleaseInProgressError, RunbookError
from tasks.release.release import Release
from tasks.store.ledger import Ledger, now

TOO_OFTEN = 3  # restarts of one watch's monitor in a row, after which people are told
TOLD_AGAIN = 30  # tries to switch maintenance mode off, between two notices that it fails
OTHERS_WORK = "left to the run that has taken the release up meanwhile"


class SettledError(RunbookError):
    """Somebody else was faster: there is nothing left to do."""


@dataclass(frozen=True)
class Bench:
    """What every way of mending works with."""

    environment: Environment
    ledger: Ledger
    hands: Hands
    report: Report

    def tell(self, about: Message, release: Release | None = None) -> tuple[str, str]:
        """Tell the environment's channels: how it went, in a few words; and what went wrong, where nobody was told."""
        deliveries = self.hands.tell(self.environment, release.id if release else None, about, self.report)
        if not deliveries:
            return "nobody is told of it: no channel of [notify] is for this", ""
        reached = ", ".join(one.to for one in deliveries if one.ok)
        failed = "; ".join(f"{one.to} could not be told: {one.error}" for one in deliveries if not one.ok)
        return (f"told {reached}", "") if reached else ("nobody could be told", failed)


def mend(bench: Bench, trouble: Trouble, entry: Entry) -> Outcome:
    """Do what there is to do about a trouble, and tell people of it.

    Args:
        bench: What is worked with.
        trouble: What is wrong.
        entry: What is remembered of it, this try counted.
    """
    try:
        return WAYS.get(trouble.kind, _told)(bench, trouble, entry)
    except SettledError as settled:
        return Outcome(trouble, settled.message, done=False)  # whoever was faster may die too
    except RunbookError as error:
        return Outcome(trouble, "", str(error), done=False)


def dropped(environment: Environment) -> Outcome | None:
    """Drop the scratch databases that runs which died have left; None: there were none.

    Those that are being used are younger: no dump and no restore may take half as long.
    """
    older_than = max(DAY, 2 * timedelta(seconds=environment.backup.timeout_s))
    trouble = Trouble("scratch", "scratch", "scratch databases were left behind by runs that died")
    try:
        names = drop_leftover_scratch(environment, older_than)
    except RunbookError as error:
        return Outcome(trouble, "", str(error), done=False)
    return Outcome(trouble, f"dropped {', '.join(names)}") if names else None


def _told(bench: Bench, trouble: Trouble, _entry: Entry) -> Outcome:
    """Tell people, where nothing can be done without them."""
    did, failed = bench.tell(
        message(bench.environment, trouble, ("What to do", HINTS.get(trouble.kind, ""))), trouble.release
    )
    return Outcome(trouble, did, failed, done=not failed)


def _reopened(bench: Bench, trouble: Trouble, entry: Entry) -> Outcome:
    """Switch off what a dead release left on, while it is certain that none runs; and say what the users meet now."""
    release = _release_of(trouble)
    stands = standing(bench.environment, release)
    try:
        with advisory_lock(bench.environment.database, "release", SWEEP):
            # The record as it is now: under the lock nobody else can be at it.
            if not bench.hands.put_right(bench.environment, bench.ledger, release.id, "the sweep", bench.report):
                raise SettledError("it is off already, by another hand")
    except ReleaseInProgressError:
        raise SettledError(OTHERS_WORK) from None
    except RunbookError as error:
        if entry.times % TOLD_AGAIN == 1:
            facts = (
                ("Failed", f"it could not be switched off: {error.message}"),
                ("What to do", f"{error.hint}; it is tried again every minute"),
                ("Applied", stands),
            )
            bench.tell(message(bench.environment, trouble, *facts), release)
        raise
    did = "maintenance mode is off, and was seen to be off"
    facts = (("Done", did), ("Applied", stands), ("What to do", go_on(release)))
    told, failed = bench.tell(message(bench.environment, trouble, *facts), release)
    return Outcome(trouble, f"{did}; {told}", failed, done=False)  # it is over when nothing of it is found any more


def _dead(bench: Bench, trouble: Trouble, _entry: Entry) -> Outcome:
    """Tell people once; the record stays running, since the next run of the same ref takes it up."""
    release = _release_of(trouble)
    if holder_of(bench.environment.database, "release"):
        raise SettledError(OTHERS_WORK)
    shown = _left_in_prefect(bench)
    stands = standing(bench.environment, release)
    told, failed = bench.tell(
        message(bench.environment, trouble, ("Applied", stands), ("What to do", go_on(release)), ("In Prefect", shown)),
        release,
    )
    if not failed:
        what = f"{PRESENT}its run died; {told}"
        bench.ledger.update(release.id, lambda record: _while("running", record).noted(what, now()))
    return Outcome(trouble, told, failed, done=not failed)


def _left_in_prefect(bench: Bench) -> str:
    """Tell Prefect of runs whose processes are gone, which it would show as running for ever; a sentence about each."""
    environment = bench.environment
    lines = []
    try:
        with prefect_api() as api:
            for run in left_running(api, environment.kind, environment.name, now() - GRACE):
                if mark_crashed(api, run):
                    lines.append(f"Prefect showed its run {run.name} as running; it is marked as crashed.")
                else:
                    lines.append(
                        f"Prefect shows the run {run.name} as running. It does not hold the release lock and can do no"
                        " further stage; whether its process is gone cannot be seen from here: cancel it in the UI."
                    )
    except RunbookError as error:
        lines.append(f"Whether Prefect shows its run as running could not be seen: {error.message}")
    return " ".join(lines)


def _expired(bench: Bench, trouble: Trouble, _entry: Entry) -> Outcome:
    """Close a release that nobody can or did approve; nothing of it was deployed, so there is nothing to undo."""
    release = _release_of(trouble)
    asked = release.asked
    hint = "nothing was deployed. Deploy the same ref again, which asks again"

    def close(record: Release) -> Release:
        if _while("waiting", record).asked != asked:
            raise SettledError("it is asked for anew")
        at = now()
        ended = "approval" in record.stages and record.approval is None
        refused = record.failed("approval", trouble.what, at, hint) if ended else record
        return refused.closed("failed", f"{PRESENT}{trouble.what}; nothing was deployed", at)

    bench.ledger.update(release.id, close)
    did = "the release is closed as failed"
    if asked:
        try:
            with prefect_api() as api:
                if cancel_suspended(api, asked.flow_run_id, f"the sweep: {trouble.what}"):
                    did += ", its run is cancelled"
        except RunbookError as error:  # the record decides: the run finds it closed when it is resumed
            did += f", its run is not cancelled ({error.message})"
    told, failed = bench.tell(message(bench.environment, trouble, ("What to do", hint), occasion="approval"), release)
    return Outcome(trouble, f"{did}; {told}", failed)


def _escalated(bench: Bench, trouble: Trouble, _entry: Entry) -> Outcome:
    """Tell the next contacts of a question; the record says so first, so that two sweeps do not tell one of them."""
    release = _release_of(trouble)

    def claim(record: Release) -> Release:
        asked = _while("waiting", record).asked
        if asked is None or asked != release.asked:
            raise SettledError("it was answered, asked anew, or told by another sweep")
        told = asked.model_copy(update={"told": (*asked.told, *trouble.contacts)})
        return record.model_copy(update={"asked": told})

    bench.ledger.update(release.id, claim)
    deliveries = [
        bench.hands.ask(bench.environment, release, contact, bench.report)
        for contact in bench.environment.contacts
        if contact.name in trouble.contacts
    ]
    failed = "; ".join(f"{one.to} could not be told: {one.error}" for one in deliveries if not one.ok)
    reached = ", ".join(one.to for one in deliveries if one.ok)
    return Outcome(trouble, f"told {reached}" if reached else "", failed)


def _watched_again(bench: Bench, trouble: Trouble, entry: Entry) -> Outcome:
    """Run the monitor again, which goes on where it ended; when that does not help, tell people."""
    release = _release_of(trouble)
    name = bench.environment.name
    with prefect_api() as api:
        if entry.run and state_of(api, entry.run) in WAITING_FOR_A_WORKER:
            run, did = entry.run, f"no worker has taken run {entry.run} of monitor/{name} yet"
        else:
            # Counted, so that the next try has a key of its own; a sweep that died in between repeats this very one.
            key = f"monitor-{release.id}-again-{entry.acted_at:%Y%m%dT%H%M}-{entry.times}"
            parameters = {"environment": name, "release_id": release.id}
            run = start_again(api, f"monitor/{name}", parameters, key, f"{release.ref}-on-{name}-again")
            did = f"the monitor is started again (time {entry.times} in a row)"
    bench.ledger.update(release.id, lambda record: _while("watching", record).noted(f"{PRESENT}{did}", now()))
    failed = ""
    if entry.times == TOO_OFTEN:
        hint = (
            f"until it lives nobody watches {release.ref}: look at the runs of monitor/{name} in the Prefect UI, and at"
        )
        hint += " the worker of their pool"
        told, failed = bench.tell(
            message(bench.environment, trouble, ("Done", f"{did}, and it does not stay alive"), ("What to do", hint)),
            release,
        )
        did = f"{did}; {told}"
    return Outcome(trouble, did, failed, done=False, run=run)


def _while(status: str, record: Release) -> Release:
    """The record, while it has a status.

    Raises:
        SettledError: It is no longer so.
    """
    if record.status != status:
        raise SettledError(f"release {record.id} is {record.status} by now")
    return record


def _release_of(trouble: Trouble) -> Release:
    assert trouble.release is not None  # noqa: S101 - troubles of these kinds are about one
    return trouble.release


WAYS: Mapping[Kind, Callable[[Bench, Trouble, Entry], Outcome]] = {
    "maintenance": _reopened,
    "dead run": _dead,
    "expired": _expired,
    "abandoned": _expired,
    "unanswered": _escalated,
    "watch": _watched_again,
}
HINTS: Mapping[Kind, str] = {
    "session": "what a killed migrate left at work keeps its locks until its statement ends, and the next run waits for"
    " it; SELECT pg_terminate_backend(<pid>) ends it",
    "shut scratch": "it holds nothing: drop it, unless somebody makes it just now",
    "record": "was it written by a newer runbook? until it can be read, nothing of its release is looked after",
    "blind": "until it can be seen, nothing of it is looked after",
}
