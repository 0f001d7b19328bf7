"""Is there room: the restored copy and the one that the application works on, before anything is restored."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg

from tasks.backup.scratch import server_of
from tasks.database.connection import connect, explained, name_of
from tasks.release.environment import Database, Environment
from tasks.release.errors import RefusedError
from tasks.release.prefect_api import is_loopback

COPIES = 2  # the restored one, which stays as it is, and the one that is migrated
SPARE_BYTES = 512 * 2**20  # write-ahead log, sorting, and what migrations rewrite of a small database
GIB = 2**30


def check_room(environment: Environment, source_bytes: int) -> tuple[str, ...]:
    """Refuse when the server of restores has too little room.

    Args:
        environment: Names the server.
        source_bytes: The size of the database that was backed up.

    Returns:
        A sentence where the free space is not known: the server is on another machine, or does not tell.

    Raises:
        RefusedError: The disk would not suffice; nothing was restored.
        DatabaseError: The server cannot be reached.
    """
    server = server_of(environment)
    needed = COPIES * source_bytes + SPARE_BYTES
    free = free_bytes(server)
    if free is None:
        return (f"the free space of {server.host}:{server.port} is not known; about {needed / GIB:.1f} GiB are needed",)
    if free < needed:
        raise RefusedError(
            f"{name_of(server, server.maintenance_database)} has {free / GIB:.1f} GiB free on disk; a rehearsal on a"
            f" restored backup needs {needed / GIB:.1f} GiB: {COPIES} copies of {source_bytes / GIB:.1f} GiB and some",
            hint="make room there, or name another server in backup.scratch_server",
        )
    return ()


def free_bytes(server: Database) -> int | None:
    """What the disk of a server has free for it; None: it is on another machine, or its place is not told."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    if not (server.host.startswith("/") or is_loopback(f"http://{host}")):
        return None
    with connect(server, "rehearsal: room", dbname=server.maintenance_database) as connection:
        try:
            # Only pg_monitor and superusers are told; for others the row is missing.
            row = connection.execute("select setting from pg_settings where name = 'data_directory'").fetchone()
        except psycopg.Error as error:
            raise explained(error, "cannot ask for the server's directory") from None
    if not row:
        return None
    directory = Path(row[0])
    for reachable in (directory, *directory.parents):
        try:
            disk = os.statvfs(reachable)
        except PermissionError:  # another user's: what is above it is on the same disk
            continue
        except OSError:  # not on this machine: a container, or the other end of a tunnel
            return None
        return disk.f_bavail * disk.f_frsize
    return None
