"""Which pg_dump is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.database.binaries import find_client
from tasks.release.errors import BackupError

# pg_dump's major for source, target and what is installed; None: refused.
CASES = [
    (15, 15, [15, 16, 17], 15),
    (15, 17, [15, 16, 17, 18], 17),
    (15, 16, [15, 17], 15),
    (15, 15, [14, 16, 17], 16),  # newer, and yet understood: transaction_timeout came with 17
    (15, 15, [14, 17, 18], None),
    (17, 17, [18], 18),
    (17, 17, [15, 16], None),
    (17, 18, [17], 17),
    (14, 15, [17, 18], None),
    (17, 15, [17], None),
    (17, 17, [], None),
]


def install(directory: Path, version: str, *, programs: tuple[str, ...] = ("pg_dump", "pg_restore")) -> Path:
    """Programs that tell a version, which is all that is asked of them."""
    directory.mkdir(parents=True)
    for program in programs:
        (directory / program).write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")
        (directory / program).chmod(0o755)
    return directory


@pytest.mark.parametrize(("source", "target", "installed", "expected"), CASES)
def test_the_choice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: int,
    target: int,
    installed: list[int],
    expected: int | None,
) -> None:
    places = [install(tmp_path / str(number), f"{number}.3") for number in installed]
    monkeypatch.setattr("tasks.database.binaries.directories", lambda _configured: places)
    if expected is None:
        with pytest.raises(BackupError) as caught:
            find_client(None, source * 10000 + 3, target * 10000 + 1)
        assert caught.value.hint
        assert not caught.value.retryable
    else:
        client = find_client(None, source * 10000 + 3, target * 10000 + 1)
        assert client.major == expected
        assert client.program("pg_dump") == str(tmp_path / str(expected) / "pg_dump")


def test_the_newest_minor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [install(tmp_path / version, version) for version in ("17.9", "17.10", "17.2")]
    monkeypatch.setattr("tasks.database.binaries.directories", lambda _configured: places)
    assert find_client(None, 170001, 170001).version == "17.10"


def test_a_directory_of_its_own(tmp_path: Path) -> None:
    place = install(tmp_path / "bin", "17beta2")
    assert find_client(place, 170000, 170000).directory == place
    with pytest.raises(BackupError, match="found: none"):
        find_client(tmp_path, 170000, 170000)


def test_half_a_client_is_none(tmp_path: Path) -> None:
    place = install(tmp_path / "bin", "17.1", programs=("pg_dump",))
    with pytest.raises(BackupError, match="found: none"):
        find_client(place, 170000, 170000)


def test_the_one_on_this_machine() -> None:
    """The bundled one serves its own major."""
    assert find_client(None, 170000, 170000).major == 17
