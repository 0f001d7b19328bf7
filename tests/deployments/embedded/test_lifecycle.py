"""`up`, `down`, `status` and `delete` seen from outside, with one cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deployments.embedded import SERVICES, delete, down, status, up
from deployments.embedded.account import BINARIES_VARIABLE, outside_directory
from deployments.embedded.errors import ServiceUnavailable, UnknownService
from deployments.embedded.processes import Process, boot_id
from tasks.release.errors import ServiceError
from tests.deployments.embedded.conftest import named, processes_of, start_up, wait_until

NAME = "postgres-test"


def connect(state_dir: Path, role: str = "runbook", dbname: str = "chatbot_test") -> psycopg.Connection:
    return psycopg.connect(
        host="127.0.0.1",
        port=named(status(state_dir), NAME).port,
        user=role,
        password=(state_dir / "secrets" / f"{NAME}.{role}").read_text(),
        dbname=dbname,
        application_name="tests",
        connect_timeout=10,
        options="-c statement_timeout=30s",
        autocommit=True,
    )


@pytest.fixture
def foreign_server() -> Iterator[socket.socket]:
    """A server of somebody else on the port that the service prefers (or one that has it already)."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", SERVICES[NAME].port or 0))
        except OSError:
            pytest.skip("the preferred port belongs to another server of this machine")
        listener.listen()
        listener.settimeout(10)
        yield listener


def test_up_twice_is_harmless_and_quick(state_dir: Path) -> None:
    first = named(up([NAME], state_dir), NAME)
    begun = time.monotonic()
    second = named(up([NAME], state_dir), NAME)
    assert first.state == second.state == "running"
    assert (first.pid, first.port, first.since) == (second.pid, second.port, second.since)
    assert time.monotonic() - begun < 3


def test_taken_port_moves_and_is_remembered(state_dir: Path, foreign_server: socket.socket) -> None:
    told: list[str] = []
    taken = foreign_server.getsockname()[1]
    moved = named(up([NAME], state_dir, told.append), NAME)
    assert moved.port not in (None, taken)
    assert moved.port not in {service.port for service in SERVICES.values()}
    assert f"{NAME}: port {taken} is taken by another program; using {moved.port}" in told
    down([NAME], state_dir)
    with socket.create_connection(("127.0.0.1", taken), timeout=5):  # the foreign server still serves
        foreign_server.accept()[0].close()
    assert named(up([NAME], state_dir), NAME).port == moved.port


def test_status_tells_of_a_foreign_server(state_dir: Path, foreign_server: socket.socket) -> None:
    found = named(status(state_dir), NAME)
    assert (found.state, found.pid, found.port) == ("port taken", None, foreign_server.getsockname()[1])


def test_data_survives_down_and_up_and_no_process_is_left(state_dir: Path) -> None:
    up([NAME], state_dir)
    with connect(state_dir, "chatbot") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    session = connect(state_dir)  # an open session does not hold up `down`
    told: list[str] = []
    assert named(down([NAME], state_dir, told.append), NAME).state == "stopped"
    session.close()
    assert told == [f"{NAME}: stopped"]
    assert processes_of(state_dir) == []
    up([NAME], state_dir)
    with connect(state_dir) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)


def test_killed_server_is_started_again(state_dir: Path) -> None:
    before = named(up([NAME], state_dir), NAME)
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    wait_until(lambda: named(status(state_dir), NAME).state != "running")
    after = named(up([NAME], state_dir), NAME)
    assert after.pid != before.pid
    with connect(state_dir) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def kill_with_a_busy_backend(state_dir: Path) -> Process:
    """Kill the server while one of its sessions computes; that session's process, which goes on."""
    server = named(up([NAME], state_dir), NAME)
    assert server.pid is not None
    with connect(state_dir) as connection:
        busy = Process(connection.info.backend_pid, *started(connection.info.backend_pid))
        # pg_sleep would notice the server's end by itself; a computation does not.
        endless = b"SET statement_timeout = 0; SELECT count(*) FROM (SELECT generate_series(1, 1000000000000)) AS n"
        connection.pgconn.send_query(endless)
        wait_until(lambda: is_computing(state_dir, busy.pid))
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: named(status(state_dir), NAME).state != "running")
        assert busy.alive()
        connection.pgconn.finish()
    return busy


def started(pid: int) -> tuple[int, str]:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]), boot_id()


def is_computing(state_dir: Path, pid: int) -> bool:
    with connect(state_dir) as other:
        query = "SELECT state = 'active' AND query LIKE '%%generate_series%%' FROM pg_stat_activity WHERE pid = %s"
        return other.execute(query, [pid]).fetchone() == (True,)


def test_down_ends_the_backends_of_a_killed_server(state_dir: Path) -> None:
    busy = kill_with_a_busy_backend(state_dir)
    down([NAME], state_dir)
    assert not busy.alive()


def test_up_ends_the_backends_of_a_killed_server(state_dir: Path) -> None:
    busy = kill_with_a_busy_backend(state_dir)
    assert named(up([NAME], state_dir), NAME).state == "running"
    assert not busy.alive()


def test_only_a_start_needs_the_programs_of_postgresql(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up([NAME], state_dir)
    monkeypatch.setenv(BINARIES_VARIABLE, "/gone")
    assert named(up([NAME], state_dir), NAME).state == "running"  # left alone
    assert named(down([NAME], state_dir), NAME).state == "stopped"
    with pytest.raises(ServiceUnavailable, match="/gone holds no PostgreSQL server"):
        up([NAME], state_dir)
    delete(state_dir)
    assert not state_dir.exists()


def test_a_state_directory_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for work in (status, lambda path: down([], path), lambda path: up([NAME], path)):
        with pytest.raises(ServiceError, match=f"{tmp_path / 'file'}, which belongs to {(tmp_path / 'file').owner()}"):
            work(tmp_path / "file")


def test_a_state_directory_of_another_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: Path) -> str:  # root, who may run this, is never refused
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(ServiceError, match=f"{tmp_path}, which belongs to {tmp_path.owner()}") as caught:
        status(tmp_path)
    assert "RUNBOOK_STATE" in caught.value.hint


def test_recycled_process_id_is_not_ours(state_dir: Path) -> None:
    up([NAME], state_dir)
    down([NAME], state_dir)
    stranger = subprocess.Popen(["sleep", "300"])
    try:
        forged = {"pid": stranger.pid, "started": 1, "boot": boot_id()}
        services = json.loads((state_dir / "services.json").read_text())
        services["services"][NAME]["process"] = forged
        (state_dir / "services.json").write_text(json.dumps(services))
        (state_dir / "pids" / NAME).write_text(json.dumps(forged))
        data = next(state_dir.parent.glob(".runbook/clusters"), outside_directory(state_dir) / "clusters")
        lock = data / NAME / "data" / "postmaster.pid"
        lock.write_text(f"{stranger.pid}\n{lock.parent}\n1\n1\n\n127.0.0.1\n")

        assert named(status(state_dir), NAME).state == "stopped"
        down([NAME], state_dir)
        assert named(up([NAME], state_dir), NAME).state == "running"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_up_is_repaired(state_dir: Path, how: signal.Signals) -> None:
    first = start_up(state_dir, NAME)
    wait_until(lambda: (state_dir / "pids" / NAME).exists() or first.poll() is not None)
    first.send_signal(how)
    first.communicate()
    assert named(up([NAME], state_dir), NAME).state == "running"
    servers = [line for line in processes_of(state_dir) if "-D " in line]
    assert len(servers) == 1


def test_up_interrupted_in_initdb_is_repaired(state_dir: Path) -> None:
    first = start_up(state_dir, NAME)
    places = (state_dir / "clusters", outside_directory(state_dir) / "clusters")
    wait_until(lambda: any((place / NAME / "data.new").exists() for place in places) or first.poll() is not None)
    first.kill()
    first.communicate()
    assert named(up([NAME], state_dir), NAME).state == "running"
    assert not any((place / NAME / name).exists() for place in places for name in ("data.new", "password.new"))


def test_two_ups_at_once_start_one_server(state_dir: Path) -> None:
    both = [start_up(state_dir, NAME), start_up(state_dir, NAME)]
    for one in both:
        output, _ = one.communicate(timeout=120)
        assert one.returncode == 0, output
    assert len([line for line in processes_of(state_dir) if "-D " in line]) == 1


def test_secrets_are_in_their_files_only(state_dir: Path) -> None:
    up([NAME], state_dir)
    files = list((state_dir / "secrets").iterdir())
    assert {file.name for file in files} == {f"{NAME}.{role}" for role in ("postgres", "chatbot", "runbook")}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    secrets = [file.read_text() for file in files]
    assert len(set(secrets)) == 3
    processes = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    kept = "".join(file.read_text() for file in [*(state_dir / "logs").iterdir(), state_dir / "services.json"])
    assert not [secret for secret in secrets if secret in processes + kept]


def test_delete_removes_ours_and_nothing_else(state_dir: Path) -> None:
    up([NAME], state_dir)
    (state_dir / "mine.txt").write_text("a person's")
    delete(state_dir)
    assert [path.name for path in state_dir.iterdir()] == ["mine.txt"]
    assert not outside_directory(state_dir).exists()
    assert processes_of(state_dir) == []


def test_unknown_service_is_refused(state_dir: Path) -> None:
    with pytest.raises(UnknownService, match="'postgres-tset'") as caught:
        up(["postgres-tset"], state_dir)
    assert NAME in caught.value.hint
    assert not state_dir.exists()
