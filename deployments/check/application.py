"""The application as a check drives it: what can be known before it is started, and what its last words mean."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.app.command import Checkout
from tasks.app.process import leading_variables
from tasks.release.environment import Database, Environment, parse
from tasks.release.errors import AppError, ConfigurationError, RunbookError

IMPORT_S = 60  # the longest that `import django` may take
# Of this process, which the application's commands are not given by themselves.
PASSED_ON = ("DJANGO_SETTINGS_MODULE", "PYTHONPATH", "VIRTUAL_ENV")
PREFIXES_PASSED_ON = ("AWS_", "PG")  # a job's variables are the application's own
NOT_PASSED_ON = "PGPASSWORD"  # may be that of --database-url
VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b")
# Of the application's last words, what to do about them.
CURES = (
    ("not PostgreSQL", "name settings of PostgreSQL with --settings, or another of their databases with --alias"),
    ("has no database", "name one of them with --alias"),
    ("settings are not configured", "name the settings module with --settings"),
    ("DJANGO_SETTINGS_MODULE", "name the settings module with --settings"),
    ("Couldn't import Django", "name the interpreter that has the application's requirements with --python"),
    ("Unknown command: 'shell'", "--manage must name a command that runs Django's own `shell`"),
    ("its `shell -c`", "--manage must name a command that runs Django's own `shell`"),
)
LONGEST = 400  # characters of the application's last words
TRACEBACK = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Application:
    """How the application is started.

    Args:
        directory: Where the management command runs.
        python: Its interpreter; empty: .venv's in the directory, else `python` on PATH.
        manage: The management command.
        settings: Settings module; empty: what the command knows by itself.
        alias: Of the database in the settings.
    """

    directory: Path
    python: str = ""
    manage: tuple[str, ...] = ("{python}", "manage.py")
    settings: str = ""
    alias: str = "default"

    def prepared(self) -> None:
        """Look for what is missing before anything is started.

        Raises:
            ConfigurationError: The directory, the management command, the interpreter or its Django is not there.
        """
        if not self.directory.is_dir():
            raise ConfigurationError(f"{self.directory} is no directory", hint="name the one with manage.py in it")
        words = self.manage[len(leading_variables(self.manage)) :]
        for word in words:
            if word.endswith(".py") and not (self.directory / word).exists():
                raise ConfigurationError(
                    f"there is no {word} in {self.directory}",
                    hint="name the directory it is in (`runbook check backend`), or another command with --manage",
                )
        if words[:1] == ("{python}",):
            self._import_django()

    def checkout(self, directory: Path) -> Checkout:
        """A state of the code, with the interpreter that runs it."""
        return Checkout(directory, self.interpreter(), "")

    def interpreter(self) -> Path:
        """The application's Python."""
        own = self.directory.resolve() / ".venv" / "bin" / "python"
        if self.python:
            found = self.python if os.sep in self.python else shutil.which(self.python) or self.python
            return Path(found).absolute()
        if own.exists():
            return own
        return Path(shutil.which("python") or shutil.which("python3") or sys.executable)

    def environment(self, database: Database, *, bytecode: bool = False) -> Environment:
        """An environment of which only the application and the database are used.

        Args:
            database: What it is led to.
            bytecode: Whether Python may keep what it compiled.
        """
        passed_on = {
            name: value
            for name, value in os.environ.items()
            if name in PASSED_ON or (name.startswith(PREFIXES_PASSED_ON) and name != NOT_PASSED_ON)
        }
        app: dict[str, Any] = {
            "directory": str(self.directory.resolve()),
            "manage": list(self.manage),
            "settings": self.settings or None,
            "database_alias": self.alias,
            "variables": {**passed_on, **({"PYTHONDONTWRITEBYTECODE": ""} if bytecode else {})},
            "branch": "any",
            "reload": [],
        }
        content = {
            "name": "check",
            "kind": "test",
            "app": app,
            "database": database,
            "storage": {"bucket": "none"},
            "smoke": {"base_url": "http://127.0.0.1", "endpoints": [{"path": "/"}]},
        }
        return parse(content, Path("check.toml"))

    def explained(self, error: AppError, which: str) -> RunbookError:
        """Our error for one of the application's, in terms of the command's options.

        Args:
            error: What went wrong.
            which: "of the base 0123456789ab", "of this branch".
        """
        ended = re.search(r"the application ended while starting: (.*)", error.message, re.DOTALL)
        raised = re.search(r"(\w+) inside the application while starting: (.*)", error.message, re.DOTALL)
        if ended is None and raised is None:
            return AppError(f"{error.message} (the application {which})", hint="" if "[" in error.hint else error.hint)
        words = last_words(ended[1]) if ended else f"{raised[1]}: {raised[2]}" if raised else ""
        return ConfigurationError(f"the application {which} does not start: {words}", hint=self._cure(words))

    def _cure(self, words: str) -> str:
        """What to do about an application that does not start."""
        missing = re.search(r"No module named '([^']+)'", words)
        if missing and f"{self.settings}.".startswith(f"{missing[1]}."):
            return f"--settings names {self.settings}: is {missing[1]} below the directory?"
        if missing:
            return (
                f"{self.interpreter()} runs it: install the application's requirements there, or name another"
                " interpreter with --python"
            )
        for sign, cure in CURES:
            if sign in words:
                return cure
        variable = re.fullmatch(r"KeyError: '([^']+)'", words) or VARIABLE.search(words)
        if variable:
            name = variable[variable.re.groups]
            return f"the application's settings need {name}; pass the variable (in a workflow: `env:` of the step)"
        return "does its `check` command work there? variables that its settings need are passed on from this command's"

    def _import_django(self) -> None:
        python = self.interpreter()
        try:
            done = subprocess.run(
                [str(python), "-c", "import django"],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=IMPORT_S,
                check=False,
                env={**os.environ, **leading_variables(self.manage)},
            )
        except subprocess.TimeoutExpired:
            raise ConfigurationError(
                f"{python} did not import Django within {IMPORT_S} s", hint="name another interpreter with --python"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"{python} cannot be run: {error.strerror}", hint="name the application's interpreter with --python"
            ) from None
        if done.returncode:
            raise ConfigurationError(
                f"{python} has no Django: {last_words(done.stderr)}",
                hint="name the interpreter that has the application's requirements with --python",
            )


def last_words(output: str) -> str:
    """The sentence that a program's output ends with: of a traceback, the exception itself."""
    lines = output.rpartition(TRACEBACK)[2].rstrip().lstrip("\n").splitlines()
    if TRACEBACK in output:
        while len(lines) > 1 and lines[0].startswith((" ", "\t")):
            del lines[0]
        return " ".join(line.strip() for line in lines)[:LONGEST]
    return lines[-1].strip()[:LONGEST] if lines else "without a word"
