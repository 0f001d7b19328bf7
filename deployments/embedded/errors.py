"""What can go wrong with the embedded services.

ServiceError
 ├── ServiceNotStarted     a server ended or did not answer in time
 ├── ServiceUnavailable    the machine lacks what a server needs
 └── UnknownService        no service has this name
"""

from __future__ import annotations

from tasks.release.errors import ServiceError


class ServiceNotStarted(ServiceError):  # noqa: N818 - named for what happened
    """A server ended during its start, or did not answer in time.

    Args:
        service: Its name.
        why: What it said, or what it did not do.
        port_taken: Whether it ended because somebody else has its port.
    """

    def __init__(self, service: str, why: str, *, hint: str, port_taken: bool = False) -> None:
        super().__init__(f"{service} did not start: {why}", hint=hint, retryable=True)
        self.service = service
        self.why = why
        self.port_taken = port_taken


class ServiceUnavailable(ServiceError):  # noqa: N818 - named for what happened
    """The machine lacks what a server needs."""


class UnknownService(ServiceError):  # noqa: N818 - named for what happened
    """No service has this name."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no service {name!r}", hint=f"the services are {', '.join(known)}")
        self.name = name
