"""External programs of the application: argument lists, a deadline, and no secret in what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
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
            errors.seek(0)
            output += environment.redacted(errors.read(OUTPUT_LIMIT).decode("utf-8", "replace"))
            raise CommandError(Path(arguments[0]).name, code, output, hint=hint)
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

    def read(self, stream: IO[bytes]) -> None:
        """Read a pipe to its end."""
        rest = b""
        while chunk := os.read(stream.fileno(), CHUNK_BYTES):
            *whole, rest = (rest + chunk).split(b"\n")
            for raw in whole:
                self._take(raw)
            if rest and self.begun:
                self.begun(rest.decode("utf-8", "replace"))
        if rest:
            self._take(rest)

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
    ran_out = threading.Event()

    def end() -> None:
        ran_out.set()
        _kill(process)

    timer = threading.Timer(timeout_s, end)
    timer.start()
    try:
        with process:
            try:
                if process.stdout:
                    output.read(process.stdout)
            except BaseException:
                _kill(process)
                raise
    finally:
        timer.cancel()
    return output.text(), None if ran_out.is_set() else process.returncode


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
