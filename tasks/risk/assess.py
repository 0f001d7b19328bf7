"""The assessment of one release: its plan, the live facts, both checkouts, what is wrong with the plan itself."""

from __future__ import annotations

from tasks.app.command import Checkout
from tasks.release.environment import Environment
from tasks.release.plan import Plan
from tasks.release.risk import Risk
from tasks.risk.judge import judge
from tasks.risk.live import LiveFacts
from tasks.risk.problems import findings_of


def assess(environment: Environment, plan: Plan, candidate: Checkout, previous: Checkout) -> Risk:
    """Judge a release's plan for the environment's database.

    Args:
        environment: Names the database and the time that questions to it may take.
        plan: The pending migrations.
        candidate: The code that is to be deployed.
        previous: The code that serves until then.

    Raises:
        DatabaseError: The database cannot be reached; a single question that fails is an unknown fact.
    """
    limits = environment.risk
    with LiveFacts(
        environment.database,
        plan.database.migrations_schema,
        statement_timeout_s=limits.question_s,
        total_s=limits.facts_s,
    ) as facts:
        return judge(plan, facts, candidate.directory, previous.directory, more=findings_of(plan), limits=limits)
