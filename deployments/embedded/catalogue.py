"""Which services there are, on which ports they prefer to listen, and what each needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from deployments.embedded.errors import UnknownService

ENVIRONMENTS = ("local", "test", "staging", "production")
POOLS = (*ENVIRONMENTS, "rollback")  # rollback has its own: the worker that died must not be the one that is needed
BUCKET = "runbook"


@dataclass(frozen=True)
class Service:
    """One embedded service.

    `port` is the one it prefers, None for a worker, which listens nowhere. `needs` names services that must run first.
    """

    name: str
    kind: Literal["postgres", "s3", "prefect", "worker", "app"]
    port: int | None = None
    needs: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """What it is there for: the environment of a cluster or worker, or its pool."""
        return self.name.partition("-")[2]


SERVICES = {
    service.name: service
    for service in (
        Service("postgres-local", "postgres", 5432),
        Service("postgres-test", "postgres", 5433),
        Service("postgres-staging", "postgres", 5434),
        Service("postgres-production", "postgres", 5435),
        Service("postgres-prefect", "postgres", 5436),
        Service("s3", "s3", 8333),
        Service("prefect", "prefect", 4200, ("postgres-prefect",)),
        *(Service(f"worker-{pool}", "worker", None, ("prefect",)) for pool in POOLS),
        Service("app-staging", "app", 8001, ("postgres-staging",)),
        Service("app-production", "app", 8002, ("postgres-production",)),
    )
}


def with_needs(names: Iterable[str]) -> list[Service]:
    """Return the named services and all they need, each after what it needs.

    Without a name: all but applications, which run only where they were installed.

    Raises:
        UnknownService: no service has one of the names.
    """
    wanted = set(_known(names)) or {service.name for service in SERVICES.values() if service.kind != "app"}
    for service in reversed(SERVICES.values()):  # the catalogue lists needs first
        if service.name in wanted:
            wanted.update(service.needs)
    return [service for service in SERVICES.values() if service.name in wanted]


def with_dependents(names: Iterable[str]) -> list[Service]:
    """Return the named services (all without a name) and all that need them, each after what needs it.

    Raises:
        UnknownService: no service has one of the names.
    """
    wanted = set(_known(names)) or set(SERVICES)
    for service in SERVICES.values():
        if wanted.intersection(service.needs):
            wanted.add(service.name)
    return [service for service in reversed(SERVICES.values()) if service.name in wanted]


def _known(names: Iterable[str]) -> list[str]:
    asked = list(names)
    for name in asked:
        if name not in SERVICES:
            raise UnknownService(name, tuple(SERVICES))
    return asked
