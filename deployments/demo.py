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
    embedded.up(BELOW, state_dir, say)
    embedded.down([APP], state_dir, say)
    with ThreadPoolExecutor(1) as pool:
        # Prefect starts on one core; the application is prepared on another.
        preparing = pool.submit(_prepare, state_dir, say)
        embedded.up(ABOVE, state_dir, say)
        preparing.result()
    embedded.up([APP], state_dir, say)
    services = embedded.services(state_dir)
    presets_written = embedded.write_environments(presets, services, state_dir)
    os.environ[DIRECTORY_VARIABLE] = str(presets_written[0].parent)
    os.environ["PREFECT_API_URL"] = f"{services['prefect'].url}/api"
    register(os.environ["PREFECT_API_URL"], say, only_if_changed=True)
    say(f"{TO} goes to {ENVIRONMENT}; watch it at {services['prefect'].url}")
    deploy(ENVIRONMENT, TO)
    say(f"done; the UI stays at {services['prefect'].url}, the application at {services[APP].url}")


def _prepare(state_dir: Path, say: Callable[[str], None]) -> None:
    """Install the example and bring it back to its first release, with fresh data."""
    example = Example(State(state_dir), ENVIRONMENT)
    example.install(FROM)
    example.configure()
    example.reset(FROM, SIZE, say)
    say(f"the example application is at {FROM} in {example.directory}")
