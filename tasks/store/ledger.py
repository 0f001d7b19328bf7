"""The ledger: the release records in the bucket, each written on condition that nobody else wrote it meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError

from tasks.release.errors import ConflictError, RefusedError, ReleaseInProgressError, RunbookError, StoreError
from tasks.release.release import ID_PATTERN, Release, Result, StageName, StageRun
from tasks.store.bucket import Bucket

R = TypeVar("R", bound=Result)
WRITE_ATTEMPTS = 10  # each lost race means that another writer got on


class Ledger:
    """The releases of one environment.

    Args:
        bucket: The environment's bucket.
        environment: Its name; a record of another environment is refused.
    """

    def __init__(self, bucket: Bucket, environment: str) -> None:
        self.bucket = bucket
        self.environment = environment
        self._listed = f"`runbook releases {environment}` lists them"

    def create(self, release: Release) -> Release:
        """Write a new record.

        Raises:
            ConflictError: There is one of this id.
        """
        self.bucket.write(self._key(release.id), _bytes(release))
        return release

    def load(self, release_id: str) -> Release:
        """Read a record.

        Raises:
            RefusedError: There is none of this id in this environment.
        """
        return self._read(release_id)[0]

    def update(self, release_id: str, change: Callable[[Release], Release]) -> Release:
        """Read, change and write a record; when somebody else wrote meanwhile, read and change it again.

        Args:
            release_id: Which record.
            change: A pure function; what it raises goes to the caller, and nothing is written.

        Raises:
            ConflictError: Others were faster, ten times running.
        """
        for _ in range(WRITE_ATTEMPTS):
            release, etag = self._read(release_id)
            changed = change(release)
            try:
                self.bucket.write(self._key(release_id), _bytes(changed), etag=etag)
            except ConflictError:
                continue
            return changed
        raise ConflictError(
            f"the record of release {release_id} changes faster than it can be written",
            key=self._key(release_id),
            hint="find out what else works on this release, then run it again",
            retryable=True,
        )

    def newest(self) -> Iterator[Release]:
        """The records of this environment, newest first."""
        return map(self.load, self.ids())

    def ids(self) -> list[str]:
        """The ids of this environment's releases, newest first; whether each record can be read is not known."""
        prefix = self.bucket.storage.key("releases") + "/"
        names = (key.removeprefix(prefix) for key in self.bucket.keys(prefix))
        found = (name.removesuffix(".json") for name in names if name.endswith(".json"))
        # Anybody may have put something there.
        return sorted((name for name in found if re.fullmatch(ID_PATTERN, name)), reverse=True)

    def carry_out(
        self, release_id: str, stage: StageName, work: Callable[[Release], R], report: Callable[[str], None]
    ) -> R:
        """Run one stage of a release: skipped when it is finished, else begun, worked on and written down.

        Args:
            release_id: The release.
            stage: The stage; also the field of the record that takes its result.
            work: Does it; must be safe to repeat, since an attempt may die at any point.
            report: Takes a line for the log.

        Raises:
            ReleaseInProgressError: Another run took the stage up meanwhile; what this one did is not written down.
        """
        release = self.load(release_id)
        done: R | None = release.result(stage)  # type: ignore[assignment]
        if done is not None:
            report(f"{stage}: finished before, not repeated")
            return done
        release = self.update(release_id, lambda record: record.began(stage, now()))
        attempt = release.stages[stage]
        try:
            result = work(release)
        except BaseException as error:
            self._write_down_failure(release_id, stage, attempt, error, report)
            raise
        self.update(release_id, lambda record: _of(attempt, record, stage).finished(stage, result, now()))
        return result

    def _write_down_failure(
        self,
        release_id: str,
        stage: StageName,
        attempt: StageRun,
        error: BaseException,
        report: Callable[[str], None],
    ) -> None:
        message = error.message if isinstance(error, RunbookError) else f"{type(error).__name__}: {error}"
        hint = error.hint if isinstance(error, RunbookError) else ""
        try:
            self.update(release_id, lambda record: _of(attempt, record, stage).failed(stage, message, now(), hint))
        except RunbookError as second:
            # The first error is the one to mend; this one must not hide it.
            report(f"{stage}: its failure could not be written down either: {second}")

    def _read(self, release_id: str) -> tuple[Release, str]:
        if not re.fullmatch(ID_PATTERN, release_id):
            raise RefusedError(f"{release_id!r} is not a release id", hint=self._listed)
        key = self._key(release_id)
        stored = self.bucket.read(key)
        if stored is None:
            raise RefusedError(f"there is no release {release_id} in {self.environment}", hint=self._listed)
        try:
            release = Release.model_validate_json(stored.body)
        except ValidationError as error:
            raise StoreError(
                f"{key} is not a release record of this version: {error.error_count()} mistakes, "
                f"the first at {'.'.join(map(str, error.errors()[0]['loc']))}",
                key=key,
                hint="was it written by a newer runbook?",
            ) from None
        if release.environment != self.environment:
            raise RefusedError(f"release {release_id} belongs to {release.environment}, not to {self.environment}")
        return release, stored.etag

    def _key(self, release_id: str) -> str:
        return self.bucket.storage.key("releases", f"{release_id}.json")


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)


def _of(attempt: StageRun, record: Release, stage: StageName) -> Release:
    """The record, if its stage is still at this attempt: a run that lost its lock must not speak for another one."""
    if record.stages.get(stage) != attempt:
        raise ReleaseInProgressError(
            f"the stage {stage} of release {record.id} was taken up by another run meanwhile",
            hint="leave it to that run",
        )
    return record


def _bytes(release: Release) -> bytes:
    return release.model_dump_json(indent=1).encode()
