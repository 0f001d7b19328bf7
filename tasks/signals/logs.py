"""Logs: files of requests read as they grow, each line once, through rotation, truncation and the reader's own death.

Where reading stopped is known by what was read, not by a name: a file is the one that was read if it is as long and
has the same beginning and the same bytes before the place. So a file that was renamed is found again, and a copy too
(logrotate's `copytruncate`), and an inode that was given to another file is not taken for the old one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tasks.release.monitoring import LogFile
from tasks.signals.lines import Parse, parser_of
from tasks.signals.sample import Sample
from tasks.signals.tally import GRACE_S, Tally

BLOCK_BYTES = 2**20
MOST_BYTES = 64 * 2**20  # of one call: what a killed reader has to read again, and what bounds the tally
MARK_BYTES = 1024  # of a file's beginning, and before the place, that it is known by
COMPRESSED = (".gz", ".xz", ".bz2", ".zst", ".lz4")


@dataclass
class Place:
    """How far a file was read: up to the end of a line, or into a line of more than BLOCK_BYTES."""

    inode: int
    offset: int = 0
    mark: str = ""  # digest of beginning and end of what was read
    within_line: bool = False


@dataclass
class LogState:
    """What is kept of a log between two calls; small, and JSON.

    Attributes:
        places: The files that were read, oldest first.
        unread: Lines that tell of no request, such as a traceback's, or that could not be read.
        newest_line_s: Time of the newest line, in seconds of the epoch.
    """

    tally: Tally
    places: list[Place] = field(default_factory=list)
    unread: int = 0
    newest_line_s: float = 0.0


class LogRead(NamedTuple):
    """What a call read.

    Attributes:
        samples: Of intervals that are over.
        more: Whether there is more to read now: call again.
        problem: A sentence, or "".
    """

    samples: list[Sample]
    more: bool
    problem: str


@dataclass(frozen=True)
class _File:
    path: Path
    status: os.stat_result


def read_log(log: LogFile, source: str, state: LogState, since: datetime, now: datetime) -> LogRead:
    """Read on in a log and its rotated, not compressed files; `state` is moved on.

    Args:
        log: Where it is, and its format.
        source: First part of the metrics' names.
        state: Where the last call stopped; a new one reads everything from `since`.
        since: Lines from before are not counted; files that were last written before are not read.
        now: This moment; a line from later than that is not believed.
    """
    files = _files(log.path)
    if not files:
        return LogRead([], more=False, problem=f"{log.path} is not there, or its directory cannot be read")
    try:
        pending, lost = _pending(files, state, since)
        left, parse = MOST_BYTES, parser_of(log)
        for file, place in pending:
            left = _read(file, place, state, parse, (since.timestamp(), now.timestamp() + GRACE_S), left)
            if left <= 0:
                break
    except OSError as error:
        return LogRead([], more=False, problem=f"{log.path} cannot be read: {error.strerror}")
    state.tally.gap |= lost
    more = left <= 0
    until_s = min(now.timestamp(), state.newest_line_s) if more else now.timestamp()
    problem = f"{log.path}: the end of a rotated file is gone or compressed; its lines are not counted" if lost else ""
    return LogRead(list(state.tally.close(until_s, source)), more, problem)


def _files(path: Path) -> list[_File]:
    """The log and its rotated files, oldest first."""
    found = []
    try:
        entries = list(path.parent.iterdir())
    except OSError:
        return []
    for entry in entries:
        rotated = entry.name.startswith((f"{path.name}.", f"{path.name}-")) and not entry.name.endswith(COMPRESSED)
        if entry.name == path.name or rotated:
            try:
                status = entry.stat()
            except OSError:  # it was rotated away at this moment
                continue
            if entry.is_file():
                found.append(_File(entry, status))
    # The log itself comes last: with copytruncate, nothing else tells it from its newest copy.
    return sorted(found, key=lambda file: (file.path == path, file.status.st_mtime_ns))


def _pending(files: list[_File], state: LogState, since: datetime) -> tuple[list[tuple[_File, Place]], bool]:
    """What there is to read, oldest first, with its places; and whether a file with unread lines may be gone."""
    places = {}
    lost = False
    newest = state.places[-1] if state.places else None
    for place in state.places:
        file = _holding(place, [file for file in files if file.path not in places])
        if file is None:
            lost |= place is newest  # the older ones were read to their end, and are deleted in the end
            continue
        place.inode = file.status.st_ino
        places[file.path] = place
    marks = {_mark(file.path, MARK_BYTES, MARK_BYTES) for file in files if file.path in places}
    pending = []
    for file in files:
        known = places.get(file.path)
        if known is None:
            old = file.status.st_mtime < since.timestamp()
            copy = file.status.st_size >= MARK_BYTES and _mark(file.path, MARK_BYTES, MARK_BYTES) in marks
            # What needs no reading is known from now on, so that it is not taken for a new file later.
            read = file.status.st_size if old or copy else 0
            known = Place(file.status.st_ino, read, _mark(file.path, read, MARK_BYTES))
        pending.append((file, known))
    state.places = [place for _, place in pending]
    return pending, lost


def _holding(place: Place, files: list[_File]) -> _File | None:
    """The file that was read up to a place: itself, renamed, or a copy."""
    for file in sorted(files, key=lambda file: file.status.st_ino != place.inode):
        if not place.offset:
            if file.status.st_ino == place.inode:
                return file
        elif file.status.st_size >= place.offset and _mark(file.path, place.offset, MARK_BYTES) == place.mark:
            return file
    return None


def _mark(path: Path, offset: int, size: int) -> str:
    """A digest of the beginning of a file and of what lies before an offset."""
    with path.open("rb") as file:
        head = file.read(min(size, offset))
        file.seek(max(0, offset - size))
        return hashlib.sha256(head + file.read(min(size, offset))).hexdigest()[:32]


def _read(file: _File, place: Place, state: LogState, parse: Parse, between: tuple[float, float], left: int) -> int:
    """Count the whole lines of a file from a place on; what is left of the bytes that may be read."""
    with file.path.open("rb") as opened:
        if os.fstat(opened.fileno()).st_ino != place.inode:
            return left  # it was rotated since the directory was read; the next call finds it
        opened.seek(place.offset)
        before = place.offset
        for lines in _whole_lines(opened, place, state, left):
            for line in lines:
                request = parse(line)
                if request is None or request.at_s > between[1]:
                    state.unread += 1
                elif request.at_s >= between[0]:
                    state.tally.count(*request)
                    state.newest_line_s = max(state.newest_line_s, request.at_s)
    if place.offset != before:
        place.mark = _mark(file.path, place.offset, MARK_BYTES)
    return left - (place.offset - before)


def _whole_lines(opened: BinaryIO, place: Place, state: LogState, left: int) -> Iterator[list[bytes]]:
    """Lines that are complete, in blocks; `place` moves on with each block."""
    while left > 0 and (block := opened.read(BLOCK_BYTES)):
        end = block.rfind(b"\n") + 1
        if not end and len(block) < BLOCK_BYTES:
            return  # half a line
        taken = end or len(block)
        lines = block[:end].splitlines() if end else []
        if place.within_line and lines:
            del lines[0]  # the end of a line that is too long to be one
        if not end and not place.within_line:
            state.unread += 1
        place.within_line = not end
        yield lines
        place.offset += taken
        left -= taken
        opened.seek(place.offset)
