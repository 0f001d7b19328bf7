"""A running pg_dump or pg_restore: no password in its arguments, its last words kept, never left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import IO

from tasks.database.binaries import Client
from tasks.database.connection import is_passing, variables_of
from tasks.release.environment import Database
from tasks.release.errors import CommandError

LAST_WORDS = 80  # lines
GRACE_S = 10
PIPE_BYTES = 2**20  # a larger pipe lets the dump run ahead while a part is on its way; Linux's limit for users
# What begins a statement, which may hold the password of a user mapping, or a row: neither is kept.
UNTOLD = ("Command was:", "CONTEXT:", "DETAIL:")
# Variables of our own process that would lead a client elsewhere than the environment file says.
REDIRECTING = ("PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "PGDATABASE", "PGTARGETSESSIONATTRS", "PGCLIENTENCODING")


def may_pass(error: CommandError) -> bool:
    """Whether another try may help: a lost connection, a restart, a lost race for a lock."""
    return error.exit_code is not None and is_passing(error.output)


def late_hint(error: CommandError) -> str:
    """What to do about a program that was stopped at its deadline; empty when it was not."""
    return "" if error.exit_code is not None else "it was stopped; look what held it up, or raise [backup] timeout_s"


class Program:
    """A client program that runs until it ends or the `with` block does.

    Args:
        client: Where the program lies.
        arguments: Its name and its arguments.
        database: What it works on.
        purpose: Shown in pg_stat_activity.
        deadline: When it is stopped, by time.monotonic().
        dbname: Another database of the same server.
        options: Settings of its session, such as `-c statement_timeout=0`.
        files: Open files it inherits.
        on_words: Called with every line it says on standard error.
    """

    def __init__(
        self,
        client: Client,
        arguments: list[str],
        *,
        database: Database,
        purpose: str,
        deadline: float,
        dbname: str | None = None,
        options: str = "",
        files: tuple[int, ...] = (),
        on_words: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.name = arguments[0]
        variables = {name: value for name, value in os.environ.items() if name not in REDIRECTING}
        variables |= variables_of(database, purpose, dbname=dbname) | {"LC_ALL": "C", "PGOPTIONS": options}
        self._process = subprocess.Popen(
            [client.program(self.name), *arguments[1:], "--no-password"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=variables,
            pass_fds=files,
            process_group=0,  # so that the workers of pg_restore can be killed with it
        )
        assert self._process.stdout is not None  # noqa: S101 -- asked for above
        assert self._process.stderr is not None  # noqa: S101
        self.stdout: IO[bytes] = self._process.stdout
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # a user may have so many large pipes and no more
                fcntl.fcntl(self.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self._on_words = on_words
        self._listener = threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True)
        self._listener.start()
        self._late = False
        self._timer = threading.Timer(max(0.0, deadline - time.monotonic()), self._end_late)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._end()
        self._listener.join()
        self.stdout.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """Ask it to cancel what it does and to end, its own children included; harmless when it has ended."""
        self._process.terminate()

    def confirm(self) -> None:
        """Wait for its end.

        Raises:
            CommandError: It failed, or ran out of time (exit code None); with its last words.
        """
        code = self._process.wait()
        self._listener.join()
        if code != 0:
            raise CommandError(self.name, None if self._late else code, "\n".join(self._words))

    def _end_late(self) -> None:
        self._late = True
        self._end()

    def _end(self) -> None:
        """Ask, then kill: a client whose server does not answer waits for it even to cancel."""
        self.stop()
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _listen(self, stderr: IO[bytes]) -> None:
        told = True
        with stderr:
            while line := stderr.readline(4096):
                words = line.decode(errors="replace").rstrip()
                told = words.startswith(f"{self.name}: ") or (told and not words.startswith(UNTOLD))
                if told:
                    self._words.append(words)
                self._on_words(words)
