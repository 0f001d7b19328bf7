"""The flag line in an env file: nothing but that line ever changes."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from tasks.maintenance.flag import add_flag, remove_flag
from tasks.release.errors import MaintenanceError

FLAG = "MAINTENANCE_MODE=true"


@pytest.mark.parametrize(
    ("before", "shut"),
    [
        (b"", b"MAINTENANCE_MODE=true\n"),
        (b"A=1\n", b"A=1\nMAINTENANCE_MODE=true\n"),
        (b"A=1", b"A=1\nMAINTENANCE_MODE=true"),
        (b"A=1\r\nB=\xff\r\n", b"A=1\r\nB=\xff\r\nMAINTENANCE_MODE=true\n"),
        (
            b"X_MAINTENANCE_MODE=true\n# MAINTENANCE_MODE=true?\n",
            b"X_MAINTENANCE_MODE=true\n# MAINTENANCE_MODE=true?\nMAINTENANCE_MODE=true\n",
        ),
        (
            b"MAINTENANCE_MODE=false  \nA=1\nexport MAINTENANCE_MODE = 0\n",
            b"#runbook# MAINTENANCE_MODE=false  \nA=1\n#runbook# export MAINTENANCE_MODE = 0\nMAINTENANCE_MODE=true\n",
        ),
    ],
)
def test_the_flag_comes_and_goes_and_leaves_every_byte_as_it_was(tmp_path: Path, before: bytes, shut: bytes) -> None:
    file = tmp_path / ".env"
    file.write_bytes(before)
    assert add_flag(file, FLAG) is True
    assert file.read_bytes() == shut
    assert add_flag(file, FLAG) is False  # twice is once
    assert file.read_bytes() == shut
    assert remove_flag(file, FLAG) is True
    assert file.read_bytes() == before
    assert remove_flag(file, FLAG) is False


def test_a_flag_that_was_there_twice_goes_as_a_whole(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"MAINTENANCE_MODE=true\nA=1\n MAINTENANCE_MODE=true\r\n")
    remove_flag(file, FLAG)
    assert file.read_bytes() == b"A=1\n"


def test_mode_owner_and_symbolic_link_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "real.env", tmp_path / ".env"
    file.write_bytes(b"A=1\n")
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 12345, 23456)
    link.symlink_to("real.env")
    before = file.stat()
    add_flag(link, FLAG)
    after = file.stat()
    assert link.is_symlink()
    assert file.read_bytes() == b"A=1\nMAINTENANCE_MODE=true\n"
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino  # replaced as a whole: nobody reads half of it
    assert sorted(one.name for one in tmp_path.iterdir()) == [".env", "real.env"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    """A limit on the size of files stops the write in its middle, as a full file system does."""
    file = tmp_path / ".env"
    content = b"A=1\n" * 50_000
    file.write_bytes(content)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(MaintenanceError, match="it is as it was"):
            add_flag(file, FLAG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == [".env"]


def test_what_a_killed_run_left_beside_the_file_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=1\n")
    (tmp_path / "..env.runbook").write_bytes(b"A=")
    assert remove_flag(tmp_path / ".env", FLAG) is False
    assert [one.name for one in tmp_path.iterdir()] == [".env"]


def test_a_file_without_its_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MaintenanceError, match="No such file or directory"):
        add_flag(tmp_path / "nowhere" / ".env", FLAG)
