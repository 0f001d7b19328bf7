"""The first breath of every daemon: note who it is, then become it.

Run as a file, `python -I -S launch.py RECORD CWD PROGRAM [ARGUMENT…]`, without anything of this project. The record
(process id, start time, boot id) is on disk before the program begins, so a starter that dies in between leaves no
process that nobody knows. Signals that a starter in the background ignores (a shell's `&` ignores SIGINT) are given
back their meaning: a Prefect worker and PostgreSQL are stopped by SIGINT.
"""

import json
import os
import signal
import sys
from pathlib import Path


def identity() -> "dict[str, int | str]":
    """Return what tells this process from any other: id, start time in clock ticks since boot, and the boot itself."""
    stat = Path("/proc/self/stat").read_text()
    started = int(stat.rpartition(")")[2].split()[19])
    return {"pid": os.getpid(), "started": started, "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}


def main(record: str, directory: str, *command: str) -> None:
    """Write the record, put the signals back and replace this process by the command."""
    handled = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)
    for number in handled:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    unfinished = f"{record}.{os.getpid()}"
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(file, json.dumps(identity()).encode())
    os.fsync(file)
    os.close(file)
    Path(unfinished).replace(record)
    os.chdir(directory)
    os.execvpe(command[0], command, os.environ)  # noqa: S606 - becoming the program is the purpose


if __name__ == "__main__":
    main(*sys.argv[1:])
