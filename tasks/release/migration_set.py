"""The set of migrations that a release brings, as one hash: what was proved of it once is proved of it elsewhere."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tasks.release.plan import Plan

VERSION_PARTS = 10_000  # server_version_num of PostgreSQL 17.4 is 170004
PLACES = {"file", "line"}  # where code lies; what it says is in the hash of the migration's file


def hash_of(plan: Plan) -> str:
    """SHA-256 of everything that decides what the pending migrations do, in hexadecimal digits.

    The files, operations, SQL both ways and order of the migrations, Django's version and PostgreSQL's major one. Not
    the database, the directory or the time: the same set has the same hash wherever it is planned.
    """
    content = {
        "django": plan.django,
        "postgresql": plan.database.server_version_num // VERSION_PARTS,
        "migrations": [
            {
                "label": migration.label,
                "file_sha256": migration.file_sha256,
                "atomic": migration.atomic,
                "backwards": migration.backwards,
                "operations": _without_places(migration.operations),
                "forward": migration.sql.forward.statements,
                "backward": migration.sql.backward.statements,
            }
            for migration in plan.pending
        ],
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_places(thing: Any) -> Any:
    if isinstance(thing, dict):
        return {key: _without_places(value) for key, value in thing.items() if key not in PLACES}
    if isinstance(thing, (list, tuple)):
        return [_without_places(value) for value in thing]
    return thing
