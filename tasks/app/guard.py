"""The identity guard: `diffsettings | grep DATABASE`, done properly.

What counts is not what the settings say but which database their connection reaches: compared by the server's system
identifier and the database's oid with the one that is configured, and with the one that was backed up.
"""

from __future__ import annotations

from tasks.database.connection import connect, name_of
from tasks.database.identity import identify
from tasks.release.backup import DatabaseIdentity
from tasks.release.environment import Environment
from tasks.release.errors import WrongDatabaseError
from tasks.release.plan import Reached


def check_identity(environment: Environment, reached: Reached, backed_up: DatabaseIdentity | None = None) -> None:
    """Refuse when the application reaches another database than it should.

    Args:
        environment: Names the database that is meant.
        reached: What the application's own connection reported.
        backed_up: The database that the release's backup was made of.

    Raises:
        WrongDatabaseError: They are not one and the same.
    """
    if reached.vendor != "postgresql":
        raise WrongDatabaseError(
            f"the application's {environment.app.database_alias!r} database is {reached.vendor}, not PostgreSQL",
            hint=f"does [app] settings = {environment.app.settings!r} name the right settings?",
        )
    with connect(environment.database, "identity guard") as connection:
        configured = identify(connection)
    app = DatabaseIdentity(
        system_identifier=reached.system_identifier,
        oid=reached.database_oid,
        name=reached.database,
        server_version=reached.server_version_num,
    )
    _same(app, configured, f"[database] of {environment.name} ({name_of(environment.database)})")
    expected = environment.database.system_identifier
    if expected and configured.system_identifier != expected:
        raise WrongDatabaseError(
            f"{name_of(environment.database)} is on server {configured.system_identifier}, not on {expected}",
            hint="[database] system_identifier names the server that is meant",
        )
    if backed_up:
        _same(app, backed_up, "the database that was backed up")


def _same(app: DatabaseIdentity, other: DatabaseIdentity, what: str) -> None:
    # An identifier that the server would not tell cannot refute; name and oid must then agree.
    tells = app.system_identifier is not None and other.system_identifier is not None
    same_server = app.system_identifier == other.system_identifier if tells else app.name == other.name
    if not same_server or app.oid != other.oid:
        raise WrongDatabaseError(
            f"the application reaches {_described(app)}, which is not {what}: {_described(other)}",
            hint="compare the application's DATABASES with the environment file; nothing was migrated",
        )


def _described(identity: DatabaseIdentity) -> str:
    server = identity.system_identifier or "unknown"
    return f"database {identity.name} (oid {identity.oid}) of server {server}"
