"""Limits of a migration's session: given through libpq, and checked where they count, on the server."""

from __future__ import annotations

from tasks.release.environment import Environment
from tasks.release.errors import RefusedError
from tasks.release.plan import Reached


def limits(environment: Environment, name: str, lock_timeout_s: float | None = None) -> dict[str, str]:
    """Variables that give limits to every statement of the application's own connection, RunSQL and RunPython included.

    client_connection_check_interval lets the server notice within 2 s that a killed `migrate` is gone.

    Args:
        environment: Its limits.
        name: The application_name.
        lock_timeout_s: In seconds; none: the environment's.
    """
    migrate = environment.migrate
    options = {
        "lock_timeout": f"{round((lock_timeout_s or migrate.lock_timeout_s) * 1000)}ms",
        "statement_timeout": f"{round(migrate.statement_timeout_s * 1000)}ms",
        "client_connection_check_interval": "2s",
    }
    # Behind the application's own, of which the last of two equal settings counts: search_path and the like stay.
    app = environment.app
    secret = app.secrets.get("PGOPTIONS")
    own = secret.get_secret_value() if secret else app.variables.get("PGOPTIONS")
    return {
        "PGAPPNAME": name,
        "PGOPTIONS": " ".join([*filter(None, [own]), *(f"-c {key}={value}" for key, value in options.items())]),
    }


def check_limits(environment: Environment, reached: Reached) -> None:
    """Refuse when the limits of the environment did not reach the application's session.

    Raises:
        RefusedError: The session has other limits: its settings override what libpq was told.
    """
    migrate = environment.migrate
    wanted = (round(migrate.lock_timeout_s * 1000), round(migrate.statement_timeout_s * 1000))
    found = (reached.lock_timeout_ms, reached.statement_timeout_ms)
    if found != wanted:
        raise RefusedError(
            f"the application's session has lock_timeout {found[0]} ms and statement_timeout {found[1]} ms"
            f" instead of {wanted[0]} and {wanted[1]}: a migration could stall everybody",
            hint="its settings override PGOPTIONS: move `options` of DATABASES[...]['OPTIONS'] to PGOPTIONS in"
            " [app] variables, and take a pooler out of its way",
        )
