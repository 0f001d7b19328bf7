"""Cases of migrations written by hand (Python, SQL, third-party operations), and what is found in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from pydantic import SecretStr

from tasks.app.probing import understood
from tasks.release.environment import Database
from tasks.release.plan import Plan
from tasks.release.risk import Finding
from tasks.risk.facts import Facts
from tasks.risk.judge import judge
from tasks.risk.live import LiveFacts
from tasks.risk.rules import python, sql, squawk, whole
from tests.tasks.app.django_projects import Project
from tests.tasks.risk.no_database import NoDatabase

MINE = {rule.id for family in (python, sql, squawk, whole) for rule in family.RULES}
# Order has many rows, a third of them without a note; `fresh` is NULL everywhere; Tiny has a few rows.
BASE = """
migrations.CreateModel("Customer", [
    ("id", models.BigAutoField(primary_key=True)),
    ("name", models.TextField(null=True)),
]),
migrations.CreateModel("Order", [
    ("id", models.BigAutoField(primary_key=True)),
    ("number", models.IntegerField()),
    ("code", models.CharField(max_length=50)),
    ("note", models.TextField(null=True)),
    ("fresh", models.IntegerField(null=True)),
    ("customer", models.ForeignKey("Customer", models.CASCADE, null=True)),
]),
migrations.CreateModel("Tiny", [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())]),
migrations.CreateModel("Empty", [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())]),
"""
ROWS = 3000
SHARED = "shop"  # the app of all cases without one of their own
FILL = f"""
INSERT INTO "{{app}}_customer" (name) SELECT 'c' || n FROM generate_series(1, {ROWS}) n;
INSERT INTO "{{app}}_order" (number, code, note, customer_id)
    SELECT n, 'code ' || n, CASE WHEN n % 3 > 0 THEN 'x' END, n FROM generate_series(1, {ROWS}) n;
SET CONSTRAINTS ALL IMMEDIATE;
CREATE VIEW "{{app}}_names" AS SELECT name FROM "{{app}}_customer";
ALTER TABLE "{{app}}_order" ADD CONSTRAINT {{app}}_old CHECK (number <> 2999) NOT VALID;
ALTER TABLE "{{app}}_order" ADD CONSTRAINT {{app}}_key FOREIGN KEY (number) REFERENCES "{{app}}_tiny" NOT VALID;
INSERT INTO "{{app}}_tiny" (name) SELECT 'tiny ' || n FROM generate_series(1, 5) n;
"""


@dataclass(frozen=True)
class Case:
    """One or more pending migrations and the rules that find something in them; {app} stands for its app.

    All cases are migrations of one app, one after the other, unless a case that changes models asks for its own.
    """

    name: str
    expected: tuple[str, ...]  # of the rules under test; sorted, once each
    operations: str | Sequence[str]
    head: str = ""
    atomic: bool = True
    files: dict[str, str] = field(default_factory=dict)
    own_app: bool = False

    @property
    def app(self) -> str:
        return self.name if self.own_app else SHARED

    @property
    def migrations(self) -> dict[str, str]:
        listed = [self.operations] if isinstance(self.operations, str) else self.operations
        return {f"{self.name}_{number}": text for number, text in enumerate(listed)}


@dataclass(frozen=True)
class Judged:
    """The plan of all cases and what is found in each."""

    plan: Plan
    project: Project
    database: Database

    @property
    def home(self) -> Path:
        return self.project.home

    def findings(self, case: Case, facts: Facts | None = None) -> list[Finding]:
        """What the rules under test find in a case, by the facts of its database unless others are given."""
        pending = tuple(each for each in self.plan.pending if each.app == case.app and each.name in case.migrations)
        assert len(pending) == len(case.migrations), case.name
        one = self.plan.model_copy(update={"pending": pending})
        if facts is not None:
            return self._mine(one, facts)
        with LiveFacts(self.database, "public") as live:
            return self._mine(one, live)

    def without_database(self, case: Case) -> list[Finding]:
        return self.findings(case, NoDatabase())

    def _mine(self, plan: Plan, facts: Facts) -> list[Finding]:
        findings = judge(plan, facts, self.home).findings
        return [each for each in findings if each.rule in MINE or each.rule.startswith("squawk-")]


def rules_of(findings: list[Finding]) -> tuple[str, ...]:
    return tuple(sorted({finding.rule for finding in findings}))


@contextmanager
def judged(project: Project, cases: Sequence[Case]) -> Iterator[Judged]:
    """Write the cases into a project, fill its tables, and ask the probe once."""
    server = project.server
    apps = list(dict.fromkeys(case.app for case in cases))
    for app in apps:
        project.app(app, "")
        project.migration(app, "m0", BASE)
    project.manage("migrate", "--verbosity=0")
    with psycopg.connect(server.dsn(project.database), autocommit=True) as connection:
        for app in apps:
            connection.execute(FILL.replace("{app}", app).encode())
        connection.execute("ANALYZE")
    last = dict.fromkeys(apps, "m0")
    for case in cases:
        for path, text in case.files.items():
            project.write(path.replace("{app}", case.app), text.replace("{app}", case.app))
        for name, operations in case.migrations.items():
            text = operations.replace("{app}", case.app)
            head, body = case.head.replace("{app}", case.app), "" if case.atomic else "atomic = False"
            project.migration(case.app, name, text, after=last[case.app], head=head, body=body)
            last[case.app] = name
    told = project.probe("identity", "plan")
    assert told["error"] is None, told["error"]
    database = Database(
        host=server.host,
        port=server.port,
        name=project.database,
        user=server.superuser,
        password=SecretStr(server.password),
    )
    yield Judged(understood(told), project, database)
