"""Order: what a flow hands to each of its stages, and what a stage says it would do."""

from __future__ import annotations

from tasks.release.record import Record
from tasks.release.release import StageName

ASKED_BY = "asked by "  # begins the tag of a flow run that says who asked for it


class Order(Record):
    """Which release of which environment a stage works on."""

    environment: str
    ref: str
    commit: str
    release_id: str  # empty on a dry run, which writes no record
    dry_run: bool


class Preview(Record):
    """What a stage would do, found out by reading only."""

    stage: StageName
    would: str
    findings: tuple[str, ...] = ()
