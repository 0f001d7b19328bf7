"""Which pg_dump is taken."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tasks.database.binaries import TRANSACTION_TIMEOUT, find_client
from tasks.release.errors import BackupError
from tests.fix_postgres import DEBIAN_15, PostgresServer

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


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (15, 15, "PostgreSQL 15 to 16 (on Debian and Ubuntu: postgresql-client-15)"),
        (16, 16, "PostgreSQL 16 (on Debian and Ubuntu: postgresql-client-16)"),
        (18, 18, "PostgreSQL 18 (on Debian and Ubuntu: postgresql-client-18)"),
    ],
)
def test_what_to_install_beside_the_bundled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: int, target: int, words: str
) -> None:
    bundled = install(tmp_path / "bin", "17.10")
    monkeypatch.setattr("tasks.database.binaries.directories", lambda _configured: [bundled])
    with pytest.raises(BackupError, match="no pg_dump fits") as caught:
        find_client(None, source * 10000, target * 10000)
    assert words in caught.value.hint


def test_a_newer_client_does_not_serve_an_older_server(postgres15: PostgresServer, tmp_path: Path) -> None:
    """Why the bundled one is refused there: it reads the server, and its dump goes into no such server."""
    client = find_client(None, 170000, 170000)
    assert client.major == TRANSACTION_TIMEOUT
    dump = tmp_path / "dump"
    source, target = postgres15.create_database(), postgres15.create_database()
    reach = {"PGHOST": postgres15.host, "PGPORT": str(postgres15.port), "PGUSER": postgres15.superuser}

    def run(program: str, *arguments: str) -> str:
        return subprocess.run(
            [program, *arguments],
            env=os.environ | reach | {"PGPASSWORD": postgres15.password, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stderr

    try:
        assert run(client.program("pg_dump"), "--format=custom", f"--file={dump}", source) == ""
        newer = run(client.program("pg_restore"), "--exit-on-error", f"--dbname={target}", str(dump))
        assert 'unrecognized configuration parameter "transaction_timeout"' in newer
        assert "unsupported version" in run(str(DEBIAN_15 / "pg_restore"), f"--dbname={target}", str(dump))
    finally:
        postgres15.drop_database(source)
        postgres15.drop_database(target)
