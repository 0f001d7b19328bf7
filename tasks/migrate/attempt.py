"""One run of `migrate` under the guard, seen migration by migration."""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.app.command import Checkout, manage
from tasks.migrate.guard import Guard
from tasks.migrate.limits import limits
from tasks.migrate.sqlstate import Traceback, ended_by
from tasks.release.environment import Environment
from tasks.release.errors import CommandError
from tasks.release.plan import Attempt, Migration

APPLYING = re.compile(r"^\s*Applying ([\w.]+)\.\.\.")

Progress = Callable[[float, int, str], None]
"""Is called with how many migrations are done, a share of the running one included, how many there are, and what
happens now; "" when only the share has changed."""


class Clock:
    """Times each migration by the lines of `migrate`: "Applying x..." begins it, "Applying x... OK" ends it."""

    def __init__(self, labels: Sequence[str], progress: Progress) -> None:
        self.labels = labels
        self.progress = progress
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def again(self) -> None:
        """Forget what was begun and not finished: it is begun anew."""
        self.began = {label: at for label, at in self.began.items() if label in self.seconds}

    def begun(self, text: str, at: float) -> None:
        """Take the head of a line."""
        label = self._label(text)
        if label and label not in self.began:
            self.began[label] = at
            self.progress(len(self.seconds), len(self.labels), f"{label} is being applied")

    def line(self, text: str, at: float) -> None:
        """Take a line."""
        label = self._label(text)
        if label and "OK" in text:
            self.seconds[label] = at - self.began.get(label, at)
            self.progress(len(self.seconds), len(self.labels), f"{label} is applied")

    def share(self, share: float | None, what: str) -> None:
        """Take how much of the running migration is done, 0 to 1, where it is known."""
        running = next((label for label in self.began if label not in self.seconds), None)
        if running is not None:
            done: float = len(self.seconds)
            self.progress(done + (share or 0), len(self.labels), f"{running}: {what}" if what else "")

    def _label(self, text: str) -> str | None:
        found = APPLYING.match(text)
        return found[1] if found and found[1] in self.labels else None


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        attempt: For the record.
        error: Of the command; None when it ended well.
        blind: It was ended since the guard could not see it.
    """

    attempt: Attempt
    error: CommandError | None
    blind: bool


@dataclass(frozen=True)
class Step:
    """What one run of `migrate` applies, and how long it may wait for a lock.

    Args:
        target: The migration up to which it goes; None: all that are pending.
        lock_timeout_s: In seconds.
    """

    target: Migration | None
    lock_timeout_s: float


def attempt(
    environment: Environment,
    checkout: Checkout,
    step: Step,
    *,
    name: str,
    budget_s: float | None,
    clock: Clock,
    lone: int,
) -> Outcome:
    """Run `migrate` once.

    The command and the guard have threads of their own, and this one reports: an API that is slow to take a line must
    delay neither.

    Args:
        environment: Where.
        checkout: The code that is released.
        step: What to apply.
        name: The application_name that its sessions are given.
        budget_s: The longest that others may be made to wait; None: as long as it takes.
        clock: Takes what is applied.
        lone: The checkout's lock, which the command inherits.

    Raises:
        DatabaseError: The guard cannot reach the server.
    """
    events: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    stop = threading.Event()
    traceback = Traceback()

    def line(text: str) -> None:
        at = time.monotonic()
        traceback.line(text)
        events.put(lambda: clock.line(text, at))

    def begun(text: str) -> None:
        at = time.monotonic()
        events.put(lambda: clock.begun(text, at))

    target = [step.target.app, step.target.name] if step.target else []
    arguments = ["migrate", *target, "--no-input", "--no-color", f"--database={environment.app.database_alias}"]

    def command() -> CommandError | None:
        try:
            manage(
                environment,
                checkout,
                arguments,
                variables=limits(environment, name, step.lock_timeout_s),
                timeout_s=environment.migrate.timeout_s,
                line=line,
                begun=begun,
                inherits=(lone,),
                stop=stop,
            )
        except CommandError as error:
            return error
        return None

    clock.again()
    began, at = datetime.now(UTC), time.monotonic()
    guard = Guard(
        environment.database,
        name,
        budget_s,
        stop,
        lambda share, what: events.put(lambda: clock.share(share, what)),
    )
    with guard, ThreadPoolExecutor(1, "migrate") as pool:
        running = pool.submit(command)
        running.add_done_callback(lambda _: events.put(None))
        try:
            while event := events.get():
                event()
            error = running.result()
        finally:
            stop.set()  # whoever cancels the flow ends the command with it
    sight = guard.sight
    sqlstate = traceback.sqlstate if error else None
    reason = ended_by(sqlstate, last_words(error.output), by_the_guard=sight.cancelled > 0) if error else "done"
    record = Attempt(
        began=began,
        seconds=time.monotonic() - at,
        ended_by=reason,
        sqlstate=sqlstate,
        waited_s=sight.waited_s,
        blocked_others_s=sight.blocked_others_s,
        blocked_sessions=len(sight.blocked),
        cancelled=sight.cancelled,
        holders=sight.told_holders(),
        statements=sight.told_statements(),
    )
    return Outcome(record, error, sight.blind)


def last_words(output: str) -> str:
    """The exception at the end of what a program printed, without the traceback above it."""
    lines = output.rstrip().splitlines()
    begin = next((number for number in range(len(lines), 0, -1) if lines[number - 1].startswith(" ")), 0)
    return "\n".join(lines[begin:] or lines[-1:])[-2000:]
