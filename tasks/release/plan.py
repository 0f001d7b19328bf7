"""What a release would do to the database: the answer of the probe inside the application's interpreter."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from tasks.release.record import Record


class Reached(Record):
    """The database that the application's settings really reach, asked over its own connection."""

    vendor: str
    system_identifier: str | None
    database: str
    database_oid: int
    server_version_num: int
    user: str
    host: str | None
    port: str | None
    server_addr: str | None
    server_port: int | None
    server_started: str  # when the server was started, in seconds since 1970: a clone keeps all but this
    lock_timeout_ms: int
    statement_timeout_ms: int
    application_name: str
    migrations_schema: str | None = None  # where the session finds django_migrations; None: nowhere yet
    pooled: bool | None = None  # a pooler such as PgBouncer is in between; None: not known


class Listed(Record):
    """A migration and whether it is applied, as `showmigrations --plan` lists it."""

    app: str
    name: str
    applied: bool


def table_of(listed: Iterable[Listed]) -> list[dict[str, str]]:
    """`showmigrations --plan` as rows of a table."""
    return [
        {"migration": f"{entry.app}.{entry.name}", "applied": "yes" if entry.applied else "pending"} for entry in listed
    ]


class Sql(Record):
    """The statements of one direction of a migration."""

    statements: tuple[str, ...] | None  # None: could not be rendered
    partial: bool  # something that the migration does is not SQL
    because: tuple[str, ...]  # why statements are missing


class BothWays(Record):
    """The SQL of a migration, forward and backward."""

    forward: Sql
    backward: Sql


class Migration(Record):
    """A pending migration."""

    app: str
    name: str
    atomic: bool
    initial: bool
    reversible: bool | None  # None: unknown, since it could not be rendered
    irreversible_because: str | None
    from_dependency: bool  # of an installed package, not of the application's repository
    file: str | None
    replaces: tuple[dict[str, str], ...]  # of a squashed migration
    dependencies: tuple[dict[str, str], ...]
    backwards: bool
    sql: BothWays
    operations: tuple[dict[str, Any], ...]  # as the probe's docstring describes them
    file_sha256: str | None = None  # of the migration's file; None: it could not be read

    @property
    def label(self) -> str:
        """`app.name`, as people say it."""
        return f"{self.app}.{self.name}"


ProblemRule = Literal[
    "broken-migration",  # cannot be loaded or followed, or depends on one
    "missing-dependency",
    "conflicting-leaves",
    "inconsistent-history",
    "squash-partly-applied",
    "unmigrated-changes",
    "drift",  # the database is not what the applied migrations say
    "fake-applied",  # an applied migration of which nothing is there
    "already-exists",  # a pending migration makes what is there
    "unclassified",  # in records of earlier versions
]


class Problem(Record):
    """Something that is wrong with the migrations as a whole, with one of them, or with the database that they meet."""

    rule: ProblemRule
    migration: str  # app.name; "": of no single one
    severity: Literal["medium", "unknown", "blocked"]  # blocked: `migrate` fails
    message: str
    hint: str = ""  # what to do
    file: str | None = None
    line: int | None = None
    subject: str = ""  # the table, or "table.column", that it is about


class Plan(Record):
    """The pending migrations of a release, in order, and what is wrong with them.

    A migration that is broken is none of `pending`, since it cannot be planned; it is one of `problems`.
    """

    django: str
    python: str
    settings: str | None  # None: configured without a module
    database: Reached
    pending: tuple[Migration, ...]
    listed: tuple[Listed, ...]
    problems: tuple[Problem, ...] = ()
    planned_at: datetime

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, data: Any) -> Any:
        """Records of earlier versions hold sentences: `findings`."""
        if not isinstance(data, dict) or "findings" not in data:
            return data
        told = [
            {"rule": "unclassified", "migration": "", "severity": "unknown", "message": sentence}
            for sentence in data["findings"]
        ]
        return {**{key: value for key, value in data.items() if key != "findings"}, "problems": told}

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong, and which migrations could not be rendered, a sentence each."""
        unrendered = (
            f"{migration.label} could not be rendered as SQL: {'; '.join(migration.sql.forward.because)}"
            for migration in self.pending
            if migration.sql.forward.statements is None
        )
        return tuple(dict.fromkeys([*(problem.message for problem in self.problems), *unrendered]))

    @property
    def tables(self) -> frozenset[str]:
        """The tables that the pending migrations name."""
        return frozenset(
            operation["table"] for migration in self.pending for operation in migration.operations if operation["table"]
        )


class AppliedMigration(Record):
    """One migration as it was applied."""

    label: str
    seconds: float | None = Field(description="None: applied by an attempt that died before it could say")


HolderKind = Literal[
    "session", "idle in transaction", "autovacuum", "autovacuum to prevent wraparound", "prepared transaction"
]
EndedBy = Literal["done", "lock timeout", "guard", "deadlock", "connection lost", "error"]


class Holder(Record):
    """A session that held what a migration waited for; never what it was at, which may hold values."""

    pid: int  # 0: a prepared transaction, which has no process
    kind: HolderKind
    application_name: str
    user: str
    state: str
    since: datetime | None  # when its transaction began; None: the server does not tell this role
    relation: str  # what was waited for; "": a row, or the end of a transaction
    waited_s: float  # by the migration


class SeenStatement(Record):
    """A statement of the migration as the guard saw it, looking every few hundredths of a second."""

    text: str  # without literals, at most 500 characters
    seconds: float
    waited_s: float  # of them, for locks
    locks: tuple[str, ...]  # "AccessExclusiveLock on documents_document", granted or waited for


class Attempt(Record):
    """One run of `migrate`, and what it cost others."""

    began: datetime
    seconds: float
    ended_by: EndedBy
    sqlstate: str | None = None
    waited_s: float = 0  # in all, for locks that others held
    blocked_others_s: float = 0  # the longest that one session was made to wait
    blocked_sessions: int = 0
    cancelled: int = 0  # how often the guard cancelled or ended its session
    holders: tuple[Holder, ...] = ()
    statements: tuple[SeenStatement, ...] = ()


class Applied(Record):
    """What `migrate` did."""

    migrations: tuple[AppliedMigration, ...]
    already: tuple[str, ...]  # found applied when the stage began: by an earlier attempt, or by somebody else
    seconds: float
    lock_timeout_s: float
    statement_timeout_s: float
    analyzed: tuple[str, ...]  # tables
    migrations_schema: str | None = None  # where django_migrations is now; the plan's may be from before there was one
    before: tuple[Listed, ...]
    after: tuple[Listed, ...]
    attempts: tuple[Attempt, ...] = ()
