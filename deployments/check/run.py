"""The check itself: the base's schema in a throw-away database, the branch's plan on it, and the judgement."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from deployments.check.checkout import Repository, repository_of
from deployments.embedded.throwaway import throwaway_server
from tasks.app.command import Checkout
from tasks.app.residence import Residence, Target, resident
from tasks.database.connection import connect, explained
from tasks.database.identity import identify
from tasks.release.environment import Database, Environment, parse
from tasks.release.errors import AppError, ConfigurationError
from tasks.release.plan import Plan
from tasks.release.risk import Finding, Harm, Risk
from tasks.risk.judge import judge
from tasks.risk.live import LiveFacts
from tasks.risk.problems import findings_of, notes_of

Report = Callable[[str], None]
# Of this process, which the application's commands are not given by themselves.
PASSED_ON = ("DJANGO_SETTINGS_MODULE", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Wanted:
    """What is to be checked."""

    directory: Path  # where the management command runs
    base: str = ""  # ref that the branch will be merged into; empty: the remote's own branch
    python: str = ""  # the application's interpreter; empty: .venv's in the directory, else `python` on PATH
    manage: tuple[str, ...] = ("{python}", "manage.py")
    settings: str = ""
    alias: str = "default"
    database_url: str = ""  # whose facts count; empty: none are known


@dataclass(frozen=True)
class Checked:
    """What the check found."""

    risk: Risk
    base: str  # commit; empty: compared with the database of --database-url
    notes: tuple[str, ...]  # what is worth knowing and is no finding
    prefix: str  # from the top of the repository to the application's directory, "" or "backend/"


def check(wanted: Wanted, report: Report) -> Checked:
    """Judge the migrations that a branch adds.

    Raises:
        RunbookError: It could not be judged: the base is unknown, or the application cannot be started in it.
    """
    if not wanted.directory.is_dir():
        raise ConfigurationError(f"{wanted.directory} is no directory", hint="name the one with manage.py in it")
    live = _database_of(wanted.database_url) if wanted.database_url else None
    repository = repository_of(wanted.directory)
    with ExitStack() as stack:
        if repository and (wanted.base or not live):
            commit = repository.base_commit(wanted.base)
            base = stack.enter_context(repository.exported(commit))
            risk, plan = _against_base(wanted, base, commit, live, stack, report)
            return Checked(risk, commit, notes_of(plan), _prefix(repository))
        if live is None:
            raise ConfigurationError(
                f"{wanted.directory} is in no git repository, and no database was named",
                hint="run it in a clone with `--base origin/main`, or name a database with `--database-url`",
            )
        environment = _environment(wanted, live)
        report(f"asking which migrations are pending on {live.name}")
        target = _target(live, live.name, wanted)
        with resident(environment, _checkout(wanted, wanted.directory), target, report) as app:
            plan = app.plan()
        with LiveFacts(live, plan.database.migrations_schema) as facts:
            return Checked(_judged(wanted, plan, facts, None), "", notes_of(plan), _prefix(repository))


def _against_base(
    wanted: Wanted, base: Path, commit: str, live: Database | None, stack: ExitStack, report: Report
) -> tuple[Risk, Plan]:
    server = stack.enter_context(throwaway_server())
    schema, trial = f"schema_{secrets.token_hex(4)}", f"trial_{secrets.token_hex(4)}"
    _create(server, schema, template="template1")
    report(f"migrating a throw-away database as of {commit[:12]}")
    environment = _environment(wanted, server)
    with resident(environment, _checkout(wanted, base), _target(server, schema, wanted), report) as before:
        migrated = before.migrate(events=False)
    if migrated.error:
        raise AppError(
            f"the migrations of the base {commit[:12]} do not apply to an empty database: {migrated.error}",
            hint="what is there cannot be judged before it can be built: does `migrate` work on a new database?",
        )
    _create(server, trial, template=schema)
    report("asking for the migrations that this branch adds, and trying them there")
    target = _target(server, trial, wanted)
    with resident(environment, _checkout(wanted, wanted.directory), target, report) as after:
        plan = after.plan()
        tried = tuple(_tried(after, plan))
    facts = (
        LiveFacts(live, None) if live else LiveFacts(server, plan.database.migrations_schema, dbname=schema, data=False)
    )
    with facts:
        return _judged(wanted, plan, facts, base, tried), plan


def _tried(app: Residence, plan: Plan) -> Iterator[Finding]:
    """What goes wrong when the plan is applied to the empty schema, and reversed there."""
    files = {migration.label: migration.file for migration in plan.pending}
    applied: list[str] = []

    def finding(rule: str, label: str, message: str, harm: Harm, step: str) -> Finding:
        return Finding(
            rule=rule,
            migration=label,
            severity="high",
            message=message,
            evidence=("tried on a throw-away database with the schema of the base and no rows",),
            mitigation=(step,),
            file=files.get(label),
            harm=harm,
            subject=label,
        )

    for record in app.migrate().migrations:
        if record.error:
            yield finding(
                "does-not-apply",
                record.migration,
                f"`migrate` fails on it: {record.error}",
                "fails",
                "mend it until `migrate` works on a new database",
            )
        else:
            applied.append(record.migration)
    for label in reversed(applied):
        record = app.reverse(label)
        if record.irreversible_because:
            return  # judged by a rule already; what is below it cannot be tried
        if record.error:
            yield finding(
                "does-not-reverse",
                label,
                f"its reversal fails: {record.error}",
                "way back",
                f"mend its reverse until `migrate {label.partition('.')[0]} <the one before>` works",
            )
            return


def _judged(
    wanted: Wanted, plan: Plan, facts: LiveFacts, serving: Path | None, tried: tuple[Finding, ...] = ()
) -> Risk:
    problems = findings_of(plan)
    risk = judge(plan, facts, wanted.directory, serving, more=problems)
    # What a rule has foretold is not told again as the failure that it led to.
    told = {finding.migration for finding in risk.findings if finding.severity == "blocked"}
    news = tuple(finding for finding in tried if finding.migration not in told)
    return risk.with_more(news) if news else risk


def _create(server: Database, name: str, template: str) -> None:
    with connect(server, "check", statement_timeout_s=300, autocommit=True) as connection:
        try:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        except psycopg.Error as error:
            raise explained(error, f"cannot create the throw-away database {name}") from None


def _target(server: Database, dbname: str, wanted: Wanted) -> Target:
    with connect(server, "check", dbname=dbname) as connection:
        found = identify(connection)
    return Target(server, dbname, found.oid, found.system_identifier, wanted.alias)


def _environment(wanted: Wanted, database: Database) -> Environment:
    """An environment of which only the application and the database are used."""
    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    app: dict[str, Any] = {
        "directory": str(wanted.directory.resolve()),
        "manage": list(wanted.manage),
        "settings": wanted.settings or None,
        "database_alias": wanted.alias,
        "variables": passed_on,
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


def _checkout(wanted: Wanted, directory: Path) -> Checkout:
    own = wanted.directory.resolve() / ".venv" / "bin" / "python"
    if wanted.python:
        python = Path(wanted.python).absolute()
    elif own.exists():
        python = own
    else:
        found = shutil.which("python") or shutil.which("python3")
        python = Path(found or sys.executable)
    return Checkout(directory, python, "")


def _database_of(url: str) -> Database:
    """The database that a libpq URL or connection string names.

    Raises:
        ConfigurationError: It is none; the message does not repeat it, since a password may be in it.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        raise ConfigurationError(
            "--database-url is not a connection string of PostgreSQL", hint="postgresql://user@host:5432/name"
        ) from None
    password = parts.get("password") or os.environ.get("PGPASSWORD")
    known = {key: parts[key] for key in ("host", "port", "user", "sslmode") if key in parts}
    if "dbname" not in parts or "user" not in parts or "host" not in parts:
        raise ConfigurationError(
            "--database-url names no host, user or database", hint="postgresql://user@host:5432/name"
        )
    return Database.model_validate(
        {**known, "name": parts["dbname"], "password": SecretStr(str(password)) if password else None}
    )


def _prefix(repository: Repository | None) -> str:
    if repository is None or repository.directory == repository.top:
        return ""
    return f"{repository.directory.relative_to(repository.top).as_posix()}/"
