"""The demo: a real release of the example application, carried through staging by Prefect, from nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from deployments import embedded
from deployments.embedded.state import State
from deployments.example import Example
from deployments.register import register
from flows.cli import deploy
from tasks.release.environment import DIRECTORY_VARIABLE

FROM, TO = "v1.0", "v1.1"
SIZE = "medium"
ENVIRONMENT = "staging"
APP = f"app-{ENVIRONMENT}"
BELOW = ("postgres-staging", "s3")  # what the application needs
ABOVE = ("worker-staging",)  # and what carries the release out


def run(state_dir: Path, presets: Path, console: Console) -> None:
    """Services up, the example at its first release with data, the next release deployed, its report shown.

    Safe to repeat, and to begin again after it was stopped at any point: the example starts from its first release
    with fresh data each time.

    Raises:
        RunbookError: Something could not be done; says what.
    """
    began = time.monotonic()

    def say(line: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:5.1f} s[/dim]  {line}", highlight=False, soft_wrap=True)

    say(f"services: {', '.join((*BELOW, *ABOVE))}, and what they need")
    with ThreadPoolExecutor(1) as pool:
        # The two halves wait for different things: servers to answer, packages to be installed.
        installing = pool.submit(_install, state_dir, say)
        embedded.up((*BELOW, *ABOVE), state_dir, say)
        example = installing.result()
    _serve(example, state_dir, say)
    services = embedded.services(state_dir)
    presets_written = embedded.write_environments(presets, services, state_dir)
    os.environ[DIRECTORY_VARIABLE] = str(presets_written[0].parent)
    os.environ["PREFECT_API_URL"] = f"{services['prefect'].url}/api"
    register(os.environ["PREFECT_API_URL"], say, only_if_changed=True)
    say(f"{TO} goes to {ENVIRONMENT}; watch it at {services['prefect'].url}")
    deploy(ENVIRONMENT, TO)
    say(f"done; the UI stays at {services['prefect'].url}, the application at {services[APP].url}")


def _install(state_dir: Path, say: Callable[[str], None]) -> Example:
    example = Example(State(state_dir), ENVIRONMENT)
    example.install(FROM)
    say(f"the example application is installed in {example.directory}")
    return example


def _serve(example: Example, state_dir: Path, say: Callable[[str], None]) -> None:
    """Bring the example back to its first release, and start it."""
    embedded.down([APP], state_dir, say)
    example.configure()
    example.reset(FROM, SIZE, say)
    embedded.up([APP], state_dir, say)
