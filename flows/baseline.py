"""§3.5, §4.7: the baseline that a watch compares with."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from tasks.baseline.stage import keep_baseline


@flow(name="collect-baseline", flow_run_name="baseline-of-{environment}", validate_parameters=True)
def collect_baseline(environment: str) -> State[None]:
    """Collect what the sources of an environment told since the last run, and keep it in its bucket.

    Args:
        environment: Name of the environment file.
    """
    kept = keep_baseline(environment)
    return Completed(message=f"{kept.samples} samples; {kept.merged} parts merged, {kept.expired} files expired")
