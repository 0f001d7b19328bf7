"""`up`, `status`, `down` and `delete` of the embedded services.

One command at a time works on a state directory. Each service is remembered when it is completely started, and its
process is recorded before its program begins; so whatever a crash leaves behind, the next command finds and repairs.
A process that is not ours, by id and start time, is never touched.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deployments.embedded.account import outside_directory
from deployments.embedded.catalogue import SERVICES, Service, with_dependents, with_needs
from deployments.embedded.operate import Operator, Report
from deployments.embedded.ports import is_free
from deployments.embedded.state import LOCK, PARTS, Entry, State
from deployments.embedded.together import raise_first, together


@dataclass(frozen=True)
class Status:
    """How one service is.

    `port` is the one it listens on or would listen on, `since` the UTC time of its start (ISO 8601).
    """

    name: str
    state: Literal["running", "stopped", "port taken"]
    port: int | None
    pid: int | None
    url: str
    since: str
    log: Path


def up(names: Iterable[str], state_dir: Path, report: Report = lambda _: None) -> list[Status]:
    """Start services and what they need; those that run already are left alone.

    Args:
        names: the services; none means all.
        state_dir: where everything of theirs is kept.
        report: called with one line for everything worth telling.

    Returns:
        The status of every service.

    Raises:
        UnknownService: no service has one of the names.
        ServiceError: a service could not be started; the others are running.
    """
    services = with_needs(names)
    state = State(state_dir)
    state.prepare()
    with state.lock(report):
        operator = _operator(state, report)
        ports = _ports(services, operator)
        if any(service.kind == "postgres" and service.name in ports for service in services):
            _ = operator.place  # made here, once, and not by several threads
        raise_first(
            together(
                services,
                {service.name: service.needs for service in services},
                lambda service: _ensure(service, ports.get(service.name), operator),
            )
        )
    return status(state_dir)


def down(names: Iterable[str], state_dir: Path, report: Report = lambda _: None) -> list[Status]:
    """Stop services and what needs them; their data stays.

    Args:
        names: the services; none means all.
        state_dir: where everything of theirs is kept.
        report: called with one line for everything worth telling, such as flow runs that end with their worker.

    Returns:
        The status of every service.

    Raises:
        UnknownService: no service has one of the names.
        ServiceError: a service could not be stopped.
    """
    services = with_dependents(names)
    state = State(state_dir)
    if not state.root.is_dir():
        return status(state_dir)
    state.prepare()
    with state.lock(report):
        _stop(services, _operator(state, report))
    return status(state_dir)


def delete(state_dir: Path, report: Report = lambda _: None) -> None:
    """Stop every service and remove all that is kept of them, data and secrets too. What others put there stays.

    Raises:
        ServiceError: a service could not be stopped; nothing was removed.
        OSError: something could not be removed.
    """
    state = State(state_dir)
    if not state.root.is_dir():
        return
    state.prepare()
    with state.lock(report):
        _stop(with_dependents(()), _operator(state, report))
        for part in (outside_directory(state.root), *(state.root / name for name in PARTS)):
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
        (state.root / LOCK).unlink()
    if not any(state.root.iterdir()):
        state.root.rmdir()
    report(f"deleted everything of the services in {state.root}")


def status(state_dir: Path) -> list[Status]:
    """Return how every service is, without touching any."""
    state = State(state_dir)
    entries = state.entries()
    return [_status(service, entries.get(service.name, Entry(service.name)), state) for service in SERVICES.values()]


def services(state_dir: Path) -> dict[str, Entry]:
    """Return what is remembered of every service that was ever started, by name."""
    return State(state_dir).entries()


def _status(service: Service, entry: Entry, state: State) -> Status:
    port = entry.port or service.port
    if entry.process is not None and entry.process.alive():
        return Status(service.name, "running", port, entry.process.pid, entry.url, entry.since, state.log(service.name))
    free = port is None or is_free(port)
    return Status(service.name, "stopped" if free else "port taken", port, None, "", "", state.log(service.name))


def _operator(state: State, report: Report) -> Operator:
    one_at_a_time = threading.Lock()

    def tell(line: str) -> None:  # called from several threads
        with one_at_a_time:
            report(line)

    return Operator(state, tell)


def _ports(services: Iterable[Service], operator: Operator) -> dict[str, int]:
    """Choose the port of each service that is to be started: the remembered one, else the preferred, else the next."""
    chosen: dict[str, int] = {}
    for service in services:
        if operator.state.running(service.name) is not None:
            continue
        operator.end_remains(service)
        port = operator.state.entry(service.name).port or service.port
        if port is not None:
            chosen[service.name] = port if is_free(port) else operator.another_port(service, port, chosen.values())
    return chosen


def _ensure(service: Service, port: int | None, operator: Operator) -> None:
    entry = operator.state.running(service.name)
    if entry is not None:
        if entry.needs == operator.needs(service):
            return
        operator.report(f"{service.name}: started again, because what it needs has moved")
        operator.stop(service)
        port = entry.port
    operator.start(service, port)


def _stop(services: Iterable[Service], operator: Operator) -> None:
    stopped = list(services)
    waits_for = {
        # Workers go first of all: what runs in them uses every other service.
        service.name: [
            other.name
            for other in stopped
            if service.name in other.needs or (other.kind == "worker" and service.kind != "worker")
        ]
        for service in stopped
    }
    raise_first(together(stopped, waits_for, operator.stop))
