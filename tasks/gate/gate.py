"""The gate of §4: every prerequisite is looked at, and all that do not hold are told together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from tasks.gate.checks import branch, drift, freeze
from tasks.gate.ci import ci_status
from tasks.gate.database import database_checks
from tasks.gate.evidence import Found, staging_evidence
from tasks.release.decisions import Check, Gated
from tasks.release.environment import Environment
from tasks.release.errors import RefusedError, RunbookError
from tasks.release.migration_set import hash_of
from tasks.release.plan import Plan


class Looked:
    """What was found, check by check, whatever single ones of them met.

    Args:
        environment: Where the release goes to.
        plan: Its pending migrations.
        commit: What is released.
        ref: How it was called.
        at: This moment.
    """

    def __init__(self, environment: Environment, plan: Plan, commit: str, ref: str, at: datetime) -> None:
        self.at = at
        self.passing = True  # whether everything that does not hold may hold by itself later
        self.found: Found | None = None
        self.checks: tuple[Check, ...] = tuple(self._all(environment, plan, commit, ref))

    def _all(self, environment: Environment, plan: Plan, commit: str, ref: str) -> Iterator[Check]:
        yield from self._try("release freeze", lambda: (freeze(environment, self.at),))
        yield from self._try("branch", lambda: (branch(environment, commit, ref),))
        yield from self._try("CI status", lambda: (ci_status(environment, commit, ref),))
        yield from self._try("staging evidence", lambda: self._evidence(environment, plan, ref))
        yield from self._try("drift", lambda: (drift(plan),))
        yield from self._try("database", lambda: database_checks(environment, plan))

    def _evidence(self, environment: Environment, plan: Plan, ref: str) -> tuple[Check, ...]:
        self.found = staging_evidence(environment, plan, ref, self.at)
        return (self.found.check,)

    def _try(self, name: str, look: Callable[[], tuple[Check, ...]]) -> tuple[Check, ...]:
        try:
            checks = look()
        except RunbookError as error:
            self.passing = self.passing and error.retryable
            return (Check(name=name, tick="unknown", evidence=error.message, mend=error.hint),)
        self.passing = self.passing and all(check.tick == "yes" for check in checks)
        return checks

    @property
    def failing(self) -> tuple[Check, ...]:
        """The checks that do not hold; unknown is as good as no."""
        return tuple(check for check in self.checks if check.tick != "yes")

    def gated(self) -> Gated:
        """The result, when every check holds.

        Raises:
            RefusedError: Some do not; the message names each with its mend. Retryable, where nothing was found to be
                against the release and what was not reached may be reached later.
        """
        if self.failing:
            told = "\n".join(f"  {sentence(check)}" for check in self.failing)
            raise RefusedError(
                f"{len(self.failing)} of {len(self.checks)} prerequisites do not hold:\n{told}",
                hint="nothing was changed. Mend each, then deploy the same ref again",
                retryable=self.passing,
            )
        evidence = self.found.evidence if self.found else None
        return Gated(
            checks=self.checks,
            evidence_release=evidence.release_id if evidence else None,
            rehearsal=evidence.rehearsal if evidence else None,
            checked_at=self.at,
        )


def sentence(check: Check) -> str:
    """A check that does not hold, with its mend."""
    return f"{check.name} ({check.tick}): {check.evidence}" + (f" -> {check.mend}" if check.mend else "")


def refuse_another(before: Plan, after: Plan) -> None:
    """Refuse to go on with a plan that is no longer the one that was approved.

    Raises:
        RefusedError: The migrations that are pending now are other ones.
    """
    if hash_of(before) == hash_of(after):
        return
    pending = ", ".join(migration.label for migration in after.pending) or "none"
    raise RefusedError(
        f"the migrations are no longer those that were approved; pending now: {pending}",
        hint="nothing was changed. `--release-id new` plans, judges and asks anew",
    )
