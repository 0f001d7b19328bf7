"""The flag line of §4.4 in an env file: put in and taken out as a whole, every other line left as it is."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from tasks.release.errors import MaintenanceError

# Put before a line that sets the same name to something else: for some readers the first line wins, for some the last.
ASIDE = b"#runbook# "
CREATED_MODE = 0o644  # of a flag file that was not there
PRIVATE_MODE = 0o600  # until the new file has the old one's owner


def add_flag(path: Path, flag: str) -> bool:
    """Make a `NAME=value` line the only one that sets NAME; whether anything had to be changed.

    A line that sets NAME otherwise becomes a comment, which `remove_flag` undoes.

    Raises:
        MaintenanceError: The file cannot be read or replaced; it is as it was.
    """
    return _change(path, lambda content: _with(content, flag.encode()))


def remove_flag(path: Path, flag: str) -> bool:
    """Take every line that is exactly the flag out again; whether there was one.

    Raises:
        MaintenanceError: The file cannot be read or replaced; it is as it was.
    """
    return _change(path, lambda content: _without(content, flag.encode()))


def _with(content: bytes, flag: bytes) -> bytes:
    lines = content.split(b"\n")
    if any(line.strip() == flag for line in lines):
        return content
    lines = [ASIDE + line if _sets(line, _name(flag)) else line for line in lines]
    if lines[-1]:
        return b"\n".join([*lines, flag])  # a file without a line end at its end stays one
    return b"\n".join([*lines[:-1], flag, b""])


def _without(content: bytes, flag: bytes) -> bytes:
    kept = [line for line in content.split(b"\n") if line.strip() != flag]
    name = _name(flag)
    return b"\n".join(
        line.removeprefix(ASIDE) if line.startswith(ASIDE) and _sets(line.removeprefix(ASIDE), name) else line
        for line in kept
    )


def _name(flag: bytes) -> bytes:
    return flag.partition(b"=")[0]


def _sets(line: bytes, name: bytes) -> bool:
    key, equals, _ = line.strip().removeprefix(b"export ").partition(b"=")
    return bool(equals) and key.strip() == name


def _change(path: Path, change: Callable[[bytes], bytes]) -> bool:
    """Replace a file by what is made of its content, at once and for good; whether it is another one."""
    try:
        target = path.resolve()  # a symbolic link stays one
        _beside(target).unlink(missing_ok=True)  # of a run that was killed; it holds what the file holds
        before, content = _read(target)
        changed = change(content)
        if changed == content:
            return False
        _replace(target, changed, before)
    except OSError as error:
        raise MaintenanceError(
            f"{path} cannot be changed: {error.strerror}; it is as it was",
            hint="this user must be able to write the file's directory and to keep the file's owner, and the file must"
            " not be a mount point of its own: it is replaced as a whole, so that nobody reads half of it",
        ) from None
    return True


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.runbook")


def _read(target: Path) -> tuple[os.stat_result | None, bytes]:
    try:
        with target.open("rb") as file:
            return os.fstat(file.fileno()), file.read()
    except FileNotFoundError:
        return None, b""


def _replace(target: Path, content: bytes, before: os.stat_result | None) -> None:
    beside = _beside(target)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            file.flush()
            if before is None:
                os.fchmod(descriptor, CREATED_MODE)
            else:
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))  # after the owner, whose change drops bits
                _copy_attributes(target, descriptor)
            os.fsync(descriptor)
        _refuse_if_changed(target, before)
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_directory(target.parent)


def _refuse_if_changed(target: Path, before: os.stat_result | None) -> None:
    if before is not None and _stamp(target.stat()) != _stamp(before):
        raise MaintenanceError(
            f"{target} was changed by somebody else at the same moment; it is as they left it", retryable=True
        )


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _copy_attributes(source: Path, descriptor: int) -> None:
    """Access lists and security labels, as far as the file system has them."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            os.setxattr(descriptor, name, os.getxattr(source, name))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
