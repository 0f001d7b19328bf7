"""Rules over statements that change the schema, written by hand: RunSQL, `cursor.execute`, third-party operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.release.risk import Finding, Harm, Severity
from tasks.risk.asking import writers
from tasks.risk.django_code import run_sql
from tasks.risk.rendered import quoted
from tasks.risk.rule import Case, Rule
from tasks.risk.rules.sql_constraints import Constraint, duplicates
from tasks.risk.rules.sql_names import RULES as NAME_RULES
from tasks.risk.rules.sql_rows import RULES as ROW_RULES
from tasks.risk.rules.sql_rule import ALONE, SqlRule, django_default, now_in, weight_of
from tasks.risk.spots import Spot
from tasks.risk.type_changes import Cost, Fit, cost, fit, holders


class AddIndex(SqlRule):
    """CREATE INDEX and REINDEX let nobody write until they are done."""

    id = "sql-add-index"
    catches = "An index is built by hand-written SQL without CONCURRENTLY on a table that has rows."
    severity = "medium"
    harm = "blocks"
    kinds = frozenset({"create-index", "reindex"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """Index builds that keep writers waiting."""
        action = spot.action
        weight = weight_of(case, spot)
        if "unique" in action.marks and not weight.new:
            yield from duplicates(self, case, spot, action.columns)
        if "concurrently" in action.marks or (action.table and weight.small):
            return
        table = action.table or action.name
        if action.kind == "reindex":
            yield self.found(
                case,
                spot,
                f"REINDEX keeps writers of {table} waiting, and readers that use the index, until it is built anew",
                [f"SQL: REINDEX {action.text} CONCURRENTLY {action.name}, {ALONE}"],
                evidence=weight.evidence,
            )
            return
        yield self.found(
            case,
            spot,
            f"building index {action.name} keeps every INSERT, UPDATE and DELETE on {table} waiting until it is done",
            [
                f"{ALONE[0].upper()}{ALONE[1:]}: {_concurrently(spot)}",
            ],
            evidence=weight.evidence,
        )


def _concurrently(spot: Spot) -> str:
    """The CREATE INDEX of a statement, otherwise as it is, built without keeping writers waiting."""
    statement = spot.statement
    words = [token.upper for token in statement.tokens]
    index = statement.tokens[words.index("INDEX")]
    if any(token.kind == "string" for token in statement.tokens):  # it may be somebody's value
        return f"put CONCURRENTLY behind INDEX in {statement.shown()}"
    text = " ".join(f"{statement.text[: index.end]} CONCURRENTLY{statement.text[index.end :]}".split())
    return run_sql(text, f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(spot.action.name)}" if spot.action.name else None)


class Concurrently(SqlRule):
    """What runs outside of transactions only, inside of one."""

    id = "sql-concurrently-in-transaction"
    catches = "A statement that refuses to run in a transaction is put into one."
    severity = "blocked"
    harm = "fails"
    kinds = frozenset({"create-index", "drop-index", "reindex", "rewrite-table", "vacuum"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """CONCURRENTLY and VACUUM with anything beside them."""
        if not spot.in_transaction or not spot.action.marks & {"concurrently", "alone"}:
            return
        what = "CONCURRENTLY" if "concurrently" in spot.action.marks else "VACUUM"
        why = "the migration is atomic" if case.migration.atomic else "several statements are sent as one text"
        yield self.found(
            case,
            spot,
            f"the migration fails: {what} cannot run inside a transaction block, and {why}",
            [
                "write `atomic = False` in the Migration class",
                "give RunSQL a list, one statement an entry; each is then sent by itself",
            ],
        )


class AddColumn(SqlRule):
    """ADD COLUMN ... NOT NULL, which running code knows nothing of."""

    id = "sql-add-not-null-column"
    catches = "A NOT NULL column is added without a default that stays, so that running code cannot insert."
    severity = "high"
    harm = "old code"
    kinds = frozenset({"add-column", "drop-default"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """New NOT NULL columns, and defaults that are taken away again."""
        action, weight = spot.action, weight_of(case, spot)
        if weight.new:
            return
        table, column = action.table, action.name
        steps = [
            (
                f"SQL: ALTER TABLE {table} ADD COLUMN {column} … DEFAULT <constant> NOT NULL, and leave it there until"
                " no running code is without the column"
            ),
            django_default(case, column),
        ]
        added = [
            each for each in spot.before if each.kind == "add-column" and (each.table, each.name) == (table, column)
        ]
        if action.kind == "drop-default":
            if added and "not null" in added[-1].marks:
                words = f"the default of the new column {table}.{column} is dropped: the running code cannot insert"
                yield self.found(case, spot, words, steps)
            return
        if "not null" not in action.marks or action.marks & {"default", "volatile", "generated"}:
            return
        rows = case.facts.rows(now_in(case, table))
        fails = rows.value is not None and rows.value > 0
        yield self.found(
            case,
            spot,
            f"{table}.{column} is NOT NULL without a default: it fails on a table that has rows, and"
            " the running code, which"
            " does not know the column, cannot insert",
            steps,
            evidence=weight.evidence,
            severity="blocked" if fails else None,
        )


class Rewrite(SqlRule):
    """The table is written anew, or scanned, under ACCESS EXCLUSIVE."""

    id = "sql-rewrite-table"
    catches = "A statement writes the table anew, or scans it, while nobody can read or write it."
    severity = "high"
    harm = "blocks"
    kinds = frozenset({"add-column", "rewrite-table", "attach-partition", "add-exclusion"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """Rewrites and scans under ACCESS EXCLUSIVE."""
        action, weight = spot.action, weight_of(case, spot)
        if weight.small:
            return
        table, column = action.table or "every table", action.name
        steps: Sequence[str]
        if action.kind == "rewrite-table":
            what = f"{action.text} writes {table} anew"
            steps = ["leave it out of the release; pg_repack does it while the table is in use"]
        elif action.kind == "attach-partition":
            what = f"ATTACH PARTITION scans {column}"
            steps = [
                f"before: ALTER TABLE {column} ADD CONSTRAINT … CHECK (<bounds>) NOT VALID, then VALIDATE CONSTRAINT",
            ]
        elif action.kind == "add-exclusion":
            what = f"the exclusion constraint {column} builds an index on {table}"
            steps = ["plan a maintenance window: there is no concurrent way"]
        elif "volatile" in action.marks or "generated" in action.marks:
            what = f"the value of {table}.{column} differs from row to row, so that {table} is written anew"
            steps = [
                (
                    f"SQL: ALTER TABLE {table} ADD COLUMN {column} {action.text} (NULL); then ALTER COLUMN {column} SET"
                    " DEFAULT …, which is for new rows only"
                ),
                f"fill {column} in batches by a RunPython in a later migration with `atomic = False`",
            ]
        elif action.marks & {"check", "unique"}:
            what = f"the constraint of the new column {table}.{column} scans {table}"
            steps = [
                f"SQL: add {column} without it; then ADD CONSTRAINT … NOT VALID and, in a later migration, VALIDATE"
            ]
        else:
            return
        yield self.found(
            case, spot, f"{what} under ACCESS EXCLUSIVE: all readers and writers wait", steps, evidence=weight.evidence
        )


class ChangeType(SqlRule):
    """ALTER COLUMN ... TYPE."""

    id = "sql-change-column-type"
    catches = "ALTER COLUMN ... TYPE rewrites the table, refuses or cuts values, or is refused for a view's sake."
    severity = "high"
    harm = "blocks"
    kinds = frozenset({"alter-type"})

    def judge_spot(self, case: Case, spot: Spot) -> Iterable[Finding]:
        """What the change costs, by the type that the column has now."""
        action, weight = spot.action, weight_of(case, spot)
        if weight.new:
            return
        table, column = action.table, action.name
        column_now = case.history.column_now(table, column) or column
        users = case.facts.dependents(now_in(case, table), column_now)
        dropped = case.history.dropped.union(each.name for each in spot.before if each.kind.startswith("drop-"))
        if held := holders(users.value or (), dropped):
            words = f"the migration fails: {', '.join(held)} uses {table}.{column}, so that its type cannot change"
            steps = [f"in the same migration, DROP {', '.join(held)} before it, and make it again after it"]
            yield self.found(case, spot, words, steps, evidence=[users.evidence], severity="blocked", harm="fails")
            return
        answer = case.facts.column(now_in(case, table), column_now)
        if answer.value is None:
            was, costs, fits = "a type that is not known", Cost.UNKNOWN, Fit.EITHER
        else:
            was = answer.value.type
            costs, fits = cost(was, action.text), fit(answer.value.base_type, action.text)
        evidence = (answer.evidence, *weight.evidence)
        steps = [
            (
                f"add a column {column}_new {action.text} (NULL), write both, fill it in batches, then read it;"
                f" drop {column} in a later release"
            ),
        ]
        if "using" not in action.marks and fits is not Fit.ALL and costs is not Cost.IMPOSSIBLE:
            yield from self._misfits(case, spot, fits, steps)
        if costs is Cost.IMPOSSIBLE and "using" not in action.marks:
            words = f"{table}.{column} is {was}: there is no cast to {action.text}, and the migration fails"
            using = ["write USING <expression>"]
            yield self.found(case, spot, words, using, evidence=evidence, severity="blocked", harm="fails")
        elif not weight.small and costs is not Cost.NOTHING:
            words = (
                f"{table}.{column} goes from {was} to {action.text}: "
                + ("its indexes are built anew" if costs is Cost.INDEXES else "the table is written anew")
                + " under ACCESS EXCLUSIVE, and all readers and writers wait"
            )
            yield self.found(case, spot, words, steps, evidence=evidence)

    def _misfits(self, case: Case, spot: Spot, fits: Fit, steps: Sequence[str]) -> Iterable[Finding]:
        """Values that the new type cannot hold, by the rows that there are."""
        action = spot.action
        table = now_in(case, action.table)
        column_now = case.history.column_now(action.table, action.name)
        if column_now is None:
            return
        misfits = case.facts.misfits(table, column_now, action.text)
        if misfits.value is not None and not misfits.value.count:
            return
        words = f"{action.table}.{action.name} becomes {action.text}"
        severity: Severity = "high"
        harm: Harm = "loss" if fits is Fit.CHANGED else "fails"
        if misfits.value is None:
            words += f": whether each value fits is not known here; {fits.value}"
            severity = "unknown"
        elif writers(case, action.table):
            words += f": values do not fit now, and whether an earlier migration mends them is not known; {fits.value}"
            severity = "unknown"
        elif fits is Fit.REFUSED:
            words += ", and the migration fails: there are values that do not fit"
            severity = "blocked"
        else:
            words += f": there are values that do not fit; {fits.value}"
        mend = [f"before it: mend the values of {action.table}.{action.name} that {action.text} cannot hold", *steps]
        yield self.found(case, spot, words, mend, evidence=[misfits.evidence], severity=severity, harm=harm)


RULES: tuple[Rule, ...] = (
    AddIndex(), Concurrently(), AddColumn(), Rewrite(), ChangeType(), *NAME_RULES, Constraint(), *ROW_RULES
)  # fmt: skip
