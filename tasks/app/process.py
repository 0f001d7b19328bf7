"""External programs of the application: argument lists, a deadline, and no secret in what they leave behind."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tasks.release.environment import Environment
from tasks.release.errors import CommandError

NOT_STARTED = 127  # the shell's code for a program that is not there
CHUNK_BYTES = 65536
OUTPUT_LIMIT = 1_000_000  # characters kept of what a program prints; the end is what explains a failure
LINE_LIMIT = 65536  # characters; a longer line is told in pieces
HELD_BACK = 16384  # characters; longer than a secret, which must not be cut in two
HEAD_LIMIT = 500  # characters of an unfinished line that are told
LOOK_S = 0.1  # between two looks whether a silent program has ended
DRAIN_S = 1.0  # how long a program's last words are waited for when a daemon that it left behind holds the pipe open
ENDED_WITHIN_S = 5.0  # a killed program is gone at once, unless it is another user's or hangs in the kernel
# Variables of this process that are no business of the application: they would change its Python, or tell it secrets.
NOT_PASSED_ON = (
    "PREFECT_",
    "RUNBOOK_",
    "AWS_",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTHONHOME",
    "DJANGO_SETTINGS_MODULE",
    "PG",
    "UV_",
    "GIT_DIR",  # and below: a worker started by a git hook must not make git work on that repository
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
)
# The marks of a worker's children (deployments.embedded.processes): what a worker that died left is found by them.
PASSED_ON = ("RUNBOOK_STATE", "RUNBOOK_SERVICE")
BLOTTED = "******"  # what Environment.redacted makes of a secret


def run(
    environment: Environment,
    command: Sequence[str],
    *,
    directory: Path,
    variables: Mapping[str, str],
    timeout_s: float,
    line: Callable[[str], None] | None = None,
    begun: Callable[[str], None] | None = None,
    errors_apart: bool = False,
    inherits: Sequence[int] = (),
    hint: str = "",
    stop: threading.Event | None = None,
) -> str:
    """Run a program to its end.

    A daemon that it leaves behind is left alone, and its output is no longer read: it should write to a file.

    Args:
        environment: Its secrets are blotted out of everything that the program printed.
        command: Program and arguments; leading NAME=value entries are environment variables.
        directory: Where it runs.
        variables: Its environment variables, beside those it inherits: none whose value is a secret of the environment.
        timeout_s: After so many seconds it is killed, with all its children.
        line: Is called with each line as it is printed; a carriage return ends a line too.
        begun: Is called with the head of a line that has begun and not ended, such as "Applying 0002...".
        errors_apart: Keep standard error out of what is returned; it is still told when the program fails.
        inherits: Descriptors that it keeps open, such as a lock.
        hint: What to do when it fails.
        stop: When another thread sets it, the program is killed as if its time had run out.

    Returns:
        What it printed, in order; at most the last 1,000,000 characters.

    Raises:
        CommandError: It cannot be started, ends with another code than 0, or runs out of time; then it says so where
            the program, being another user's, could not be ended either.
    """
    leading = leading_variables(command)
    arguments = list(command[len(leading) :])
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                arguments,
                cwd=directory,
                env={**_inherited(environment), **variables, **leading},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors if errors_apart else subprocess.STDOUT,
                pass_fds=tuple(inherits),
                start_new_session=True,  # so that a timeout ends its children too
            )
        except OSError as error:
            message = f"{arguments[0]}: {error.strerror} (in {directory})"
            raise CommandError(arguments[0], NOT_STARTED, message, hint=hint) from None
        output = _Output(environment, line, begun, stop)
        code, gone = _to_the_end(process, time.monotonic() + timeout_s, output)
        if code != 0:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - OUTPUT_LIMIT))
            said = environment.redacted(errors.read(OUTPUT_LIMIT).decode("utf-8", "replace"))
            remains = "" if gone else "\nit could not be ended and goes on; does it run as another user?"
            message = f"{output.text()}\n{said}{remains}"
            raise CommandError(Path(arguments[0]).name, code, message, hint=hint)
    return output.text()


class _Output:
    """What a program prints: told as it comes, kept up to a limit, and without secrets."""

    def __init__(
        self,
        environment: Environment,
        line: Callable[[str], None] | None,
        begun: Callable[[str], None] | None,
        stop: threading.Event | None,
    ) -> None:
        self.environment = environment
        self.stop = stop or threading.Event()
        self.line = line
        self.begun = begun
        self.kept: deque[str] = deque()
        self.size = 0
        self.rest = ""  # of a line that has not ended

    def read(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        """Take what a process prints until nobody can print any more, it has ended, or the deadline has come."""
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        ended = False
        while (left_s := deadline - time.monotonic()) > 0 and not self.stop.is_set():
            if not ended and process.poll() is not None:
                # Whoever still holds the pipe is a daemon that was left behind, which may hold it for ever.
                ended, left_s = True, DRAIN_S
                deadline = time.monotonic() + DRAIN_S
            if not poll.poll(min(left_s, LOOK_S) * 1000):
                continue
            chunk = os.read(process.stdout.fileno(), CHUNK_BYTES)
            if not chunk:
                break
            self._feed(decoder.decode(chunk))
        self._feed(decoder.decode(b"", final=True))
        if self.rest:
            self._take(self.rest)

    def text(self) -> str:
        """Everything that was kept."""
        return "\n".join(self.kept)

    def _feed(self, text: str) -> None:
        *whole, self.rest = (self.rest + text).split("\n")
        for one in whole:
            self._take(one)
        if len(self.rest) > LINE_LIMIT:
            # Blotted before the cut, so that no secret is cut in two; one that is not all there yet is held back.
            told = self.environment.redacted(self.rest)
            self._take(told[:-HELD_BACK])
            self.rest = told[-HELD_BACK:]
        if self.rest and self.begun:
            self.begun(self.environment.redacted(self.rest[:HEAD_LIMIT]))

    def _take(self, text: str) -> None:
        text = self.environment.redacted(text)
        self.kept.append(text)
        self.size += len(text) + 1
        while self.size > OUTPUT_LIMIT and len(self.kept) > 1:
            self.size -= len(self.kept.popleft()) + 1
        if self.line:
            self.line(text)


def leading_variables(command: Sequence[str]) -> dict[str, str]:
    """The NAME=value entries that a command begins with."""
    leading = {}
    for entry in command:
        name, sign, value = entry.partition("=")
        if not sign or not name.isidentifier():
            break
        leading[name] = value
    return leading


def _to_the_end(process: subprocess.Popen[bytes], deadline: float, output: _Output) -> tuple[int | None, bool]:
    """The exit code of a process, None when the time ran out; and whether it is gone."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    with process.stdout:
        try:
            output.read(process, deadline)
            while process.poll() is None and time.monotonic() < deadline and not output.stop.is_set():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK_S)
            return process.wait(0.0), True
        except subprocess.TimeoutExpired:
            return None, _kill(process)
        except BaseException:
            _kill(process)
            raise


def _inherited(environment: Environment) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or not (name.startswith(NOT_PASSED_ON) or environment.redacted(value).strip() == BLOTTED)
    }


def _kill(process: subprocess.Popen[bytes]) -> bool:
    """End a process and its children, unless it ended by itself; whether they are gone."""
    if process.poll() is not None:
        return True
    with contextlib.suppress(ProcessLookupError, PermissionError):  # what became another user cannot be ended
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(ENDED_WITHIN_S)
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True  # nobody is left
    except (subprocess.TimeoutExpired, PermissionError):
        return False
    return True  # who is left was hit too, and dies
