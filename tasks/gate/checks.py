"""Prerequisites of §4 that need nothing but what is known already, or git."""

from __future__ import annotations

from datetime import datetime

from tasks.app.git import Git
from tasks.markdown.text import moment
from tasks.release.decisions import Check
from tasks.release.environment import Environment
from tasks.release.errors import CodeError
from tasks.release.plan import Plan

DRIFT = ("drift", "fake-applied")


def branch(environment: Environment, commit: str, ref: str) -> Check:
    """The environment's branch contains the commit, and nobody has edited the checkout; the remote was fetched."""
    try:
        Git(environment).check_deployable(commit, ref)
    except CodeError as error:
        return Check(name="branch", tick="no", evidence=error.message, mend=error.hint)
    app = environment.app
    return Check(name="branch", tick="yes", evidence=f"{app.remote}/{app.branch} contains {commit[:12]}")


def drift(plan: Plan) -> Check:
    """The database is what its applied migrations say."""
    found = [problem for problem in plan.problems if problem.rule in DRIFT]
    if not found:
        return Check(name="drift", tick="yes", evidence="the database is what its applied migrations say")
    return Check(
        name="drift",
        tick="no",
        evidence="; ".join(problem.message for problem in found),
        mend="; ".join(dict.fromkeys(problem.hint for problem in found if problem.hint)),
    )


def freeze(environment: Environment, at: datetime) -> Check:
    """No release freeze holds."""
    for one in environment.gate.freezes:
        if one.holds(at):
            return Check(
                name="release freeze",
                tick="no",
                evidence=f"nothing is released until {moment(one.ends)}: {one.reason}",
                mend="wait for its end; [gate] freezes of the environment file lists it",
            )
    return Check(name="release freeze", tick="yes", evidence="none holds now")
