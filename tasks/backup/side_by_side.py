"""Jobs that run side by side, of which one failure ends all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


def run_side_by_side(jobs: Sequence[Callable[[], T]], stop: Callable[[], None]) -> list[T]:
    """Run every job in a thread of its own.

    Args:
        jobs: What to run.
        stop: Makes the jobs that still run end soon; called when one failed or this thread was interrupted.

    Returns:
        Their results, in their order.

    Raises:
        Exception: The error of the job that failed first.
    """
    with ThreadPoolExecutor(max(1, len(jobs)), thread_name_prefix="backup") as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            first = _failed(futures)
        except BaseException as error:
            _stop(stop, error)
            raise
        if first is not None:
            _stop(stop, first)
            raise first
        return [future.result() for future in futures]


def _failed(futures: list[Future[T]]) -> BaseException | None:
    """The error of a job that ended; the ones that are stopped because of it have not ended yet."""
    errors = (future.exception() for future in futures if future.done())
    return next((error for error in errors if error is not None), None)


def _stop(stop: Callable[[], None], because: BaseException) -> None:
    """Stop the others; that this fails too does not hide the first error, which says whether another try may help."""
    try:
        stop()
    except Exception as second:  # noqa: BLE001
        because.add_note(f"the other jobs could not be stopped: {second}")
