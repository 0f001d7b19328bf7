"""The check itself: the base's schema in a throw-away database, the branch's plan on it, and the judgement."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from deployments.check.application import Application
from deployments.check.checkout import Repository, repository_of
from deployments.check.server import DATABASE_URL, SERVER_URL, Server, database_of, reached, scratch_server
from deployments.check.stopping import Stopping
from deployments.check.trial import Trial, is_missing_here
from tasks.app.residence import Migrated, Residence, Target, resident
from tasks.database.connection import connect
from tasks.database.identity import identify
from tasks.release.environment import Database
from tasks.release.errors import AppError, ConfigurationError
from tasks.release.plan import Plan
from tasks.release.risk import Finding, Risk
from tasks.risk.live import LiveFacts
from tasks.risk.problems import findings_of, notes_of

Report = Callable[[str], None]
JUDGE = "tasks.risk.judge"  # takes half a second to import, which other work hides


@dataclass(frozen=True)
class Wanted:
    """What is to be checked."""

    application: Application
    base: str = ""  # ref that the branch will be merged into; empty: the remote's own branch
    database_url: str = field(default="", repr=False)  # whose facts count; empty: none are known
    server_url: str = field(default="", repr=False)  # throw-away databases are made there; empty: a server of our own


@dataclass(frozen=True)
class Checked:
    """What the check found."""

    risk: Risk
    base: str  # commit; empty: compared with the database of --database-url
    notes: tuple[str, ...]  # what is worth knowing and is no finding
    prefix: str  # from the top of the repository to the application's directory, "" or "backend/"


def check(wanted: Wanted, report: Report, stopping: Stopping) -> Checked:
    """Judge the migrations that a branch adds.

    Raises:
        RunbookError: It could not be judged: the base is unknown, or the application cannot be started in it.
        KeyboardInterrupt: The end was asked for; nothing of the check is left.
    """
    wanted.application.prepared()
    live = database_of(wanted.database_url, DATABASE_URL) if wanted.database_url else None
    named = database_of(wanted.server_url, SERVER_URL, "postgres") if wanted.server_url else None
    for database, option in ((live, DATABASE_URL), (named, SERVER_URL)):
        if database:
            reached(database, option)
    repository = repository_of(wanted.application.directory)
    if repository and (wanted.base or not live):
        return _AgainstBase(wanted, repository, live, report, stopping).checked(named)
    if live is None:
        raise ConfigurationError(
            f"{wanted.application.directory} is in no git repository, and no database was named",
            hint="run it in a clone with `--base origin/main`, or name a database with `--database-url`",
        )
    report(f"asking which migrations are pending on {live.name}")
    with ExitStack() as stack:
        place = _Place("of this branch", wanted.application.directory, live, live.name)
        app = stack.enter_context(_started(wanted, place, report, stopping))
        plan = _plan(app, wanted, [], stopping)
    with LiveFacts(live, plan.database.migrations_schema) as facts, stopping.waiting():
        risk = _judged(wanted, plan, facts, None)
    return Checked(risk, "", notes_of(plan), _prefix(repository))


class _AgainstBase:
    """The check of a branch against the commit where it left its base."""

    def __init__(
        self, wanted: Wanted, repository: Repository, live: Database | None, report: Report, stopping: Stopping
    ) -> None:
        self._wanted, self._repository, self._live = wanted, repository, live
        self._report, self._stopping = report, stopping
        self._commit = repository.base_commit(wanted.base)

    def checked(self, named: Database | None) -> Checked:
        with ExitStack() as stack:
            # A server takes seconds to start, which the export of the base does not wait for.
            with ThreadPoolExecutor(2) as aside:
                aside.submit(import_module, JUDGE)
                starting = aside.submit(stack.enter_context, scratch_server(named, self._report))
                base = stack.enter_context(self._repository.exported(self._commit))
            server = starting.result()
            schema = self._schema_of_the_base(server, base)
            plan, tried = self._tried(server, schema)
            if self._live:
                facts = LiveFacts(self._live, None)
            else:
                facts = LiveFacts(server.database, plan.database.migrations_schema, dbname=schema, data=False)
            with facts, self._stopping.waiting():
                risk = _judged(self._wanted, plan, facts, base, tried)
        return Checked(risk, self._commit, notes_of(plan), _prefix(self._repository))

    def _schema_of_the_base(self, server: Server, base: Path) -> str:
        """A database that the base's migrations were applied to."""
        schema = server.create("base")
        self._report(f"migrating a throw-away database as of {self._commit[:12]}")
        which = f"of the base {self._commit[:12]}"
        place = _Place(which, base, server.database, schema, bytecode=True, shared=server.named)
        with _started(self._wanted, place, self._report, self._stopping) as app:
            try:
                with self._stopping.waiting():
                    migrated = app.migrate(events=False)
            except AppError as error:
                raise self._wanted.application.explained(error, which) from None
        if migrated.error:
            raise self._does_not_migrate(migrated, server)
        return schema

    def _does_not_migrate(self, migrated: Migrated, server: Server) -> AppError:
        assert migrated.error is not None  # noqa: S101 - asked before
        failed = next((one.migration for one in migrated.migrations if one.error), "")
        where = f", {failed} fails" if failed else ""
        hint = "what is there cannot be judged before it can be built: does `migrate` work on a new database?"
        if is_missing_here(migrated.error):
            lacking = "its server" if server.named else "the bundled server"
            hint = f"{lacking} lacks it ({migrated.error.message}): name one that has it with {SERVER_URL}"
        return AppError(
            f"the migrations of the base {self._commit[:12]} do not apply to an empty database{where}:"
            f" {migrated.error}",
            hint=hint,
        )

    def _tried(self, server: Server, schema: str) -> tuple[Plan, tuple[Finding, ...]]:
        """What the branch adds to the schema, and what goes wrong when that is tried on a copy."""
        trial = server.create("trial", template=schema)
        self._report("asking for the migrations that this branch adds, and trying them there")
        directory = self._wanted.application.directory
        place = _Place("of this branch", directory, server.database, trial, shared=server.named)
        with _started(self._wanted, place, self._report, self._stopping) as app:
            plan = _plan(app, self._wanted, self._repository.changed_migrations(self._commit), self._stopping)
            try:
                return plan, tuple(Trial(app, plan, self._stopping).findings())
            except AppError as error:
                raise self._wanted.application.explained(error, "of this branch") from None


@dataclass(frozen=True)
class _Place:
    """A state of the code and the database that it is led to."""

    which: str  # for messages: "of this branch"
    directory: Path
    server: Database
    dbname: str
    bytecode: bool = False  # the directory is ours: Python may keep there, and with its packages, what it compiled
    shared: bool = True  # others may use the server


@contextlib.contextmanager
def _started(wanted: Wanted, place: _Place, report: Report, stopping: Stopping) -> Iterator[Residence]:
    """The application in a state of its code."""
    application = wanted.application
    with connect(place.server, "check", dbname=place.dbname) as connection:
        found = identify(connection)
    target = Target(
        place.server, place.dbname, found.oid, found.system_identifier, application.alias, shared=place.shared
    )
    environment = application.environment(place.server, bytecode=place.bytecode)
    with ExitStack() as stack:
        try:
            with stopping.waiting():
                checkout = application.checkout(place.directory)
                app = stack.enter_context(resident(environment, checkout, target, report))
        except AppError as error:
            raise application.explained(error, place.which) from None
        yield app


def _plan(app: Residence, wanted: Wanted, suspects: list[str], stopping: Stopping) -> Plan:
    try:
        with stopping.waiting():
            return app.plan()
    except AppError as error:
        told = wanted.application.explained(error, "of this branch")
        if suspects and "the application ended" in error.message:
            hint = f"does the import of one of these files end the process? {', '.join(suspects)}"
            raise AppError(told.message, hint=hint) from None
        raise told from None


def _judged(
    wanted: Wanted, plan: Plan, facts: LiveFacts, serving: Path | None, tried: tuple[Finding, ...] = ()
) -> Risk:
    from tasks.risk.judge import judge  # noqa: PLC0415 - see JUDGE

    risk = judge(plan, facts, wanted.application.directory, serving, more=findings_of(plan))
    # What a rule has foretold is not told again as the failure that it led to.
    blocked = {finding.migration for finding in risk.findings if finding.severity == "blocked"}
    no_way_back = {finding.migration for finding in risk.findings if finding.harm == "way back"}
    news = tuple(
        finding
        for finding in tried
        if finding.migration not in blocked
        and (finding.migration or not blocked)
        and not (finding.rule == "does-not-reverse" and finding.migration in no_way_back)
    )
    return risk.with_more(news) if news else risk


def _prefix(repository: Repository | None) -> str:
    if repository is None or repository.directory == repository.top:
        return ""
    return f"{repository.directory.relative_to(repository.top).as_posix()}/"
