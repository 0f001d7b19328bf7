"""The application's commands: `manage.py …`, install, reload, run in a checkout by that checkout's interpreter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.app import process
from tasks.release.environment import Environment


@dataclass(frozen=True)
class Checkout:
    """A directory with the application's code and the interpreter that runs it."""

    directory: Path
    python: Path
    commit: str


def manage(
    environment: Environment,
    checkout: Checkout,
    arguments: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    line: Callable[[str], None] | None = None,
    begun: Callable[[str], None] | None = None,
    inherits: Sequence[int] = (),
    hint: str = "",
    stop: threading.Event | None = None,
) -> str:
    """Run a management command; what it prints is returned.

    Args:
        environment: Names the command, the settings and the variables.
        checkout: Whose code.
        arguments: The subcommand and its arguments; `--settings` is added.
        variables: More environment variables.
        timeout_s: In seconds; none: the environment's limit for short commands.
        line: Is called with each line as it is printed.
        begun: Is called with a line that has begun and not ended.
        inherits: Descriptors that it keeps open, such as a lock.
        hint: What to do when it fails.
        stop: When another thread sets it, the command is killed.

    Raises:
        CommandError: It failed.
    """
    subcommand, *rest = arguments
    settings = [f"--settings={environment.app.settings}"] if environment.app.settings else []
    return program(
        environment,
        checkout,
        [*environment.app.manage, subcommand, *settings, *rest],
        variables=variables,
        timeout_s=timeout_s,
        line=line,
        begun=begun,
        inherits=inherits,
        hint=hint,
        stop=stop,
    )


def program(
    environment: Environment,
    checkout: Checkout,
    command: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    line: Callable[[str], None] | None = None,
    begun: Callable[[str], None] | None = None,
    inherits: Sequence[int] = (),
    hint: str = "",
    stop: threading.Event | None = None,
) -> str:
    """Run a configured command (install, reload) in a checkout; `{python}` and `{directory}` are filled in.

    Raises:
        CommandError: It failed.
    """
    places = {"{python}": str(checkout.python), "{directory}": str(checkout.directory)}
    return process.run(
        environment,
        [_filled(part, places) for part in command],
        directory=checkout.directory,
        variables={**variables_of(environment), **(variables or {})},
        timeout_s=timeout_s or environment.app.start_timeout_s,
        line=line,
        begun=begun,
        inherits=inherits,
        hint=hint,
        stop=stop,
    )


def variables_of(environment: Environment) -> dict[str, str]:
    """The environment variables that the application is given; secrets are among them."""
    secrets = {name: secret.get_secret_value() for name, secret in environment.app.secrets.items()}
    # Unbuffered, since progress is read from a pipe; no bytecode, so that the checkout stays as git knows it.
    return {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment.app.variables, **secrets}


def _filled(part: str, places: Mapping[str, str]) -> str:
    for placeholder, value in places.items():
        part = part.replace(placeholder, value)
    return part
