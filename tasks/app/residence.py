"""The resident: a process of the application's own interpreter that carries out commands on a scratch database.

It is started through the application's management command, as the probe is, and then answers commands over a socket:
what it reaches, its plan, `migrate`, the reversal of one migration, the queries of its models, requests to its URLs.
Before any code of the application runs, its settings are redirected to the scratch database, and every connection,
whoever opens it, is refused unless it reaches just that (tasks/app/resident.py and the files beside it).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from tasks.app.command import Checkout
from tasks.app.dialogue import Dialogue
from tasks.app.probing import understood
from tasks.release.environment import Database, Endpoint, Environment
from tasks.release.errors import AppError
from tasks.release.plan import Plan
from tasks.release.record import Record
from tasks.release.rehearsal import HeldLock, Statement

UNGUARDED = (
    "the application's interpreter does not look at PYTHONPATH: what AppConfig.ready() and imported modules do while it"
    " starts was not kept from the live database"
)
COMMAND_S = 900.0  # the longest that a command which is not `migrate` may take


@dataclass(frozen=True)
class Target:
    """The scratch database that the application is led to, and how it is known for certain."""

    database: Database  # server, user and password; its own `name` is not used
    dbname: str
    oid: int
    system_identifier: str | None  # None: the server does not tell
    alias: str  # of the application's DATABASES: the one to migrate
    own_role: bool = False  # the application connects by its own user and password, where the server lets it in
    # Whether the live database is, or may be, on that server: then what reaches beyond a database is refused.
    shared: bool = True


class Hello(Record):
    """What the resident is and what it reached."""

    django: str
    python: str
    driver: str  # "psycopg 3.2.3"
    database: str
    database_oid: int
    system_identifier: str | None
    server_version_num: int
    user: str
    client_pid: int  # the backend's pid as the driver knows it
    server_pid: int  # as pg_backend_pid() says; another one: a pooler such as PgBouncer is in between
    redirected: tuple[str, ...]  # aliases that lead to the target
    cut_off: tuple[str, ...]  # aliases that lead nowhere
    early: bool  # whether the guard stood before any code of the application ran
    refused: tuple[str, ...]  # what the guard refused while the application started, a sentence each
    pid: int  # of the process

    @property
    def pooled(self) -> bool:
        """Whether a pooler is in between: session settings would not hold."""
        return self.client_pid != self.server_pid


class Problem(Record):
    """What went wrong inside the application; no row values and no passwords are in it."""

    type: str  # "django.db.utils.ProgrammingError"
    message: str
    sqlstate: str | None = None
    where: str | None = None  # the innermost line of code

    def __str__(self) -> str:
        return f"{self.type.rpartition('.')[2]}: {self.message}"


class MigrationRecord(Record):
    """One migration as it was applied or reversed, and what each statement did.

    Relations are named '%I.%I', as in tasks/database/catalogue.py; only those that were there before are told.
    """

    migration: str  # app.name
    seconds: float
    blocking_s: float  # the longest that one relation's readers or writers would have waited
    statements: tuple[Statement, ...]
    locks: tuple[HeldLock, ...]
    rewrites: tuple[str, ...]
    rows: dict[str, int]
    error: Problem | None = None
    irreversible_because: str = ""  # only of a reversal: why Django refuses it
    refused: tuple[str, ...] = ()  # connections and programs that the guard refused meanwhile, a sentence each


class Migrated(Record):
    """What one `migrate` did: the migrations in the order in which they were carried out, the failed one last."""

    migrations: tuple[MigrationRecord, ...]
    error: Problem | None = None  # of the command as a whole; also where no migration was reached
    seconds: float


class Used(Record):
    """One query of the application's models."""

    what: str  # "select shop.Order", "count ...", "insert ...", "insert ... with NULLs", "insert ... at its limits"
    query: str  # without parameters
    error: str | None
    sqlstate: str | None
    inconclusive: bool  # it failed for the made-up row's sake, or could not be tried: it says nothing


class Requested(Record):
    """One request to the application, answered in process."""

    what: str  # "GET /api/health"
    status: int | None  # None: it raised outside a response
    head: str  # first 300 characters of the answer
    error: str | None
    seconds: float
    route: str  # the pattern that its path matched, as Django writes it; "": none
    relations: tuple[str, ...]  # that its statements named, without schema


class Residence:
    """The parent's side of a resident. Every method raises AppError when it dies, hangs or cannot do what is asked.

    `hello` says what it is and what it reached.
    """

    def __init__(self, dialogue: Dialogue, hello: Hello, environment: Environment) -> None:
        self.hello = hello
        self._dialogue = dialogue
        self._migrate_s = environment.migrate.timeout_s

    def plan(self) -> Plan:
        """The probe's answer about the target: applied and pending migrations, rendered."""
        return understood(self._dialogue.ask("plan", COMMAND_S))

    def migrate(
        self,
        to: tuple[str, str] | None = None,
        *,
        before: Callable[[str], None] | None = None,
        after: Callable[[MigrationRecord], None] | None = None,
        events: bool = True,
        timeout_s: float | None = None,
    ) -> Migrated:
        """Run the application's own `migrate`.

        Args:
            to: App and migration to go to; none: everything.
            before: Is called with "app.name" before each migration, while the application waits.
            after: Is called with its record after each migration, failed ones too, while the application waits.
            events: Whether it stops and records at each migration; else it just runs, and tells names and times only.
            timeout_s: The longest that one migration (without events: all) may take; none: [migrate] timeout_s.
        """

        def told(event: dict[str, Any]) -> None:
            if event["event"] == "before":
                self._dialogue.doing = f"migrate, before {event['migration']}"
                if before:
                    before(event["migration"])
                self._dialogue.doing = f"migrate, applying {event['migration']}"
            else:
                record = _record(MigrationRecord, event["record"])
                self._dialogue.doing = f"migrate, after {record.migration}"
                if after:
                    after(record)

        timeout_s = timeout_s or self._migrate_s
        answer = self._dialogue.ask("migrate", timeout_s, told, to=list(to) if to else None, events=events)
        return _record(Migrated, answer)

    def reverse(self, label: str, *, timeout_s: float | None = None) -> MigrationRecord:
        """Reverse one applied migration ("app.name") by `migrate app <predecessor>`.

        What cannot be reversed says so in `irreversible_because` and `error`; what fails, in `error`. When it is not
        applied, or others would be reversed with it, nothing is done and `error` has the type "Refused".
        """
        app, _, name = label.partition(".")
        self._dialogue.doing = f"reversing {label}"
        timeout_s = timeout_s or self._migrate_s
        return _record(MigrationRecord, self._dialogue.ask("reverse", timeout_s, migration=[app, name]))

    def use(self, tables: Sequence[str] | None = None) -> tuple[Used, ...]:
        """Try the queries of the application's models; nothing is kept, and no signal or save() of it runs.

        Args:
            tables: Only models on these tables (as Django names them) and those that refer to them or are referred to.
        """
        answer = self._dialogue.ask("use", COMMAND_S, tables=None if tables is None else list(tables))
        return tuple(_record(Used, entry) for entry in answer)

    def requests(self, endpoints: Sequence[Endpoint], host: str, *, secure: bool = False) -> tuple[Requested, ...]:
        """Send requests through Django's handler, in process.

        Args:
            endpoints: What to ask.
            host: The Host header, such as "127.0.0.1:8000".
            secure: As if by HTTPS.
        """
        asked = [[endpoint.method, endpoint.path] for endpoint in endpoints]
        answer = self._dialogue.ask("requests", COMMAND_S, endpoints=asked, host=host, secure=secure)
        return tuple(_record(Requested, entry) for entry in answer)


Kind = TypeVar("Kind", bound=Record)


def _record(kind: type[Kind], answer: Any) -> Kind:
    try:
        return kind.model_validate(answer)
    except ValidationError as error:  # the values are not shown, since anything may be in them
        problems = error.errors(include_input=False, include_url=False)
        told = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
        raise AppError(f"the resident's answer is not understood: {told}") from None


@contextlib.contextmanager
def resident(
    environment: Environment,
    checkout: Checkout,
    target: Target,
    report: Callable[[str], None],
    *,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Residence]:
    """Start a resident; at the end, whatever happens, it is ended with all its children.

    Args:
        environment: Whose application.
        checkout: Whose code.
        target: The only database that it can reach.
        report: Takes a line for the log.
        variables: More environment variables.

    Raises:
        AppError: It cannot be started, or would reach another database.
    """
    database = target.database
    secret = database.password.get_secret_value() if database.password else ""
    dialogue = Dialogue(environment, checkout, secret)
    try:
        dialogue.start(
            variables or {},
            {
                "alias": target.alias,
                "own_role": target.own_role,
                "shared": target.shared,
                "HOST": database.host,
                "PORT": database.port,
                "USER": database.user,
                "PASSWORD": secret,
                "NAME": target.dbname,
                "sslmode": database.sslmode,
                "oid": target.oid,
                "system_identifier": target.system_identifier,
            },
        )
        hello = _record(Hello, dialogue.ask("hello", COMMAND_S))
        cut_off = f"; cut off: {', '.join(hello.cut_off)}" if hello.cut_off else ""
        report(f"the application (Django {hello.django}) is led to {target.dbname}{cut_off}")
        if not hello.early:
            report(UNGUARDED)
        for sentence in hello.refused:
            report(f"while the application started, {sentence}")
        yield Residence(dialogue, hello, environment)
    finally:
        dialogue.end()
