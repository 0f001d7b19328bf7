"""Start and stop one service of any kind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from deployments.embedded import application, prefect_server, roles
from deployments.embedded.account import Place, outside_directory, prepare_place, server_account
from deployments.embedded.catalogue import BUCKET, SERVICES, Service
from deployments.embedded.cluster import SUPERUSER, Cluster, end_backends, stop_server
from deployments.embedded.errors import ServiceNotStarted, ServiceUnavailable
from deployments.embedded.ports import LOOPBACK, any_free, is_free, next_free
from deployments.embedded.processes import Process, end_marked, stop_daemon
from deployments.embedded.state import Entry, State
from deployments.embedded.storage import INTERNAL_PORTS, Storage, forget_sockets

_ATTEMPTS = 5  # a port can be taken by another program between our look and our server's start
Report = Callable[[str], None]


@dataclass(frozen=True)
class Operator:
    """Starts and stops services of one state directory."""

    state: State
    report: Report

    @cached_property
    def place(self) -> Place:
        """Where PostgreSQL's clusters live, with its programs: looked for by a start only, which alone needs them.

        Raises:
            ServiceUnavailable: the programs are missing, or cannot be run.
        """
        return prepare_place(self.state.root, server_account())

    def start(self, service: Service, port: int | None) -> None:
        """Start a service, on this port or a later free one, and remember it.

        Raises:
            ServiceNotStarted: it ended or did not answer in time.
            ServiceUnavailable: something it needs is missing.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                entry = self._started(service, port)
            except ServiceNotStarted as error:
                if not error.port_taken or port is None or attempt == _ATTEMPTS:
                    raise
                if not is_free(port):
                    port = self.another_port(service, port)
            else:
                self.state.remember(entry)
                self.report(f"{service.name}: {entry.url or 'runs'}")
                return

    def another_port(self, service: Service, taken: int, chosen: Collection[int] = ()) -> int:
        """Return the next free port after one that a foreign program has, and say so.

        Ports that other services prefer, remember or have just been given (`chosen`) are left to them.
        """
        remembered = {entry.port for entry in self.state.entries().values() if entry.port}
        preferred = {other.port for other in SERVICES.values() if other.port}
        port = next_free(taken + 1, avoid={*remembered, *preferred, *chosen})
        self.report(f"{service.name}: port {taken} is taken by another program; using {port}")
        return port

    def stop(self, service: Service) -> None:
        """Stop a service and whatever it started; nothing of ours is left behind, and its data stays."""
        entry = self.state.entry(service.name)
        process = entry.process
        if process is not None and process.alive():
            if not self._stop(service, entry, process):
                self.report(f"{service.name}: did not end when asked, was ended by force")
            else:
                self.report(f"{service.name}: stopped")
        self.end_remains(service)
        end_marked(self.state.root, service.name)
        server = self.state.running("prefect") if service.kind == "worker" else None
        if server is not None and server.port is not None:
            prefect_server.end_runs(server.port, service.subject)
        forget_sockets(entry.internal_ports)
        self.state.forget_process(service.name)

    def end_remains(self, service: Service) -> None:
        """End what a start that was interrupted, or a server that was killed, left running.

        Flow runs of a killed worker are no remains: they finish by themselves.
        """
        stray = self.state.stray(service.name)
        if stray is not None:
            stop_daemon(stray, how=signal.SIGINT if service.kind == "postgres" else signal.SIGTERM, timeout_s=10)
        if service.kind != "worker":
            end_marked(self.state.root, service.name)
        if service.kind == "postgres":
            for home in (self.state.root, outside_directory(self.state.root)):
                end_backends(home / "clusters" / service.name / "data")

    def _started(self, service: Service, port: int | None) -> Entry:
        files = self.state.files(service.name)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Entry(service.name, port=port, since=since, needs=self.needs(service))
        if service.kind == "worker":
            server = self._port_of("prefect")
            process = prefect_server.start_worker(
                service.name, service.subject, server, self.state.root, self._prefect_home(), files
            )
            return replace(entry, process=process)
        if port is None:
            raise ServiceUnavailable(f"{service.name} has no port", hint="the catalogue must name one")
        if service.kind == "app":
            process = application.start(service.name, service.subject, self.state.root, port, files)
            return replace(entry, process=process, url=f"http://{LOOPBACK}:{port}")
        if service.kind == "postgres":
            return replace(
                entry,
                process=self._start_cluster(service, port),
                url=f"postgresql://{LOOPBACK}:{port}",
            )
        if service.kind == "s3":
            internal = tuple(any_free(INTERNAL_PORTS))
            storage = self._storage()
            process = storage.start(port, internal, files)
            storage.create_bucket(port, BUCKET)
            return replace(entry, process=process, internal_ports=internal, url=f"http://{LOOPBACK}:{port}")
        password = self.state.secret(f"postgres-prefect.{roles.PREFECT}")
        database = self._port_of("postgres-prefect")
        url = f"postgresql+asyncpg://{roles.PREFECT}:{password}@{LOOPBACK}:{database}/{roles.PREFECT}"
        process = prefect_server.start_prefect(service.name, port, url, self._prefect_home(), files)
        return replace(entry, process=process, url=f"http://{LOOPBACK}:{port}")

    def needs(self, service: Service) -> tuple[str, ...]:
        """Return the addresses of the services that a service relies on; it is started again when they change."""
        return tuple(self.state.entry(name).url for name in service.needs)

    def _start_cluster(self, service: Service, port: int) -> Process:
        cluster = self._cluster(service)
        secret_names = (
            (SUPERUSER, roles.PREFECT)
            if service.subject == "prefect"
            else (SUPERUSER, roles.APPLICATION, roles.OPERATOR)
        )
        if cluster.data.is_dir() and not self.state.secret_file(f"{service.name}.{SUPERUSER}").exists():
            raise ServiceUnavailable(
                f"{service.name} has data in {cluster.data}, but its superuser's password is gone",
                hint=f"put {self.state.secret_file(f'{service.name}.{SUPERUSER}')} back, or delete that data",
            )
        passwords = {role: self.state.secret(f"{service.name}.{role}") for role in secret_names}
        files = self.state.files(service.name)
        cluster.create(passwords[SUPERUSER], files.marks)
        process = cluster.start(port, files)
        if service.subject == "prefect":
            roles.prepare_prefect(port, passwords)
        else:
            roles.prepare_environment(port, service.subject, passwords)
        return process

    def _stop(self, service: Service, entry: Entry, process: Process) -> bool:
        if service.kind == "postgres":
            return stop_server(process)
        if service.kind == "s3":
            return self._storage().stop(process, entry.internal_ports)
        if service.kind == "app":
            return application.stop(process)
        if service.kind == "prefect":
            return prefect_server.stop_prefect(process)
        running = self._runs_of(service)
        if running:
            self.report(f"{service.name}: {len(running)} running flow run(s) end with it: {', '.join(running)}")
        return prefect_server.stop_worker(process)

    def _runs_of(self, service: Service) -> list[str]:
        server = self.state.running("prefect")
        if server is None or server.port is None:
            return []
        return prefect_server.running_runs(server.port, service.subject)

    def _cluster(self, service: Service) -> Cluster:
        return Cluster(service.name, self.place.clusters / service.name, self.place.bin, self.place.account)

    def _storage(self) -> Storage:
        directory = self.state.root / "s3"
        return Storage("s3", directory, self.state.secret("s3.access-key"), self.state.secret("s3.secret-key"))

    def _prefect_home(self) -> Path:
        return self.state.root / "prefect"

    def _port_of(self, name: str) -> int:
        entry = self.state.running(name)
        if entry is None or entry.port is None:
            raise ServiceNotStarted(name, "it has ended again", hint=f"its log is {self.state.log(name)}")
        return entry.port
