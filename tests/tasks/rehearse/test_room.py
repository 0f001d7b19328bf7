"""Room: refused before anything is restored, and said where it is not known."""

from __future__ import annotations

import shutil

import pytest

from tasks.rehearse.prove import prove_and_rehearse
from tasks.rehearse.room import GIB, check_room, free_bytes
from tasks.release.errors import RefusedError
from tests.fix_app import Site
from tests.fix_postgres import PostgresServer
from tests.tasks.rehearse.conftest import Ready, leftovers


def test_room_of_a_server_on_this_machine(staging_site: Site) -> None:
    environment = staging_site.environment
    free = free_bytes(environment.database)
    assert free is not None
    disk = shutil.disk_usage(staging_site.server.home)
    assert abs(free - disk.free) < GIB
    assert check_room(environment, 10 * 2**20) == ()
    with pytest.raises(RefusedError, match=r"needs 20\d\d\d\.\d GiB: 2 copies of 10000\.0 GiB") as caught:
        check_room(environment, 10_000 * GIB)
    assert "scratch_server" in caught.value.hint


def test_a_server_that_does_not_tell(staging_site: Site, postgres: PostgresServer) -> None:
    postgres.create_role("nobody_special")
    environment = staging_site.configure(database={"user": "nobody_special"})
    [finding] = check_room(environment, GIB)
    assert "is not known; about 2.5 GiB are needed" in finding


def test_nothing_is_restored_where_there_is_no_room(staging_site: Site, ready: Ready, told: list[str]) -> None:
    record = ready("v1.1", "v1.0")
    assert record.backup is not None
    huge = record.backup.model_copy(update={"source_bytes": 10_000 * GIB})
    record = staging_site.ledger.update(record.id, lambda one: one.model_copy(update={"backup": huge}))
    with pytest.raises(RefusedError, match="GiB free"):
        prove_and_rehearse(staging_site.environment, record.id, told.append)
    assert not any("restoring" in line for line in told)
    assert leftovers(staging_site) == set()
    assert "GiB free" in staging_site.ledger.load(record.id).stages["verification"].error
