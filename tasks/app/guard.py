"""Guards: is it the code, and is it the database, that is meant?

The second is `diffsettings | grep DATABASE`, done properly.
What counts is not what the settings say but which database their connection reaches: compared by the server's system
identifier and the database's oid with the one that is configured, and with the one that was backed up. A physical copy
(a snapshot, pg_basebackup) keeps both; the moment that the server was started tells it apart.
"""

from __future__ import annotations

from tasks.app.candidate import serving
from tasks.app.command import Checkout
from tasks.database.connection import connect, name_of
from tasks.database.identity import identify, same_database, server_started
from tasks.release.backup import DatabaseIdentity
from tasks.release.environment import Environment
from tasks.release.errors import CodeError, WrongDatabaseError
from tasks.release.plan import Reached

HINT = "compare the application's DATABASES with the environment file; nothing was migrated"


def serving_at(environment: Environment, commit: str) -> Checkout:
    """The checkout that serves, which must be at a commit.

    Raises:
        CodeError: It is at another one, or there is none.
    """
    checkout = serving(environment)
    if checkout.commit != commit:
        raise CodeError(
            f"{checkout.directory} is at {checkout.commit[:12]}, the release is {commit[:12]}",
            hint=f"somebody changed the checkout: `git checkout {commit[:12]}` there, then run the release again",
        )
    return checkout


def check_identity(environment: Environment, reached: Reached, backed_up: DatabaseIdentity | None = None) -> None:
    """Refuse when the application reaches another database than it should.

    Args:
        environment: Names the database that is meant.
        reached: What the application's own connection reported.
        backed_up: The database that the release's backup was made of.

    Raises:
        WrongDatabaseError: They are not one and the same.
    """
    with connect(environment.database, "identity guard") as connection:
        configured = identify(connection)
        started = server_started(connection)
    app = DatabaseIdentity(
        system_identifier=reached.system_identifier,
        oid=reached.database_oid,
        name=reached.database,
        server_version=reached.server_version_num,
    )
    what = f"[database] of {environment.name} ({name_of(environment.database)})"
    _same(app, configured, what)
    if reached.server_started != started:
        raise WrongDatabaseError(
            f"the application reaches {_described(app)}, which is a physical copy of {what}: same identifier, another"
            " server",
            hint=f"{HINT}; or the server was restarted just now: then run this again",
        )
    expected = environment.database.system_identifier
    if expected and configured.system_identifier != expected:
        raise WrongDatabaseError(
            f"{name_of(environment.database)} is on server {configured.system_identifier}, not on {expected}",
            hint="[database] system_identifier names the server that is meant",
        )
    if backed_up:
        _same(app, backed_up, "the database that was backed up")


def _same(app: DatabaseIdentity, other: DatabaseIdentity, what: str) -> None:
    if not same_database(app, other):
        raise WrongDatabaseError(
            f"the application reaches {_described(app)}, which is not {what}: {_described(other)}", hint=HINT
        )


def _described(identity: DatabaseIdentity) -> str:
    server = identity.system_identifier or "unknown"
    return f"database {identity.name} (oid {identity.oid}) of server {server}"
