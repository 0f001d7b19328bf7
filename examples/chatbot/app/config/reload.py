"""Tell the running gunicorn to take up the code that is checked out, as `systemctl reload gunicorn` would."""

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.environment import setting

if __name__ == "__main__":
    os.kill(int(Path(setting("PIDFILE")).read_text(encoding="utf-8")), signal.SIGHUP)
