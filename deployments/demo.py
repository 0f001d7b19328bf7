"""The demo: a real release of the example application, carried through staging by Prefect, from nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from deployments import embedded
from deployments.embedded.state import State
from deployments.example import Example
from deployments.register import register
from flows.cli import deploy
from tasks.database.lock import advisory_lock
from tasks.record.opening import NEW
from tasks.release.environment import DIRECTORY_VARIABLE, load
from tasks.release.errors import ReleaseInProgressError

FROM, TO = "v1.0", "v1.1"
SIZE = "medium"
ENVIRONMENT = "staging"
APP = f"app-{ENVIRONMENT}"
BELOW = ("postgres-staging", "s3")  # what the application needs
ABOVE = ("worker-staging",)  # and what carries the release out
PATIENCE_S = 90.0  # for a release that an earlier demo left on its way


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
    os.environ[DIRECTORY_VARIABLE] = _environments(presets, state_dir)
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        # A demo that was stopped may have left a release on its way: nothing is reset below it.
        _hold_release_lock(stack, say)
        embedded.down([APP], state_dir, say)
        # Prefect starts on one core; the application is prepared on another.
        preparing = pool.submit(_prepare, state_dir, say)
        embedded.up(ABOVE, state_dir, say)
        preparing.result()
        embedded.up([APP], state_dir, say)
    _environments(presets, state_dir)  # the application's address is known by now
    services = embedded.services(state_dir)
    os.environ["PREFECT_API_URL"] = f"{services['prefect'].url}/api"
    register(os.environ["PREFECT_API_URL"], say, only_if_changed=True)
    say(f"{TO} goes to {ENVIRONMENT}; watch it at {services['prefect'].url}")
    deploy(ENVIRONMENT, TO, release_id=NEW)
    say(f"done; the UI stays at {services['prefect'].url}, the application at {services[APP].url}")


def _environments(presets: Path, state_dir: Path) -> str:
    """Write the environment files for what runs; their directory."""
    written = embedded.write_environments(presets, embedded.services(state_dir), state_dir)
    return str(written[0].parent)


def _hold_release_lock(stack: ExitStack, say: Callable[[str], None]) -> None:
    """Take the release lock for as long as the stack lives; a release that is under way is waited for.

    Raises:
        ReleaseInProgressError: It is still under way after a minute and a half.
    """
    deadline = time.monotonic() + PATIENCE_S
    told = False
    while True:
        try:
            stack.enter_context(advisory_lock(load(ENVIRONMENT).database, "release", "the demo's reset"))
        except ReleaseInProgressError as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                say(f"{error.message}; waiting for it to end")
                told = True
            time.sleep(1)
        else:
            return


def _prepare(state_dir: Path, say: Callable[[str], None]) -> None:
    """Install the example and bring it back to its first release, with fresh data."""
    example = Example(State(state_dir), ENVIRONMENT)
    example.install(FROM)
    example.configure()
    example.reset(FROM, SIZE, say)
    say(f"the example application is at {FROM} in {example.directory}")
