"""The example application, ready to be released: its history, an interpreter, and `staging_site`, a place it serves at.

A site stands at v1.0 with a little data in a database of its own and an environment file that names it all, as the
runbook finds a place in the field. Every test gets a fresh one and may do to it what it likes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import tomli_w
import uv
from psycopg import sql

from deployments.embedded.ports import LOOPBACK, any_free
from examples.chatbot.history import build_history
from tasks.app.command import Checkout
from tasks.release.environment import Environment, parse
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger
from tests.fix_postgres import PostgresServer
from tests.fix_s3 import S3Server

APPLICATION = "chatbot"  # owns the application's database
OPERATOR = "runbook"  # what the runbook works as
FIRST = "v1.0"
DEADLINE_S = 30
_numbers = itertools.count(1)
_GIT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{role}_{key}": "team@example.com" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")},
}


def git(directory: Path, *arguments: str) -> str:
    """Run git without the settings of this user and machine; what it printed."""
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, env=_GIT, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@dataclass
class Site:
    """A place that the example application is deployed to.

    `directory` holds the environment file `<name>.toml` (for RUNBOOK_ENVIRONMENTS), `repository` is the remote,
    `app` the checkout that serves.
    """

    name: str
    directory: Path
    repository: Path
    app: Path
    python: Path
    port: int
    server: PostgresServer
    database: str
    service: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def file(self) -> Path:
        return self.directory / f"{self.name}.toml"

    @property
    def environment(self) -> Environment:
        """The environment as its file says now."""
        return parse(tomllib.loads(self.file.read_text(encoding="utf-8")), self.file)

    @property
    def ledger(self) -> Ledger:
        return Ledger(Bucket(self.environment.storage), self.name)

    @property
    def checkout(self) -> Checkout:
        return Checkout(self.app, self.python, git(self.app, "rev-parse", "HEAD"))

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def configure(self, **sections: Any) -> Environment:
        """Change the environment file: tables are merged, other values replaced."""
        content = _merged(tomllib.loads(self.file.read_text(encoding="utf-8")), sections)
        self.file.write_text(tomli_w.dumps(content), encoding="utf-8")
        return self.environment

    def commit_of(self, ref: str) -> str:
        return git(self.repository, "rev-parse", f"{ref}^{{commit}}")

    def fetch(self) -> None:
        """Let the serving checkout know what was published."""
        git(self.app, "fetch", "--quiet", "--tags", "--force", "origin")

    def check_out(self, ref: str) -> str:
        """Make the serving checkout that of a ref, as somebody by hand would; its commit."""
        self.fetch()
        git(self.app, "checkout", "--quiet", "--detach", self.commit_of(ref))
        return self.commit_of(ref)

    def publish(self, files: Mapping[str, str], *, on: str = FIRST, branch: str = "develop", tag: str = "") -> str:
        """Push a commit with changed files; it stands on a ref and becomes the branch's tip. Returns its hash."""
        desk = self.app.with_name(f"desk-{next(_numbers)}")
        git(self.repository, "worktree", "add", "--quiet", "--detach", str(desk), on)
        for path, text in files.items():
            file = desk / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        git(desk, "add", "--all")
        git(desk, "commit", "--quiet", "--message", tag or "a change")
        commit = git(desk, "rev-parse", "HEAD")
        git(self.repository, "update-ref", f"refs/heads/{branch}", commit)
        if tag:
            git(self.repository, "tag", tag, commit)
        return commit

    def psql(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows that a query gives to the superuser; what it changes is committed."""
        with psycopg.connect(self.server.dsn(self.database), autocommit=True) as connection:
            cursor = connection.execute(query.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def manage(self, *arguments: str) -> str:
        """Run a management command in the serving checkout, as an administrator would."""
        subcommand, *rest = arguments
        return _manage(self.python, self.app, subcommand, "--settings=config.settings.staging", *rest)

    def applied(self) -> set[str]:
        """The applied migrations of the application itself, as `app.name`."""
        rows = self.psql("SELECT app, name FROM django_migrations WHERE app IN ('documents', 'conversations')")
        return {f"{app}.{name}" for app, name in rows}

    def start_service(self) -> None:
        """Serve what is checked out by gunicorn, and wait until it answers."""
        log = self.app.with_name(f"{self.app.name}-gunicorn.log")
        with log.open("ab") as output:
            self.service = subprocess.Popen(
                [self.python.with_name("gunicorn"), "-c", "config/gunicorn.py"],
                cwd=self.app,
                env=_application_variables() | {"DJANGO_SETTINGS_MODULE": "config.settings.staging", "WORKERS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            assert self.service.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def wait_for_release(self, commit: str) -> None:
        """Wait until the service runs the code of a commit."""
        deadline = time.monotonic() + DEADLINE_S
        serving = None
        while serving != commit:
            assert time.monotonic() < deadline, f"{serving} serves instead of {commit}"
            with contextlib.suppress(httpx.HTTPError):
                serving = httpx.get(f"{self.url}/api/health", timeout=2, trust_env=False).json().get("release")
            time.sleep(0.05)

    def stop_service(self) -> None:
        """End the service and whatever it started."""
        if self.service is None:
            return
        self.service.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.service.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.service.pid, signal.SIGKILL)
        self.service.wait(5)
        self.service = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


@pytest.fixture(scope="session")
def chatbot_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository of the example application with all its releases; not to be changed."""
    repository = tmp_path_factory.mktemp("chatbot-history") / "repository"
    build_history(repository)
    return repository


@pytest.fixture(scope="session")
def chatbot_python(chatbot_history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with what the example application and its tests require; not to be changed."""
    home = tmp_path_factory.mktemp("chatbot-python") / "venv"
    python = home / "bin" / "python"
    program = uv.find_uv_bin()
    subprocess.run([program, "venv", "-q", "--python", sys.executable, home], check=True, timeout=100)
    packages = ["--compile-bytecode", "-r", str(chatbot_history / "requirements-dev.txt")]
    subprocess.run([program, "pip", "install", "-q", "--python", python, *packages], check=True, timeout=100)
    return python


@pytest.fixture(scope="session")
def chatbot_template(
    chatbot_history: Path, chatbot_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[PostgresServer], str]:
    """Return a function from a server to the name of a database on it that sites are copies of.

    It has v1.0's schema and a thousand documents, and is made once per server.
    """
    made: dict[int, str] = {}

    def template(server: PostgresServer) -> str:
        if server.port not in made:
            server.create_role(APPLICATION)
            server.create_role(OPERATOR, createdb=True)
            server.execute(f"GRANT {APPLICATION}, pg_read_all_data, pg_monitor, pg_signal_backend TO {OPERATOR}")
            name = server.create_database(APPLICATION)
            home = tmp_path_factory.mktemp("chatbot-template")
            git(home, "clone", "--quiet", "--branch", FIRST, str(chatbot_history), "app")
            _write_env_file(home / "app", server, name, port=0)
            settings = "--settings=config.settings.staging"
            _manage(chatbot_python, home / "app", "migrate", settings, "--no-input")
            _manage(chatbot_python, home / "app", "seed_database", settings, "--size", "small")
            made[server.port] = name
        return made[server.port]

    return template


@pytest.fixture(scope="session")
def sites_bucket(s3: S3Server) -> str:
    """A bucket that all sites share; each has a prefix of its own."""
    return s3.create_bucket()


@dataclass(frozen=True)
class Kit:
    """What sites are made of."""

    postgres: PostgresServer
    s3: S3Server
    bucket: str
    history: Path
    python: Path
    template: Callable[[PostgresServer], str]

    @contextlib.contextmanager
    def site(self, name: str, home: Path, repository: Path) -> Iterator[Site]:
        """A fresh site at v1.0, of the kind of its name, with its environment file in `home`/environments."""
        number = next(_numbers)
        app, directory = home / name, home / "environments"
        git(home, "clone", "--quiet", str(repository), str(app))
        git(app, "checkout", "--quiet", "--detach", FIRST)
        database = f"chatbot_{number}_{secrets.token_hex(3)}"
        self.postgres.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                sql.Identifier(database), sql.Identifier(self.template(self.postgres)), sql.Identifier(APPLICATION)
            )
        )
        [port] = any_free(1)
        _write_env_file(app, self.postgres, database, port)
        directory.mkdir(exist_ok=True)
        site = Site(name, directory, repository, app, self.python, port, self.postgres, database)
        site.file.write_text(tomli_w.dumps(_content(site, self.s3, self.bucket, f"site-{number}")), encoding="utf-8")
        try:
            yield site
        finally:
            site.stop_service()
            self.postgres.drop_database(database)


@pytest.fixture
def kit(
    postgres: PostgresServer,
    s3: S3Server,
    sites_bucket: str,
    chatbot_history: Path,
    chatbot_python: Path,
    chatbot_template: Callable[[PostgresServer], str],
) -> Kit:
    return Kit(postgres, s3, sites_bucket, chatbot_history, chatbot_python, chatbot_template)


@pytest.fixture
def chatbot_repository(kit: Kit, tmp_path: Path) -> Path:
    """A remote with all releases of the example; a test may publish to it."""
    git(tmp_path, "clone", "--quiet", "--bare", str(kit.history), str(tmp_path / "chatbot.git"))
    return tmp_path / "chatbot.git"


@pytest.fixture
def staging_site(kit: Kit, tmp_path: Path, chatbot_repository: Path) -> Iterator[Site]:
    """A fresh site at v1.0; its service is not started."""
    with kit.site("staging", tmp_path, chatbot_repository) as site:
        yield site


@pytest.fixture
def production_site(kit: Kit, tmp_path: Path, chatbot_repository: Path) -> Iterator[Site]:
    """A production that serves v1.0; with `staging_site` in one test, it asks that one for evidence."""
    with kit.site("production", tmp_path, chatbot_repository) as site:
        site.start_service()
        yield site


@pytest.fixture
def served_site(staging_site: Site) -> Site:
    """A fresh site at v1.0 that serves."""
    staging_site.start_service()
    return staging_site


def _content(site: Site, s3: S3Server, bucket: str, prefix: str) -> dict[str, Any]:
    secrets_given = {"postgres": site.server.password, "s3.access": s3.access_key, "s3.secret": s3.secret_key}
    for name, secret in secrets_given.items():
        (site.directory / name).write_text(secret, encoding="utf-8")
    program = uv.find_uv_bin()
    return {
        "name": site.name,
        "kind": site.name,
        "app": {
            "directory": str(site.app),
            "python": str(site.python),
            "settings": "config.settings.staging",
            "variables": {"CHATBOT_ENV_FILE": ".env"},
            "branch": "develop",
            "install": [program, "pip", "install", "--quiet", "--python", "{python}", "-r", "requirements.txt"],
            "venv": [program, "venv", "--quiet", "--python", sys.executable, "{directory}"],
            "reload": ["{python}", "config/reload.py"],
            "untracked": [".env"],
        },
        "database": {
            "host": site.server.host,
            "port": site.server.port,
            "name": site.database,
            "user": OPERATOR,
            "password": {"file": "postgres"},
        },
        "storage": {
            "endpoint": s3.endpoint,
            "bucket": bucket,
            "prefix": prefix,
            "access_key": {"file": "s3.access"},
            "secret_key": {"file": "s3.secret"},
        },
        "smoke": {
            "base_url": site.url,
            "endpoints": [
                {"path": "/api/health", "json_equals": {"status": "ok", "database": "ok", "release": "{commit}"}},
                {"path": "/api/documents", "json_has": ["documents"]},
            ],
        },
        "monitor": {"watch_s": 0},  # a test that watches says so
        "maintenance": {"flag_file": str(site.app / ".env"), "check_path": "/api/documents"},
    }


def _write_env_file(app: Path, server: PostgresServer, database: str, port: int) -> None:
    password = app.with_name("postgres-password")
    password.write_text(server.password, encoding="utf-8")
    values = {
        "DATABASE_HOST": server.host,
        "DATABASE_PORT": server.port,
        "DATABASE_NAME": database,
        "DATABASE_USER": APPLICATION,
        "DATABASE_PASSWORD_FILE": password,
        "DJANGO_SECRET_KEY": "not a secret",
        "DJANGO_ALLOWED_HOSTS": f"{LOOPBACK},localhost",
        "DJANGO_LOG_FILE": app.with_name(f"{app.name}-django.log"),
        "BIND": f"{LOOPBACK}:{port}",
        "PIDFILE": app.with_name(f"{app.name}-gunicorn.pid"),
    }
    (app / ".env").write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")


def _application_variables() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTHON", "VIRTUAL"))}
    return inherited | {"CHATBOT_ENV_FILE": ".env", "PYTHONDONTWRITEBYTECODE": "1"}


def _manage(python: Path, directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [python, "manage.py", *arguments],
        cwd=directory,
        env=_application_variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged
