"""There, back and there again: what each pending migration does to a copy of the restored backup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.app.residence import MigrationRecord, Residence
from tasks.backup.progress import Report
from tasks.backup.snapshot import reading
from tasks.database.catalogue import catalogue_of, differences
from tasks.rehearse.blame import OF_HANDLERS, Touched, blame
from tasks.rehearse.loss import losses
from tasks.rehearse.previous import Previous, Verdict
from tasks.release.environment import Database
from tasks.release.errors import AppEndedError
from tasks.release.plan import Plan
from tasks.release.rehearsal import Broken, Loss, MigrationRehearsal

NOT_TRIED = "not tried, since one that was applied after it could not be reversed"


@dataclass
class _Step:
    """A migration that was applied."""

    label: str
    before: dict[str, str]  # the catalogue
    after: dict[str, str]
    touched: Touched

    def changes(self, difference: str) -> bool:
        """Whether the object of a difference was made, changed or dropped by the migration."""
        name = difference.rpartition(" is ")[0]
        return self.before.get(name) != self.after.get(name)


class Passage:
    """The pending migrations on their way over the copy. `forward`, `reverse` and `again` are called in this order.

    Args:
        server: Where both databases are.
        restored: The restored one, which is only read.
        dbname: The copy.
        plan: The pending migrations.
        app: The candidate, at work on the copy.
        old: The previous release, at work on it too; None: it could not be started.
        report: Told what is going on.
    """

    def __init__(
        self,
        server: Database,
        restored: str,
        dbname: str,
        plan: Plan,
        app: Residence,
        old: Previous | None,
        report: Report,
    ) -> None:
        self.server, self.restored, self.dbname = server, restored, dbname
        self.app, self.old, self.report = app, old, report
        self.findings: list[str] = []
        self._planned = {migration.label: migration for migration in plan.pending}
        self._facts: dict[str, dict[str, Any]] = {label: {} for label in self._planned}
        self._steps: list[_Step] = []
        self._reversed: list[_Step] = []  # the last one first
        self._debris: set[str] = set()  # differences that a migration left which failed half way
        self._half_done: set[str] = set()  # tables that it may have left changed
        self._failed = False
        self._at: str | None = None  # the migration that is being applied
        self._ended = False  # the application is gone

    @property
    def is_whole(self) -> bool:
        """Whether every migration is applied now."""
        return not self._failed and not self._not_applied()

    @property
    def is_back(self) -> bool:
        """Whether every migration is reversed, and the schema is what it was before."""
        restored = all(self._facts[step.label].get("schema_restored") for step in self._steps)
        return not self._ended and not self._failed and bool(self._steps) and restored

    @property
    def breaks(self) -> bool:
        """Whether a migration takes something away that the previous release needs."""
        return any(facts.get("backward_compatible") is False for facts in self._facts.values())

    def forward(self) -> None:
        """Apply everything, and ask the previous release after each migration."""
        catalogue = self._catalogue()

        def begin(label: str) -> None:
            self._at = label
            self.report(f"applying {label}")

        def after(record: MigrationRecord) -> None:
            nonlocal catalogue
            before, catalogue = catalogue, self._catalogue()
            self._applied(record, before, catalogue)
            self._at = None

        try:
            done = self.app.migrate(before=begin, after=after)
        except AppEndedError as error:
            if self._at is None:
                raise
            self._ended = True
            self._fail(error.message, self._at)
            return
        if done.error and not self._failed:
            self._fail(str(done.error))
        if self.old and self._steps and not self._failed:
            # What no record names, such as the tables behind a function or a type.
            self._judge(self._steps[-1].label, None)
        if not self._failed and (left := self._not_applied()):
            self.findings.append(f"`migrate` did not apply {', '.join(left)}, and did not say why")

    def reverse(self) -> None:
        """Reverse them one by one, the last one first; then compare the data with what was restored."""
        if self._ended:
            self.findings.append("nothing could be reversed, since the application had ended")
            return
        told: set[str] = set(self._debris)
        for step in reversed(self._steps):
            self.report(f"reversing {step.label}")
            record = self.app.reverse(step.label)
            step.touched.note(record)
            facts = self._facts[step.label]
            because = record.irreversible_because or (str(record.error) if record.error else "")
            if because:
                facts |= {"reversible": False, "irreversible_because": because}
                break
            found = differences(step.before, self._catalogue(), ownership=False)
            # What a later one has left behind is told with that one, unless this one too has changed the object.
            found = [one for one in found if one not in told or step.changes(one)]
            told |= set(found)
            facts |= {
                "reversible": True,
                "reverse_s": record.seconds,
                "schema_restored": not found,
                "schema_differences": tuple(found),
            }
            self._reversed.append(step)
        for step in self._steps[: -len(self._reversed) or None]:
            self._facts[step.label].setdefault("irreversible_because", NOT_TRIED)
        self._compare()

    def again(self) -> None:
        """Apply again what was reversed, and compare the schema with that after the first time."""
        waiting = {step.label: step for step in self._reversed}
        if self._ended or not waiting:
            return

        def after(record: MigrationRecord) -> None:
            step = waiting.pop(record.migration, None)
            if step is None:
                return
            found = differences(step.after, self._catalogue(), ownership=False)
            found = [str(record.error)] if record.error else [one for one in found if one not in self._debris]
            self._facts[step.label] |= {"again_identical": not found, "again_differences": tuple(found)}

        self.report("applying them again")
        done = self.app.migrate(after=after)
        self._failed = self._failed or done.error is not None
        stopped = any(self._facts[step.label].get("again_identical") is False for step in self._reversed)
        if waiting and not stopped:  # what comes after the one that stopped it was not tried
            first = list(waiting.values())[-1]
            because = str(done.error) if done.error else "`migrate` did not apply it again"
            self._facts[first.label] |= {"again_identical": False, "again_differences": (because,)}

    def break_last(self, broken: tuple[Broken, ...]) -> None:
        """Add what no single migration can be held responsible for to the first that broke anything, or the last."""
        if not broken:
            return
        labels = [step.label for step in self._steps]
        label = next((label for label in labels if self._facts[label].get("broken")), labels[-1])
        facts = self._facts[label]
        facts |= {"broken": (*facts.get("broken", ()), *broken), "backward_compatible": False}

    def records(self) -> tuple[MigrationRehearsal, ...]:
        """What was found out, in the order of the plan."""
        empty: dict[str, Any] = {
            "seconds": None,
            "blocking_s": None,
            "statements": (),
            "locks": (),
            "rewrites": (),
            "rows": {},
        }
        return tuple(
            MigrationRehearsal(**({"migration": label} | empty | facts)) for label, facts in self._facts.items()
        )

    def _applied(self, record: MigrationRecord, before: dict[str, str], catalogue: dict[str, str]) -> None:
        label = record.migration
        if label not in self._planned:
            self.findings.append(f"`migrate` applies {label} too, which the plan does not list")
        self.report(f"{label}: {record.seconds:.2f} s")
        self.findings += [f"{label}: {sentence}" for sentence in record.refused]
        names = ("seconds", "blocking_s", "statements", "locks", "rewrites", "rows")
        self._facts[label] = {name: getattr(record, name) for name in names}
        touched = Touched(self._planned.get(label))
        touched.note(record)
        touched.note_catalogue(before, catalogue)
        if record.error:
            self._debris = set(differences(before, catalogue, ownership=False))
            migration = self._planned.get(label)
            if self._debris or migration is None or not migration.atomic:
                self._half_done = touched.tables
            if record.refused:  # by our own guard: it may well work where nothing is refused
                self._failed = True
                self._facts[label] = {"not_tried": f"{record.error}; {'; '.join(record.refused)}"}
                self.report(f"{label} could not be tried: {record.error}")
            else:
                self._fail(str(record.error), label)
            return
        self._steps.append(_Step(label, before, catalogue, touched))
        if self.old:
            self._judge(label, touched.plain_tables)

    def _fail(self, error: str, label: str | None = None) -> None:
        """Note that a migration failed; where `migrate` does not say which, it is the first that was not applied."""
        self._failed = True
        label = label or next(iter(self._not_applied()), None)
        if label is None:
            self.findings.append(f"`migrate` failed after the last migration: {error}")
            return
        self._facts[label] |= {"error": error, "schema_differences": tuple(sorted(self._debris))}
        self.report(f"{label} failed: {error}")

    def _not_applied(self) -> list[str]:
        applied = {step.label for step in self._steps}
        return [label for label in self._planned if label not in applied]

    def _judge(self, label: str, tables: set[str] | None) -> None:
        assert self.old is not None  # noqa: S101 -- asked by the callers
        verdict = self.old.after(tables) if tables or tables is None else Verdict((), ())
        facts = self._facts[label]
        broken = (*facts.get("broken", ()), *verdict.broken)
        compatible = False if broken else verdict.compatible and facts.get("backward_compatible", True)
        facts |= {"broken": broken, "backward_compatible": compatible}
        self.findings += [f"{label}: {sentence}" for sentence in verdict.unsure]

    def _compare(self) -> None:
        """Find out what is lost, and hold against it the migration that it comes from."""
        if not self._reversed:
            return
        left = self._steps[: len(self._steps) - len(self._reversed)]
        still = self._half_done.union(*(step.touched.tables for step in left))
        touched = set().union(*(step.touched.tables for step in self._reversed))
        self.report("comparing rows and values with the restored backup")
        found = losses(self.server, self.restored, self.dbname, touched, OF_HANDLERS, but=still)
        if both := sorted(touched & still):
            self.findings.append(
                f"what a reversal loses in {', '.join(both)} is not known: not all that was done to it was reversed"
            )
        in_order = [step.touched for step in reversed(self._reversed)]
        lost: dict[str, list[Loss]] = {}
        for loss, by in blame(found, in_order):
            label = next(step.label for step in self._reversed if step.touched is by)
            lost.setdefault(label, []).append(loss)
        for label, of_it in lost.items():
            self._facts[label]["losses"] = tuple(of_it)

    def _catalogue(self) -> dict[str, str]:
        with reading(self.server, "rehearsal: catalogue", dbname=self.dbname) as connection:
            return catalogue_of(connection)
