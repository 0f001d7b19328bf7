"""§3.5, §4.7: watch a release, in a run of its own whose failure is what a rollback is triggered by."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from tasks.monitor.stage import deliver_verdict, replay_placebos, sole_watch, watch_intervals
from tasks.notify.stage import verdict_told
from tasks.release.errors import ReleaseInProgressError


@flow(name="monitor", flow_run_name="watch-{release_id}", validate_parameters=True)
def monitor(environment: str, release_id: Annotated[str, Field(min_length=1)]) -> State[None]:
    """Watch a release until something can be said of it; a run that convicts it fails.

    A run that died is started again with the same release id, and goes on where the dead one stopped.

    Args:
        environment: Name of the environment file.
        release_id: The release that is watched.
    """
    ended = ""
    try:
        with sole_watch(environment, release_id), verdict_told(environment, release_id):
            while not ended:
                ended = watch_intervals(environment, release_id)
            verdict = deliver_verdict(environment, release_id, ended)
    except ReleaseInProgressError as error:
        return Completed(message=error.message)
    return Completed(message=verdict.sentence)


@flow(name="placebo", flow_run_name="placebo-{environment}", validate_parameters=True)
def placebo(environment: str) -> State[None]:
    """Replay the judge on the last days without a release: what it convicts there is a false alarm.

    Args:
        environment: Name of the environment file.
    """
    found = replay_placebos(environment)
    return Completed(message=f"{found.false_alarms} false alarms in {found.replays} replays")
