"""External programs of the application: argument lists, a deadline, and no secret in what they leave behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from tasks.release.environment import Environment
from tasks.release.errors import CommandError

NOT_STARTED = 127  # the shell's code for a program that is not there
CHUNK_BYTES = 65536
OUTPUT_LIMIT = 1_000_000  # characters kept of what a program prints; the end is what explains a failure
# Variables of this process that are no business of the application: they would change its Python, or tell it secrets.
NOT_PASSED_ON = (
    "PREFECT_",
    "RUNBOOK_",
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
    hint: str = "",
) -> str:
    """Run a program to its end.

    Args:
        environment: Its secrets are blotted out of everything that the program printed.
        command: Program and arguments; leading NAME=value entries are environment variables.
        directory: Where it runs.
        variables: Its environment variables, beside those it inherits.
        timeout_s: After so many seconds it is killed, with all its children.
        line: Is called with each line as it is printed.
        begun: Is called with a line that has begun and not ended, such as "Applying 0002...".
        errors_apart: Keep standard error out of what is returned; it is still told when the program fails.
        hint: What to do when it fails.

    Returns:
        What it printed, in order; at most the last 1,000,000 characters.

    Raises:
        CommandError: It cannot be started, ends with another code than 0, or runs out of time.
    """
    leading = _leading_variables(command)
    arguments = list(command[len(leading) :])
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                arguments,
                cwd=directory,
                env={**_inherited(), **variables, **leading},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors if errors_apart else subprocess.STDOUT,
                start_new_session=True,  # so that a timeout ends its children too
            )
        except OSError as error:
            message = f"{arguments[0]}: {error.strerror} (in {directory})"
            raise CommandError(arguments[0], NOT_STARTED, message, hint=hint) from None
        output, code = _to_the_end(process, timeout_s, _Output(environment, line, begun))
        if code != 0:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - OUTPUT_LIMIT))
            said = environment.redacted(errors.read(OUTPUT_LIMIT).decode("utf-8", "replace"))
            raise CommandError(Path(arguments[0]).name, code, f"{output}\n{said}", hint=hint)
    return output


class _Output:
    """What a program prints: told as it comes, kept up to a limit, and without secrets."""

    def __init__(
        self, environment: Environment, line: Callable[[str], None] | None, begun: Callable[[str], None] | None
    ) -> None:
        self.environment = environment
        self.line = line
        self.begun = begun
        self.kept: deque[str] = deque()
        self.size = 0

    def read(self, stream: IO[bytes], deadline: float) -> bool:
        """Read a pipe to its end; False when the deadline came first.

        A daemon that the program left behind holds the pipe open, whether or not it can be killed.
        """
        rest = b""
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        ended = False
        while (left_s := deadline - time.monotonic()) > 0 and poll.poll(left_s * 1000):
            chunk = os.read(stream.fileno(), CHUNK_BYTES)
            if not chunk:
                ended = True
                break
            *whole, rest = (rest + chunk).split(b"\n")
            for raw in whole:
                self._take(raw)
            if rest and self.begun:
                self.begun(rest.decode("utf-8", "replace"))
        if rest:
            self._take(rest)
        return ended

    def text(self) -> str:
        """Everything that was kept."""
        return "\n".join(self.kept)

    def _take(self, raw: bytes) -> None:
        text = self.environment.redacted(raw.decode("utf-8", "replace").rstrip("\r"))
        self.kept.append(text)
        self.size += len(text)
        while self.size > OUTPUT_LIMIT and len(self.kept) > 1:
            self.size -= len(self.kept.popleft())
        if self.line:
            self.line(text)


def _to_the_end(process: subprocess.Popen[bytes], timeout_s: float, output: _Output) -> tuple[str, int | None]:
    """What the process prints, and its exit code; None when the time ran out."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    deadline = time.monotonic() + timeout_s
    with process:
        try:
            ended = output.read(process.stdout, deadline)
            if ended:
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # it closed its output and goes on
            ended = False
        except BaseException:
            _kill(process)
            raise
        if not ended:
            _kill(process)
    return output.text(), process.returncode if ended else None


def _leading_variables(command: Sequence[str]) -> dict[str, str]:
    leading = {}
    for entry in command:
        name, sign, value = entry.partition("=")
        if not sign or not name.isidentifier():
            break
        leading[name] = value
    return leading


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)}


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended by itself just now
