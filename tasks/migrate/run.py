"""The attempts at `migrate`, one after the other, until all is applied or patience ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tasks.app.command import Checkout
from tasks.app.probing import plan
from tasks.database.lock import Held
from tasks.database.sessions import wait_until_gone
from tasks.migrate.attempt import Clock, Outcome, Step, attempt, last_words
from tasks.migrate.debris import drop_debris, is_concurrent, standing
from tasks.migrate.patience import wait
from tasks.release.environment import Environment
from tasks.release.errors import MigrationError, RunbookError
from tasks.release.plan import Attempt, Holder, Migration

SESSION = "runbook: migrate "  # begins the application_name of every migrating session
# An ordinary autovacuum gives way to whoever has waited for deadlock_timeout (1 s unless changed): one has to wait
# a little longer than that.
AUTOVACUUM_S = 1.3
OWN_WORK_TRIES = 3  # a migration that keeps others waiting by its own work does so again: chance is given thrice
SHARE = 0.9  # of statement_timeout: a lock that is not had must be told from a statement that takes too long


@dataclass
class Run:
    """One release's migrations, until they are applied.

    Args:
        environment: Where.
        checkout: The code that is released.
        name: The application_name of the migrating sessions.
        budget_s: The longest that others may be made to wait, in seconds; None: as long as it takes.
        lone: The checkout's lock, which the command inherits.
        lock: The one of migrations.
        catalogue: Of the release's backup.
        clock: Takes what is applied.
        report: Takes a line for the log.
    """

    environment: Environment
    checkout: Checkout
    name: str
    budget_s: float | None
    lone: int
    lock: Held
    catalogue: Mapping[str, str]
    clock: Clock
    report: Callable[[str], None]
    attempts: list[Attempt] = field(default_factory=list)

    def to_the_end(self, pending: tuple[Migration, ...]) -> None:
        """Apply the pending migrations.

        Raises:
            MigrationError: One cannot be applied, or not without keeping others waiting.
            DatabaseError: The server cannot be reached.
            ReleaseInProgressError: The lock of migrations was lost.
        """
        left, failures, until = pending, 0, 0.0
        while True:
            step = self._step(left, self.attempts[-1] if failures else None)
            self.lock.check()
            drop_debris(self.environment.database, left, self.catalogue, self.report)
            outcome = self._attempt(step)
            if outcome.error is None and step.target is None:
                return
            if step.target and step.target.label in self.clock.seconds and outcome.error is None:
                now_left = tuple(migration for migration in left if migration.label not in self.clock.seconds)
            else:
                now_left = self._look(pending, outcome)
            if len(now_left) < len(left):
                failures = 0
            if outcome.error is None:
                if len(now_left) == len(left):
                    raise MigrationError(f"`migrate` ended well, yet {left[0].label} is still pending")
                if not now_left:
                    return
            else:
                failures += 1
                until = until if failures > 1 else time.monotonic() + self.environment.migrate.patience_s
                self._refuse_unless_it_may_pass(pending, now_left, outcome, until, failures)
                wait(self.environment, outcome.attempt, failures, until, self.report)
                wait_until_gone(self.environment.database, SESSION, self.environment.migrate.timeout_s, self.report)
            left = now_left

    def _attempt(self, step: Step) -> Outcome:
        outcome = attempt(
            self.environment,
            self.checkout,
            step,
            name=self.name,
            budget_s=self.budget_s,
            clock=self.clock,
            lone=self.lone,
        )
        self.attempts.append(outcome.attempt)
        if outcome.error is not None:
            self.report(told(outcome.attempt))
        return outcome

    def _step(self, left: tuple[Migration, ...], failed: Attempt | None) -> Step:
        """What to apply next, and how long it may wait for a lock.

        Nobody who reads or writes waits behind a concurrent index, and one that gives up has built for nothing: it has
        a run of its own, in which it waits for as long as patience goes.
        """
        migrate = self.environment.migrate
        base_s = migrate.lock_timeout_s
        first = next((number for number, migration in enumerate(left) if is_concurrent(migration)), None)
        if first == 0:
            return Step(left[0], max(base_s, min(migrate.patience_s, SHARE * migrate.statement_timeout_s)))
        kinds = {holder.kind for holder in failed.holders} if failed else set()
        longer_s = max(base_s, AUTOVACUUM_S) if self.budget_s is None or self.budget_s > AUTOVACUUM_S else base_s
        return Step(left[first - 1] if first else None, longer_s if kinds == {"autovacuum"} else base_s)

    def _look(self, pending: tuple[Migration, ...], outcome: Outcome) -> tuple[Migration, ...]:
        """Which migrations are left, looked up in the database rather than taken from the output."""
        try:
            left = {migration.label for migration in plan(self.environment, self.checkout).pending}
        except RunbookError as second:
            # Where the world cannot be looked at, the next attempt looks; it may follow only if none is half applied.
            what = f" failed:\n{last_words(outcome.error.output)}\nand" if outcome.error else " ended, and"
            raise MigrationError(
                f"`migrate`{what} what stands applied could not be found out: {second}",
                hint="run the release again: it looks at the database before it goes on",
                retryable=second.retryable
                if outcome.error is None
                else outcome.attempt.ended_by != "error" and all(migration.atomic for migration in pending),
            ) from None
        return tuple(migration for migration in pending if migration.label in left)

    def _refuse_unless_it_may_pass(
        self,
        pending: tuple[Migration, ...],
        left: tuple[Migration, ...],
        outcome: Outcome,
        until: float,
        failures: int,
    ) -> None:
        """Raise when another attempt would not help, or might do something twice."""
        reason = outcome.attempt.ended_by
        failed = left[0] if left else None
        hint = ""
        if outcome.blind:
            hint = (
                "the guard could not see the server and ended the migration; find out why, then run the release again"
            )
        elif failed and not failed.atomic and not self._may_repeat(failed):
            hint = (
                f"{failed.label} is not atomic and may have left one half behind: look at its tables and indexes first"
            )
        elif reason == "error" or failed is None:
            hint = "mend the migration, then deploy the mended ref"
        elif _by_its_own_work(outcome.attempt) and failures >= OWN_WORK_TRIES:
            hint = (
                "its own work keeps others waiting: make it smaller (batches, CONCURRENTLY, NOT VALID), release it in a"
                " maintenance window, or raise risk.blocking_s"
            )
        elif time.monotonic() >= until:
            hint = "a lock was not had in time, or the connection was lost; run the release again at a quieter moment"
        if not hint:
            return
        applied = tuple(migration.label for migration in pending if migration not in left)
        stands = f"applied before it failed: {', '.join(applied)}" if applied else "nothing of it was applied"
        said = last_words(outcome.error.output) if outcome.error else ""
        several = f"{len(self.attempts)} attempts; the last: " if len(self.attempts) > 1 else ""
        costs = f"\n{several}{told(outcome.attempt)}" if reason != "error" else ""
        raise MigrationError(
            f"`migrate` failed{f' at {failed.label}' if failed else ''} ({stands}):\n{said}{costs}",
            applied=applied,
            failed=failed.label if failed else None,
            hint=hint,
        )

    def _may_repeat(self, migration: Migration) -> bool:
        """Whether nothing that a migration without transaction left behind is in the way of running it again."""
        return is_concurrent(migration) and not standing(self.environment.database, migration, self.catalogue)


def _by_its_own_work(attempt: Attempt) -> bool:
    return attempt.ended_by == "guard" and attempt.waited_s < attempt.blocked_others_s / 2


def told(attempt: Attempt) -> str:
    """One failed attempt in a sentence: what ended it, whom it waited for, who waited for it."""
    what = {
        "guard": "the guard cancelled it",
        "lock timeout": "it gave up waiting for a lock",
        "deadlock": "it met another transaction in a deadlock",
        "connection lost": "its connection was lost",
        "error": "it failed",
        "done": "it ended well",
    }[attempt.ended_by]
    parts = [f"{what} after {attempt.seconds:.1f} s"]
    if attempt.blocked_sessions:
        sessions = f"{attempt.blocked_sessions} session{'s' * (attempt.blocked_sessions > 1)}"
        parts.append(f"{sessions} waited for it, up to {attempt.blocked_others_s:.1f} s")
    parts += [f"it waited {holder.waited_s:.1f} s for {_named(holder)}" for holder in attempt.holders]
    return "; ".join(parts)


def _named(holder: Holder) -> str:
    since = f" since {holder.since:%Y-%m-%d %H:%M:%S %Z}" if holder.since else ""
    kind = "" if holder.kind == "session" else f"{holder.kind}, "
    user = f" of {holder.user}" if holder.user else ""
    over = f" over {holder.relation}" if holder.relation else ""
    state = f", {holder.state}" if holder.state and holder.kind == "session" else ""
    return f"{kind}process {holder.pid} ({holder.application_name or 'without a name'}){user}{state}{since}{over}"
