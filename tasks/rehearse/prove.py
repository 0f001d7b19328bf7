"""One restore for two stages of a release: "verification", and the "rehearsal" on what was restored for it."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime

from tasks.app.candidate import prepare
from tasks.backup.progress import Report
from tasks.backup.verify import Copy, proved_copy, verify
from tasks.rehearse.rehearse import rehearse
from tasks.rehearse.room import check_room
from tasks.release.backup import Backup, Verification
from tasks.release.environment import Environment
from tasks.release.errors import RefusedError
from tasks.release.plan import Plan
from tasks.release.rehearsal import Rehearsal
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger


def prove_and_rehearse(environment: Environment, release_id: str, report: Report) -> Rehearsal:
    """Carry out both stages; one that is finished is not repeated, but restored anew where the other one needs it.

    Nothing is rehearsed where nothing is pending, or where [backup] verify is content without a restore; then the
    result says so and has no migrations.

    Args:
        environment: Whose release.
        release_id: The release, which has a plan and a backup.
        report: Told what is going on.

    Raises:
        RefusedError: There is no plan, no backup, or no room for it.
        VerificationError: The backup is not what its manifest says.
        BackupError: It could not be restored for another reason.
        AppError: The application cannot be asked.
        DatabaseError: The server of restores cannot be reached or refuses.
        StoreError: The bucket refuses or is lost.
    """
    bucket = Bucket(environment.storage)
    ledger = Ledger(bucket, environment.name)
    with ExitStack() as open_copies:
        work = _Work(environment, bucket, open_copies, report)
        ledger.carry_out(release_id, "verification", work.prove, report)
        return ledger.carry_out(release_id, "rehearsal", work.rehearse, report)


class _Work:
    """The work of both stages, and the copy that the first leaves to the second."""

    def __init__(self, environment: Environment, bucket: Bucket, open_copies: ExitStack, report: Report) -> None:
        self.environment = environment
        self.bucket = bucket
        self.open_copies = open_copies
        self.report = report
        self.level = environment.backup.verify
        self.copy: Copy | None = None
        self.findings: tuple[str, ...] = ()

    def prove(self, release: Release) -> Verification:
        plan, backup = _ready(release)
        if self.level != "restored" or not plan.pending:
            return verify(self.environment, self.bucket, backup, self.level, self.report)
        self.findings = check_room(self.environment, backup.source_bytes)
        self.copy = self.open_copies.enter_context(proved_copy(self.environment, self.bucket, backup, self.report))
        return self.copy.verification

    def rehearse(self, release: Release) -> Rehearsal:
        plan, _ = _ready(release)
        if not plan.pending:
            return _nothing(release, "no migration is pending")
        if self.level != "restored":
            return _nothing(release, f'not rehearsed: [backup] verify = "{self.level}" restores nothing')
        if self.copy is None:  # it was proved by an earlier attempt, whose copy is gone
            self.prove(release)
        assert self.copy is not None  # noqa: S101 -- just made
        made = rehearse(
            self.environment,
            self.copy,
            plan,
            prepare(self.environment, release.commit, self.report),
            prepare(self.environment, release.previous_commit, self.report),
            self.report,
        )
        return made.model_copy(update={"findings": (*self.findings, *made.findings)})


def _ready(release: Release) -> tuple[Plan, Backup]:
    if release.plan is None:
        raise RefusedError(f"release {release.id} has no plan to rehearse")
    if release.backup is None:
        raise RefusedError(f"release {release.id} has no backup to verify")
    return release.plan, release.backup


def _nothing(release: Release, because: str) -> Rehearsal:
    return Rehearsal(
        migrations=(),
        previous_commit=release.previous_commit,
        restored_bytes=0,
        seconds=0,
        findings=(because,),
        rehearsed_at=datetime.now(UTC),
    )
