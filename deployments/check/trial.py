"""The plan tried on the base's empty schema: what does not apply, what does not reverse, what cannot be tried here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deployments.check.application import last_words
from deployments.check.server import SERVER_URL
from deployments.check.stopping import Stopping
from tasks.app.residence import Problem, Residence
from tasks.release.errors import AppError
from tasks.release.plan import Plan
from tasks.release.risk import Finding, Harm

EVIDENCE = "tried on a throw-away database with the schema of the base and no rows"
GUARD = "resident_guard."  # whose refusals say nothing against a migration
NO_FILE = "58P01"  # an extension's control file or library
# In words, since 0A000 is also what a migration that can work nowhere fails with (ALTER TYPE under a view).
NOT_HERE = re.compile(
    r'extension "[^"]*" is not available|could not open extension control file|could not access file|'
    r"(not supported (by|in) this build)|without (ICU|libxml|LZ4|zstd|SSL)|"
    r'collation "[^"]*"( for encoding "[^"]*")? does not exist|could not (create locale|open collator)',
    re.IGNORECASE,
)


def is_missing_here(problem: Problem) -> bool:
    """Whether the server at hand lacks something, or the trial must not do it: another server may well go along."""
    return problem.sqlstate == NO_FILE or GUARD in problem.type or bool(NOT_HERE.search(problem.message))


class Trial:
    """The migrations of a plan, applied and reversed once.

    Args:
        app: Led to a database that has the schema of the base.
        plan: What is pending there.
        stopping: Breaks off the waits.
    """

    def __init__(self, app: Residence, plan: Plan, stopping: Stopping) -> None:
        self._app, self._stopping = app, stopping
        self._order = [migration.label for migration in plan.pending]
        self._files = {migration.label: migration.file for migration in plan.pending}
        self._begun = ""
        self._applied: list[str] = []
        self._alive = True

    def findings(self) -> Iterator[Finding]:
        """What goes wrong; empty: everything was applied, and reversed as far as it can be.

        Raises:
            AppError: The application ended or hung before it reached a migration.
        """
        yield from self._apply()
        if self._alive:
            yield from self._reverse()

    def _apply(self) -> Iterator[Finding]:
        try:
            with self._stopping.waiting():
                migrated = self._app.migrate(before=self._note)
        except AppError as error:
            if not self._begun:
                raise
            self._alive = False
            yield self._finding("does-not-apply", self._begun, f"`migrate` fails on it: {_ended(error)}", "fails")
            return
        for record in migrated.migrations:
            if record.error:
                yield self._failed("does-not-apply", record.migration, "`migrate` fails on it", record.error, "fails")
                return
            self._applied.append(record.migration)
        if migrated.error:  # before the first of them or after the last: by a check, or a signal's receiver
            yield self._failed("does-not-apply", "", "`migrate` fails", migrated.error, "fails")

    def _reverse(self) -> Iterator[Finding]:
        for label in reversed(self._applied):
            try:
                with self._stopping.waiting():
                    record = self._app.reverse(label)
            except AppError as error:
                yield self._finding("does-not-reverse", label, f"its reversal fails: {_ended(error)}", "way back")
                return
            if record.irreversible_because:
                return  # judged by a rule already; what is below it cannot be tried
            if record.error:
                yield self._failed("does-not-reverse", label, "its reversal fails", record.error, "way back")
                return

    def _note(self, label: str) -> None:
        self._begun = label

    def _failed(self, rule: str, label: str, what: str, problem: Problem, harm: Harm) -> Finding:
        if not is_missing_here(problem):
            return self._finding(rule, label, f"{what}: {problem}", harm)
        said = problem.message.partition("; ")[0] if GUARD in problem.type else problem.message
        return self._finding(rule, label, f"could not be tried here: {said}", "open")

    def _finding(self, rule: str, label: str, message: str, harm: Harm) -> Finding:
        app = label.partition(".")[0]
        rest = self._order[self._order.index(label) + 1 :] if rule == "does-not-apply" and label in self._files else []
        if harm == "open":
            cure = f"have it tried on a server that has what yours has: {SERVER_URL}"
        elif harm == "way back":
            cure = f"mend its reverse until `migrate {app} <the one before>` works"
        else:
            cure = "mend it until `migrate` works on a new database"
        return Finding(
            rule=rule,
            migration=label,
            severity="unknown" if harm == "open" else "high",
            message=message,
            evidence=(EVIDENCE, *([f"so these were not tried: {', '.join(rest)}"] if rest else ())),
            mitigation=(cure,),
            file=self._files.get(label),
            harm=harm,
            subject=label,
        )


def _ended(error: AppError) -> str:
    """How the application ended, or that it hangs."""
    ended = re.search(r"the application ended while [^:]*: (.*)", error.message, re.DOTALL)
    if ended is None:
        return error.message
    return f"the application's process ended in the middle of it ({last_words(ended[1])})"
