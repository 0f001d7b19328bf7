"""A log is read line by line exactly once, however it is cut into reads, rotated and truncated."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tasks.release.monitoring import LogFile
from tasks.signals.logs import BLOCK_BYTES, LogState, read_log
from tasks.signals.sample import Sample, bound_of
from tasks.signals.tally import OTHER, Tally

BEGIN = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SINCE = BEGIN - timedelta(days=1)
STATE = TypeAdapter(LogState)


class Reader:
    """A reader that dies after every call: all that it keeps goes through JSON."""

    def __init__(self, path: Path, **keys: str) -> None:
        self.log = LogFile.model_validate({"path": str(path), **keys})
        self.kept = STATE.dump_json(LogState(Tally(60.0)))
        self.samples: list[Sample] = []
        self.problems: list[str] = []

    def read(self, now: datetime = BEGIN) -> list[Sample]:
        new: list[Sample] = []
        more = True
        while more:
            state = STATE.validate_json(self.kept)
            samples, more, problem = read_log(self.log, "log", state, SINCE, now)
            self.kept = STATE.dump_json(state)
            new += samples
            self.problems += [problem] if problem else []
        self.samples += new
        return new

    def finish(self) -> dict[tuple[str, datetime], Sample]:
        self.read(BEGIN + timedelta(hours=2))
        found = {(sample.metric, sample.at): sample for sample in self.samples}
        assert len(found) == len(self.samples), "an interval was told twice"
        return found

    @property
    def state(self) -> LogState:
        return STATE.validate_json(self.kept)


def line(second: float, path: str = "/api/documents", status: int = 200, ms: float = 12.5, **more: object) -> bytes:
    ts = (BEGIN + timedelta(seconds=second)).isoformat(timespec="milliseconds")
    return json.dumps({"ts": ts, "route": path, "status": status, "duration_ms": ms, **more}).encode() + b"\n"


def add(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def copytruncate(path: Path, copy: Path) -> None:
    shutil.copy(path, copy)
    os.truncate(path, 0)


def shift(path: Path) -> None:
    """Make room for a new `.1`, as logrotate does."""
    for number in range(9, 0, -1):
        old = path.with_name(f"{path.name}.{number}")
        if old.exists():
            old.rename(path.with_name(f"{path.name}.{number + 1}"))


def test_requests_become_counts_classes_and_histograms_by_the_time_of_the_line(tmp_path: Path) -> None:
    path = tmp_path / "django.log"
    add(path, line(1) + line(2, status=500, ms=900) + line(61, "/api/health", 404) + b'{"level": "INFO"}\nTraceback\n')
    reader = Reader(path)
    found = reader.finish()
    first, second = BEGIN, BEGIN + timedelta(minutes=1)
    errors = found["log.errors", first]
    assert (errors.bad, errors.total, errors.kind, errors.interval_s) == (1, 2, "events", 60)
    assert (found["log.status:5xx", first].bad, found["log.status:5xx", first].total) == (1, 2)
    latency = found["log.latency:/api/documents", first]
    assert [round(bound_of(number), 4) for number in latency.bins] == pytest.approx([0.0125, 0.9], rel=0.05)
    assert found["log.errors:/api/documents", second].total == 0, "a known route without requests was looked at"
    assert ("log.latency:/api/documents", second) not in found
    assert found[f"log.errors:{OTHER}", second].total == 1, "what is not found has no name of its own"
    assert found["log.requests", second].value == pytest.approx(1 / 60)
    assert reader.state.unread == 2


def test_an_interval_is_told_once_it_is_over_and_late_lines_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "django.log"
    reader = Reader(path)
    add(path, line(1))
    assert reader.read(BEGIN + timedelta(seconds=65)) == []
    add(path, line(59))  # written late, as a server's buffer does
    told = reader.read(BEGIN + timedelta(seconds=70))
    assert next(sample.total for sample in told if sample.metric == "log.errors") == 2
    add(path, line(58) + line(300))
    reader.read(BEGIN + timedelta(seconds=80))
    assert reader.state.tally.late == 1
    assert reader.state.unread == 1, "a line from the future is not believed"


def test_nginx_combined_with_request_time(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    stamp = "02/Mar/2026:13:00:05 +0100"
    add(
        path,
        f'10.0.0.1 - - [{stamp}] "GET /api/documents/17?q=a HTTP/1.1" 200 512 "-" "curl \\"8\\"" 0.250\n'
        f'10.0.0.1 - bob [{stamp}] "POST /api/documents/18 HTTP/2.0" 502 0 "http://a/b" "Mozilla/5.0 (X11)" 1.500\n'
        f'10.0.0.1 - - [{stamp}] "GET /plain HTTP/1.1" 200 5 "-" "x"\n'
        f'::1 - - [{stamp}] "\\x16\\x03" 400 0 "-" "-" 0.000\nnothing\n'.encode(),
    )
    reader = Reader(path, format="nginx")
    found = reader.finish()
    documents = found["log.errors:/api/documents/{}", BEGIN]
    assert (documents.bad, documents.total) == (1, 2)
    assert found["log.errors", BEGIN].total == 4
    assert sum(found["log.latency", BEGIN].bins.values()) == 3
    assert ("log.latency:/plain", BEGIN) not in found
    assert reader.state.unread == 1


def test_half_a_line_waits_for_its_end_and_an_endless_one_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "django.log"
    whole = line(1)
    add(path, whole[:20])
    reader = Reader(path)
    reader.read()
    add(path, whole[20:] + b"x" * (2 * BLOCK_BYTES + 5))
    reader.read()
    add(path, b"y" * 10 + b"\n" + line(2))
    assert reader.finish()["log.errors", BEGIN].total == 2
    assert reader.state.unread == 1


def test_what_a_long_pause_left_behind_is_read_by_its_own_time(tmp_path: Path) -> None:
    """Two rotations while nobody read: of the file that was being read the rest, of the next one everything."""
    path = tmp_path / "django.log"
    add(path, line(1))
    reader = Reader(path)
    reader.read()
    add(path, line(2))
    for minute in (1, 2):
        shift(path)
        path.rename(tmp_path / "django.log.1")
        add(path, line(60 * minute))
    found = reader.finish()
    totals = [found["log.errors", BEGIN + timedelta(minutes=minute)].total for minute in range(3)]
    assert totals == [2, 1, 1]
    assert not reader.problems


def test_a_file_that_was_truncated_and_is_longer_again_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "django.log"
    add(path, line(1))
    reader = Reader(path)
    reader.read()
    add(path, line(2))
    copytruncate(path, tmp_path / "django.log.1")
    add(path, line(3) + line(4) + line(5))
    found = reader.finish()
    assert found["log.errors", BEGIN].total == 5
    assert not reader.problems


def test_lines_that_were_lost_are_told_and_make_no_silence(tmp_path: Path) -> None:
    path = tmp_path / "django.log"
    add(path, line(1) * 30)
    reader = Reader(path)
    reader.read()
    path.unlink()
    add(path, line(600))
    found = reader.finish()
    assert "not counted" in reader.problems[0]
    assert ("log.errors", BEGIN + timedelta(minutes=5)) not in found
    assert found["log.errors", BEGIN + timedelta(minutes=10)].total == 1


def test_a_copy_made_by_hand_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "django.log"
    add(path, b"".join(line(second / 10) for second in range(100)))
    reader = Reader(path)
    reader.read()
    shutil.copy(path, tmp_path / "django.log.bak")
    add(path, line(11))
    assert reader.finish()["log.errors", BEGIN].total == 101


def test_a_log_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "none" / "django.log")
    reader.read()
    assert "is not there" in reader.problems[0]


ACTION = st.one_of(
    st.integers(1, 1500).map(lambda size: ("write", size)),
    st.sampled_from([("read", 0), ("rename", 0), ("copytruncate", 0)]),
)


@settings(max_examples=120)
@given(st.lists(ACTION, max_size=40))
def test_any_way_of_writing_reading_and_rotating_counts_every_line_once(actions: list[tuple[str, int]]) -> None:
    """The writer writes any number of bytes at a time; it may be rotated within a line only by truncation's copy."""
    lines = [line(number * 7, ms=number + 1) for number in range(60)]
    pending, whole = b"".join(lines), 0
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "django.log"
        path.touch()
        reader = Reader(path)
        for action, size in actions:
            if action == "write":
                whole += pending[:size].count(b"\n")
                add(path, pending[:size])
                pending = pending[size:]
            elif action == "read":
                reader.read(BEGIN + timedelta(seconds=7 * whole))
            else:
                half = len(pending) - len(b"".join(lines)) and not path.read_bytes().endswith(b"\n")
                if half:  # a server ends its line before it lets the file go
                    rest = pending[: pending.index(b"\n") + 1] if path.stat().st_size else b""
                    add(path, rest)
                    pending, whole = pending[len(rest) :], whole + bool(rest)
                shift(path)
                copy = path.with_name("django.log.1")
                if action == "rename":
                    path.rename(copy)
                    path.touch()
                else:
                    copytruncate(path, copy)
        found = reader.finish()
    assert not reader.problems
    told = Counter({at: sample.total for (metric, at), sample in found.items() if metric == "log.errors"})
    expected = Counter(BEGIN + timedelta(minutes=int(number * 7 // 60)) for number in range(whole))
    assert +told == expected
    assert reader.state.tally.late == 0


def test_a_hundred_thousand_lines_take_seconds_and_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "django.log"
    add(path, b"".join(line(number / 100, f"/r{number % 30}", ms=number % 997) for number in range(100_000)))
    reader = Reader(path)
    began = time.monotonic()
    reader.read(BEGIN + timedelta(hours=1))
    assert time.monotonic() - began < 10
    assert sum(sample.total for sample in reader.samples if sample.metric == "log.errors") == 100_000
    assert len(reader.kept) < 100_000
