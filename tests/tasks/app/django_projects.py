"""Throw-away Django projects written into a test's directory, and interpreters with Django of several versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uv

from tasks.app.probing import understood
from tests.fix_postgres import PostgresServer

PROBE = Path(__file__).parents[3] / "tasks" / "app" / "probe.py"
# Version: Python (None: the one that runs the tests), packages. The ends of the range want Pythons of their own.
DJANGO: dict[str, tuple[str | None, str, str]] = {
    "oldest": ("3.6", "Django~=3.2.0", "psycopg2-binary"),
    "3.2": (None, "Django~=3.2.0", "psycopg2-binary"),
    "4.2": (None, "Django~=4.2.0", "psycopg[binary]"),
    "5.2": (None, "Django~=5.2.0", "psycopg[binary]"),
    "newest": (">=3.12", "Django~=6.0.0", "psycopg[binary]"),
}
START = f"import runpy; runpy.run_path({str(PROBE)!r}, run_name='__main__')"

SETTINGS = """
import os, sys
print("noise while the settings are imported")
print("noise on the error stream", file=sys.stderr)
SECRET_KEY = "not a secret"
INSTALLED_APPS = [{apps}]
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.postgresql", "NAME": "{name}", "USER": "{user}", "PASSWORD": "{password}",
    "HOST": "{host}", "PORT": {port}, "OPTIONS": {{"options": "-c lock_timeout=1500", "application_name": "shop web"}},
}}}}
DATABASES["other"] = dict(DATABASES["default"])
DATABASE_ROUTERS = {routers}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""

MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
print("noise from the management command")
execute_from_command_line(sys.argv)
"""


@dataclass
class Project:
    """A Django project in a directory of its own, with the interpreter that runs it."""

    home: Path
    python: Path
    server: PostgresServer
    database: str
    apps: list[str] = field(default_factory=list)
    routers: list[str] = field(default_factory=list)

    def write(self, path: str, text: str) -> Path:
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    def app(self, name: str, models: str) -> None:
        """Add an app with its models (``models`` is Django's module) and no migration yet."""
        self.apps.append(name)
        self.write(f"{name}/__init__.py", "")
        self.write(f"{name}/migrations/__init__.py", "")
        self.write(f"{name}/models.py", "from django.db import models\n" + textwrap.dedent(models))
        self.settings()

    def settings(self) -> None:
        text = SETTINGS.format(
            apps="".join(f"{app!r}, " for app in self.apps),
            name=self.database,
            user=self.server.superuser,
            password=self.server.password,
            host=self.server.host,
            port=self.server.port,
            routers=self.routers,
        )
        self.write("site_settings.py", text)
        self.write("manage.py", MANAGE)

    def migration(
        self, app: str, name: str, operations: str, *, after: str | None = None, head: str = "", body: str = ""
    ) -> None:
        """Write one migration; ``after`` names its predecessor in the app, ``body`` is more of its class."""
        dependencies = [(app, after)] if after else []
        self.write(
            f"{app}/migrations/{name}.py",
            "from django.db import migrations, models\n"
            + textwrap.dedent(head)
            + f"\n\nclass Migration(migrations.Migration):\n    dependencies = {dependencies!r}\n"
            + textwrap.indent(textwrap.dedent(body), "    ")
            + "\n    operations = [\n"
            + textwrap.indent(textwrap.dedent(operations).strip(), "        ")
            + "\n    ]\n",
        )

    def manage(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run([str(self.python), "manage.py", *arguments], **environment)

    def run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.home,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def probe(self, *what: str, prefix: list[str] | None = None, **request: Any) -> dict[str, Any]:
        """Run the probe through the management command and return its answer."""
        answer = self.home / "answer.json"
        answer.unlink(missing_ok=True)
        self.run(
            [*(prefix or [str(self.python), "manage.py"]), "shell", "--settings=site_settings", "-c", START],
            RUNBOOK_PROBE_REQUEST=json.dumps({"what": list(what) or ["identity", "plan"], **request}),
            RUNBOOK_PROBE_ANSWER=str(answer),
        )
        assert self.server.password not in answer.read_text()
        told: dict[str, Any] = json.loads(answer.read_text())
        if told["error"] is None and told.keys() >= {"identity", "plan"} and told["identity"]["vendor"] == "postgresql":
            understood(told)  # whatever the probe says, the flow has to understand it
        return told


@pytest.fixture(scope="session")
def django_python(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from a Django version ("3.2") to an interpreter that has it."""
    made: dict[str, Path] = {}

    def interpreter(version: str) -> Path:
        if version not in made:
            wanted, *packages = DJANGO[version]
            program, home = uv.find_uv_bin(), tmp_path_factory.mktemp("django")
            if (
                wanted
                and subprocess.run([program, "python", "find", wanted], capture_output=True, check=False).returncode
            ):
                pytest.skip(f"needs Python {wanted}")
            subprocess.run([program, "venv", "-q", "--python", wanted or sys.executable, home], check=True, timeout=100)
            python = home / "bin" / "python"
            # Compiled once here, or by each of the many starts of a Django that follow; uv cannot for Python 3.6.
            compiled = [] if version == "oldest" else ["--compile-bytecode"]
            install: list[str | Path] = [program, "pip", "install", "-q", *compiled, "--python", python]
            subprocess.run([*install, *packages], check=True, timeout=100)
            made[version] = python
        return made[version]

    return interpreter


@pytest.fixture
def project(
    tmp_path: Path, postgres: PostgresServer, django_python: Callable[[str], Path]
) -> Iterator[Callable[[str], Project]]:
    """Return a function that makes an empty project for a Django version, with a database of its own."""
    databases: list[str] = []

    def make(version: str = "5.2") -> Project:
        databases.append(postgres.create_database())
        made = Project(tmp_path / f"project{len(databases)}", django_python(version), postgres, databases[-1])
        made.settings()
        return made

    yield make
    for name in databases:
        postgres.drop_database(name)
