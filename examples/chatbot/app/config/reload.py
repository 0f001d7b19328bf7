"""Tell the running gunicorn to take up the code that is checked out, as `systemctl reload gunicorn` would."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.environment import setting

BASE = Path(__file__).resolve().parents[1]


def running(pidfile: Path) -> int:
    """The process id in the file, if that process works in this application's directory; the program ends otherwise.

    A gunicorn that was killed leaves its file behind, and its process id becomes another program's.
    """
    try:
        pid = int(pidfile.read_text(encoding="utf-8"))
        place = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError) as error:
        sys.exit(f"gunicorn does not run: {pidfile} names no process that can be told ({error})")
    if place != BASE:
        sys.exit(f"gunicorn does not run: process {pid} of {pidfile} works in {place}, not in {BASE}")
    return pid


if __name__ == "__main__":
    os.kill(running(Path(setting("PIDFILE"))), signal.SIGHUP)
