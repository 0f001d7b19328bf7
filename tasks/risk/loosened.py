"""Whether a release lets a column be left out of an INSERT, somewhere on its way."""

from __future__ import annotations

from dataclasses import replace

from tasks.risk.rule import Case
from tasks.risk.spots import spots

_LOOSENING = frozenset({"drop-column", "drop-not-null", "set-default"})
_TIGHTENING = frozenset({"drop-default", "set-not-null"})


def is_loosened(case: Case, table: str, column: str) -> bool:
    """Whether the release drops a column, or lets it be left out, and does not take that back.

    By a statement or an operation on the database; those of the whole plan are looked at, in order.
    """
    loose = False
    for migration in case.pending or (case.migration,):
        for operation in migration.operations:
            if operation["state_only"] or not operation["allowed"]:
                continue
            if operation["table"] == table and operation["kind"] == "DeleteModel":
                return True
            sides = [(told["old"], told["new"]) for told in operation["fields"] if operation["table"] == table]
            for new in [new for old, new in sides if old and old["column"] == column]:
                loose = loose or new is None or bool(new["null"] or new["db_default"])
            written = [spot.action for spot in spots(replace(case, migration=migration, operation=operation))]
            on_table = [each for each in written if each.table == table]
            for kind in [each.kind for each in on_table if each.kind == "drop-table" or each.name == column]:
                loose = (loose or kind == "drop-table" or kind in _LOOSENING) and kind not in _TIGHTENING
    return loose
