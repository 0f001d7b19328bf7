"""What the rehearsal costs: the whole stage against the restore and the `migrate` of which it is made.

    python -m bench.rehearsal [--megabytes 400] [--rounds 3] [--ref v1.1] [--at v1.0]

The example application, with its documents multiplied, is backed up; then in every round the backup is restored and
compared, the application's own `manage.py migrate` is run on a copy of its database, and the stage is carried out. The
stage may cost at most 1.3 times the restore and 3 times `migrate`; the ratio is the median of the rounds'. Ends with
one line of JSON, and with status 1 when the promise is broken.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import uv
from psycopg import sql

from bench.place import Place, servers
from examples.chatbot.history import build_history
from tasks.app.candidate import prepare
from tasks.app.probing import plan
from tasks.backup.create import create
from tasks.backup.verify import verify
from tasks.rehearse.prove import prove_and_rehearse
from tasks.release.environment import Environment, parse
from tasks.release.release import Release
from tasks.store.bucket import Bucket
from tasks.store.ledger import Ledger

RESTORES, MIGRATES = 1.3, 3.0  # the promise, in terms of its parts
SETTINGS = "--settings=config.settings.staging"
TIMEOUT_S = 600
_VARIABLES = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PG", "VIRTUAL_ENV"))}
_GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
# Copies of the documents that the example's own seed made, until the database is large enough.
_MULTIPLY = """
INSERT INTO documents_document (title, slug, body, summary, language, status, owner_email, metadata, word_count,
  created_at, updated_at)
SELECT title, left(slug, 180) || '-{generation}-' || id, body, summary, language, status, owner_email, metadata,
  word_count, created_at, updated_at FROM documents_document WHERE slug !~ '-[0-9]+-[0-9]+$'
"""


class Round(NamedTuple):
    """One round, in seconds."""

    restore_s: float
    migrate_s: float
    stage_s: float

    @property
    def limit_s(self) -> float:
        """What the stage may cost at most."""
        return RESTORES * self.restore_s + MIGRATES * self.migrate_s


class Site:
    """The example application in a directory of its own, its database filled.

    Args:
        place: The servers.
        home: An empty directory.
    """

    def __init__(self, place: Place, home: Path) -> None:
        self.place, self.home = place, home
        self.repository, self.app, self.python = home / "repository", home / "app", home / "venv" / "bin" / "python"
        build_history(self.repository)
        _run(home, "git", "clone", "--quiet", str(self.repository), str(self.app))
        program = uv.find_uv_bin()
        _run(home, program, "venv", "-q", "--python", sys.executable, str(home / "venv"))
        requirements = str(self.app / "requirements.txt")
        _run(home, program, "pip", "install", "-q", "--python", str(self.python), "-r", requirements)

    def fill(self, at: str, megabytes: float) -> int:
        """Make the database at a release, of so many megabytes (10^6 bytes); its size in bytes."""
        self.check_out(at)
        self.place.create(self.place.source)
        self.serve(self.place.source)
        self.manage("migrate", "--no-input")
        self.manage("seed_database", "--size", "medium")
        size, generation = self._size(), 0
        with self.place.connect(self.place.source) as connection:
            while size < megabytes * 1e6:
                generation += 1
                connection.execute(_MULTIPLY.format(generation=generation).encode())
                size = self._size()
            connection.execute("VACUUM (FREEZE, ANALYZE)")
        return size

    def check_out(self, ref: str) -> None:
        """Make the serving checkout that of a ref."""
        _run(self.app, "git", "checkout", "--quiet", "--detach", self.commit_of(ref))

    def commit_of(self, ref: str) -> str:
        """The hash of a ref."""
        return _run(self.repository, "git", "rev-parse", f"{ref}^{{commit}}").strip()

    def serve(self, dbname: str) -> None:
        """Lead the application to a database."""
        values = {
            "DATABASE_HOST": self.place.host,
            "DATABASE_PORT": self.place.port,
            "DATABASE_NAME": dbname,
            "DATABASE_USER": self.place.user,
            "DATABASE_PASSWORD_FILE": self._secret("password", self.place.password),
            "DJANGO_SECRET_KEY": "not a secret",
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost",
            "DJANGO_LOG_FILE": self.home / "django.log",
        }
        (self.app / ".env").write_text("".join(f"{key}={value}\n" for key, value in values.items()), encoding="utf-8")

    def manage(self, *arguments: str) -> None:
        """Run a management command of the application."""
        subcommand, *rest = arguments
        _run(self.app, str(self.python), "manage.py", subcommand, SETTINGS, *rest)

    def environment(self) -> Environment:
        """The environment file of the site, as parsed."""
        content = {
            "name": "bench",
            "kind": "staging",
            "app": {
                "directory": str(self.app),
                "python": str(self.python),
                "settings": "config.settings.staging",
                "variables": {"CHATBOT_ENV_FILE": ".env"},
                "branch": "main",
                "reload": [],
                "untracked": [".env"],
            },
            "database": {
                "host": self.place.host,
                "port": self.place.port,
                "name": self.place.source,
                "user": self.place.user,
                "password": {"file": self._secret("password", self.place.password)},
            },
            "storage": {
                "endpoint": self.place.endpoint,
                "bucket": self.place.bucket,
                "access_key": {"file": self._secret("access", self.place.access_key)},
                "secret_key": {"file": self._secret("secret", self.place.secret_key)},
            },
            "smoke": {"base_url": "http://127.0.0.1:8000", "endpoints": [{"path": "/api/documents"}]},
        }
        return parse(content, self.home / "bench.toml")

    def _secret(self, name: str, value: str) -> str:
        file = self.home / name
        file.write_text(value, encoding="utf-8")
        return str(file)

    def _size(self) -> int:
        with self.place.connect(self.place.source) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has a row
        return int(str(row[0]))


class Bench:
    """A release of the site, planned and backed up, whose rehearsal is measured.

    Args:
        site: Where.
        ref: The release to rehearse.
        at: The one that serves.
        show: Takes a line on what is going on.
    """

    def __init__(self, site: Site, ref: str, at: str, show: bool) -> None:
        self.site, self.ref, self.show = site, ref, show
        self.environment = site.environment()
        self.bucket = Bucket(self.environment.storage)
        previous, commit = site.commit_of(at), site.commit_of(ref)
        self.began = time.monotonic()
        self.candidate = prepare(self.environment, commit, self._tell)
        self.record = Release(
            id="bench",
            environment=self.environment.name,
            ref=ref,
            commit=commit,
            previous_commit=previous,
            checked_out=previous,
            created_at=datetime.now(UTC),
            requested_by="bench",
            plan=plan(self.environment, self.candidate),
            backup=create(self.environment, self.bucket, "bench", self._tell),
        )

    def round(self, number: int) -> Round:
        """Measure each part once, the stage last."""
        return Round(self._restore(), self._migrate(), self._stage(number))

    def _restore(self) -> float:
        assert self.record.backup is not None  # noqa: S101 - made at the beginning
        self.site.place.settle()
        self.began = time.monotonic()
        verify(self.environment, self.bucket, self.record.backup, "restored", self._tell)
        return time.monotonic() - self.began

    def _migrate(self) -> float:
        """One run of the application's own command on a copy."""
        place = self.site.place
        place.drop(place.target)
        with place.connect("postgres") as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(place.target), sql.Identifier(place.source)
                )
            )
        place.settle()
        self.site.serve(place.target)
        try:
            began = time.monotonic()
            _run(self.candidate.directory, str(self.candidate.python), "manage.py", "migrate", SETTINGS, "--no-input")
            return time.monotonic() - began
        finally:
            self.site.serve(place.source)
            place.drop(place.target)

    def _stage(self, number: int) -> float:
        ledger = Ledger(self.bucket, self.environment.name)
        release_id = f"bench-{number}"
        ledger.create(self.record.model_copy(update={"id": release_id}))
        self.site.place.settle()
        self.began = time.monotonic()
        rehearsal = prove_and_rehearse(self.environment, release_id, self._tell)
        seconds = time.monotonic() - self.began
        if not rehearsal.passed or rehearsal.findings:
            raise RuntimeError(f"the rehearsal of {self.ref} did not go as it should: {rehearsal.findings}")
        return seconds

    def _tell(self, line: str) -> None:
        if self.show:
            print(f"    {time.monotonic() - self.began:7.2f} s  {line}")  # noqa: T201


def _run(directory: Path, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        env=_VARIABLES | _GIT | {"CHATBOT_ENV_FILE": ".env", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.rehearsal", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=400, help="size of the database on the server's disk")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--ref", default="v1.1", help="the release that is rehearsed")
    parser.add_argument("--at", default="v1.0", help="the release that serves")
    parser.add_argument("--verbose", action="store_true", help="tell what goes on, with the seconds")
    options = parser.parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit("interrupted"))  # unwinds, so the servers are stopped
    with servers() as (place, home):
        site = Site(place, home)
        size = site.fill(options.at, options.megabytes)
        print(f"{size / 1e6:.0f} MB; {options.ref} over {options.at}")  # noqa: T201
        bench = Bench(site, options.ref, options.at, options.verbose)
        rounds = []
        for number in range(options.rounds):
            rounds.append(done := bench.round(number))
            parts = f"restore {done.restore_s:.1f} s, migrate {done.migrate_s:.1f} s, stage {done.stage_s:.1f} s"
            print(f"round {number + 1}: {parts} of {done.limit_s:.1f} s, load {os.getloadavg()[0]:.1f}")  # noqa: T201
    ratio = statistics.median(done.stage_s / done.limit_s for done in rounds)
    figures = {name: statistics.median(getattr(done, name) for done in rounds) for name in (*Round._fields, "limit_s")}
    told = {name: round(value, 2) for name, value in (figures | {"ratio": ratio}).items()}
    print(json.dumps({"bench": "rehearsal", **told}))  # noqa: T201
    return 0 if ratio <= 1 else 1


if __name__ == "__main__":
    sys.exit(main())
