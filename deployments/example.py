"""The example application, installed for one environment as an administrator would have done long ago.

A clone of its repository with an interpreter, an env file, a migrated and seeded database: what the runbook expects to
find. `reset` brings an environment back to a release, for which it empties the example's own database.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psycopg

from deployments.embedded.application import directory_of, pidfile_of, variables
from deployments.embedded.errors import ServiceUnavailable
from deployments.embedded.ports import LOOPBACK
from deployments.embedded.roles import APPLICATION, database_name
from deployments.embedded.state import State, write_whole
from tasks.release.errors import CommandError, RefusedError

HISTORY = Path(__file__).parents[1] / "examples" / "chatbot" / "history.py"
MARK = "the example application's data; `runbook demo` may empty it"  # comment on a database that is ours to empty
TIMEOUT_S = 600
OURS_OR_EMPTY = """
SELECT coalesce(shobj_description(oid, 'pg_database') = %(mark)s, false) OR NOT EXISTS (
    SELECT FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname <> 'information_schema' AND nspname !~ '^pg_')
FROM pg_database WHERE datname = current_database()
"""


class Example:
    """The example application in one environment.

    Args:
        state: Where the services keep their things; the application lies in `apps/<environment>` below it.
        environment: Its name, such as staging.
    """

    def __init__(self, state: State, environment: str) -> None:
        self.state = state
        self.environment = environment
        self.repository = state.root / "apps" / "chatbot.git"
        self.directory = directory_of(state.root, environment)
        self.python = self.directory / ".venv" / "bin" / "python"

    def install(self, release: str) -> None:
        """Build the repository, clone it, and give the clone an interpreter with its requirements; safe to repeat.

        Raises:
            ServiceUnavailable: The example, git or uv is missing.
            CommandError: git or uv failed.
        """
        if not HISTORY.exists():
            raise ServiceUnavailable(
                "the example application is not part of the installed package", hint="run the demo in a checkout"
            )
        self.repository.parent.mkdir(parents=True, exist_ok=True)
        self._run([sys.executable, str(HISTORY), str(self.repository)], Path.cwd())
        if not (self.directory / ".git" / "HEAD").exists():
            self._run(["git", "clone", "--quiet", str(self.repository), str(self.directory)], self.state.root)
            self._run(["git", "checkout", "--quiet", "--detach", release], self.directory)
        if not (self.directory / ".venv" / "installed").exists():
            self._run(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, ".venv"], self.directory)
            packages = ["--python", str(self.python), "-r", "requirements.txt"]
            self._run(["uv", "pip", "install", "--quiet", "--compile-bytecode", *packages], self.directory)
            (self.directory / ".venv" / "installed").touch()

    def configure(self) -> None:
        """Write the env file that the application reads: addresses, and where its secrets lie."""
        self.state.secret(f"app-{self.environment}.django")
        pidfile = pidfile_of(self.state.root, self.environment)
        logs = pidfile.parent
        logs.mkdir(exist_ok=True)
        values = {
            "DATABASE_HOST": LOOPBACK,
            "DATABASE_PORT": self._database_port(),
            "DATABASE_NAME": database_name(self.environment),
            "DATABASE_USER": APPLICATION,
            "DATABASE_PASSWORD_FILE": self.state.secret_file(f"postgres-{self.environment}.{APPLICATION}"),
            "DJANGO_SECRET_KEY_FILE": self.state.secret_file(f"app-{self.environment}.django"),
            "DJANGO_ALLOWED_HOSTS": f"{LOOPBACK},localhost",
            "DJANGO_LOG_FILE": logs / "django.log",
            "PIDFILE": pidfile,
        }
        write_whole(self.directory / ".env", "".join(f"{key}={value}\n" for key, value in values.items()), mode=0o600)

    def reset(self, release: str, size: str, report: Callable[[str], None]) -> None:
        """Bring code and database to a release with fresh data.

        Raises:
            RefusedError: The database holds something that this did not put there.
            CommandError: git or the application failed.
        """
        self._empty()
        self._run(["git", "checkout", "--quiet", "--force", "--detach", release], self.directory)
        report(f"{release}: migrate")
        self.manage("migrate", "--no-input")
        report(f"{release}: seed, {size}")
        self.manage("seed_database", "--size", size)

    def manage(self, *arguments: str) -> str:
        """Run a management command; what it printed."""
        subcommand, *rest = arguments
        command = [str(self.python), "manage.py", subcommand, f"--settings=config.settings.{self.environment}", *rest]
        return self._run(command, self.directory, variables(self.environment))

    def _database_port(self) -> int | None:
        return self.state.entry(f"postgres-{self.environment}").port

    def _empty(self) -> None:
        """Drop the example's tables, if the database is marked as ours or no schema holds anything."""
        password = self.state.secret(f"postgres-{self.environment}.{APPLICATION}")
        name = database_name(self.environment)
        with psycopg.connect(
            host=LOOPBACK,
            port=self._database_port(),
            dbname=name,
            user=APPLICATION,
            password=password,
            application_name="runbook: demo",
            connect_timeout=10,
            options="-c statement_timeout=60s",
        ) as connection:
            ours = connection.execute(OURS_OR_EMPTY, {"mark": MARK}).fetchone() == (True,)
            if not ours:
                raise RefusedError(
                    f"{name} holds data that the demo did not put there; it is left alone",
                    hint="`runbook down --delete` removes it with everything else, once you are sure",
                )
            tables = connection.execute("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
            for (table,) in tables.fetchall():
                connection.execute(f"DROP TABLE public.{table} CASCADE".encode())
            connection.execute(
                psycopg.sql.SQL("COMMENT ON DATABASE {} IS {}").format(psycopg.sql.Identifier(name), MARK)
            )

    def _run(self, command: Sequence[str], directory: Path, variables: Mapping[str, str] | None = None) -> str:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        try:
            done = subprocess.run(
                command,
                cwd=directory,
                env={**(variables or os.environ), "PATH": programs},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise ServiceUnavailable(
                f"there is no {error.filename}", hint="git, and uv (uv sync --extra embedded), have to be installed"
            ) from None
        if done.returncode:
            raise CommandError(Path(command[0]).name, done.returncode, done.stdout)
        return done.stdout
