"""Work on several services at once, each as soon as those it waits for are done."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence

from deployments.embedded.catalogue import Service
from tasks.release.errors import ServiceError


def together(
    services: Sequence[Service], waits_for: Mapping[str, Sequence[str]], work: Callable[[Service], None]
) -> dict[str, BaseException]:
    """Call `work` for every service, in threads, each after the services that `waits_for` names for it.

    A service whose predecessor failed is not worked on. The threads are daemons: when the caller is interrupted
    (Ctrl-C) the program ends at once, and what it leaves half done is repaired by the next command.

    Returns:
        The errors, by service.
    """
    finished: queue.Queue[tuple[str, BaseException | None]] = queue.Queue()
    names = {service.name for service in services}
    waiting = {service.name: set(waits_for.get(service.name, ())) & names for service in services}
    by_name = {service.name: service for service in services}
    errors: dict[str, BaseException] = {}

    def run(service: Service) -> None:
        try:
            work(service)
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            finished.put((service.name, error))
        else:
            finished.put((service.name, None))

    pending = 0
    while waiting or pending:
        for name in [name for name, before in waiting.items() if not before]:
            del waiting[name]
            threading.Thread(target=run, args=(by_name[name],), name=name, daemon=True).start()
            pending += 1
        name, error = finished.get()
        pending -= 1
        if error is not None:
            errors[name] = error
        for other in [other for other, before in waiting.items() if name in before]:
            if error is None:
                waiting[other].discard(name)
            else:
                errors[other] = ServiceError(f"{other} waits for {name}, which failed", hint=f"mend {name} first")
                finished.put((other, errors[other]))
                del waiting[other]
                pending += 1
    return errors


def raise_first(errors: Mapping[str, BaseException]) -> None:
    """Raise the first error, with the others in its message where there are more.

    Raises:
        ServiceError: one of ours, or one that names the service and the foreign error's kind.
    """
    if not errors:
        return
    (name, first), *others = errors.items()
    if not isinstance(first, Exception):
        raise first
    hint = getattr(first, "hint", "") or "its log tells more"
    message = getattr(first, "message", None) or f"{name}: {type(first).__name__}: {first}"
    for other, error in others:
        message += f"\n{getattr(error, 'message', None) or f'{other}: {type(error).__name__}: {error}'}"
    if isinstance(first, ServiceError) and not others:
        raise first
    raise ServiceError(message, hint=hint, retryable=getattr(first, "retryable", False)) from first
