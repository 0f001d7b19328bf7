"""What one environment has proved about a set of migrations, for another one to demand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from tasks.release.checklist import checklist
from tasks.release.errors import RefusedError
from tasks.release.migration_set import hash_of
from tasks.release.record import Record
from tasks.release.rehearsal import Rehearsal
from tasks.release.release import Release
from tasks.release.risk import Risk


class Evidence(Record):
    """Risk and rehearsal of one migration set: files, operations, SQL, Django version and PostgreSQL major."""

    format: Literal[1] = 1
    migration_set: str  # its hash
    environment: str
    release_id: str
    commit: str
    risk: Risk
    rehearsal: Rehearsal
    passed: bool  # every migration was applied twice and nothing of it is blocked
    kept_at: datetime


def evidence_of(release: Release) -> Evidence:
    """What a release has proved.

    Raises:
        RefusedError: It was not planned, judged and rehearsed yet.
    """
    if release.plan is None or release.risk is None or release.rehearsal is None:
        raise RefusedError(f"release {release.id} has proved nothing yet")
    level = checklist(release.plan, release.risk, release.rehearsal).level
    return Evidence(
        migration_set=hash_of(release.plan),
        environment=release.environment,
        release_id=release.id,
        commit=release.commit,
        risk=release.risk,
        rehearsal=release.rehearsal,
        passed=release.rehearsal.passed and level != "blocked",
        kept_at=datetime.now(UTC),
    )
