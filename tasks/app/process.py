"""External programs of the application: argument lists, a deadline, and no secret in what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tasks.release.environment import Environment
from tasks.release.errors import CommandError

NOT_STARTED = 127  # the shell's code for a program that is not there
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
        output, code = _to_the_end(process, environment, timeout_s, line)
        if code != 0:
            errors.seek(0)
            output += environment.redacted(errors.read(OUTPUT_LIMIT).decode("utf-8", "replace"))
            raise CommandError(Path(arguments[0]).name, code, output, hint=hint)
    return output


def _to_the_end(
    process: subprocess.Popen[bytes], environment: Environment, timeout_s: float, line: Callable[[str], None] | None
) -> tuple[str, int | None]:
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
                output = _read(process.stdout or (), environment, line)
            except BaseException:
                _kill(process)
                raise
    finally:
        timer.cancel()
    return output, None if ran_out.is_set() else process.returncode


def _read(lines: Iterable[bytes], environment: Environment, line: Callable[[str], None] | None) -> str:
    kept: list[str] = []
    size = 0
    for raw in lines:
        text = environment.redacted(raw.decode("utf-8", "replace"))
        kept.append(text)
        size += len(text)
        while size > OUTPUT_LIMIT and len(kept) > 1:
            size -= len(kept.pop(0))
        if line:
            line(text.rstrip())
    return "".join(kept)


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
