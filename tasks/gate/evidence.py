"""The prerequisite that the same migrations were proved before: by a release of the environment before this one."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import NamedTuple

from tasks.markdown.text import duration
from tasks.release.decisions import Check
from tasks.release.environment import Environment, load
from tasks.release.evidence import Evidence
from tasks.release.migration_set import hash_of
from tasks.release.plan import Plan
from tasks.release.release import Release, Status
from tasks.store.bucket import Bucket
from tasks.store.evidence import newest
from tasks.store.ledger import Ledger

THROUGH: frozenset[Status] = frozenset({"watching", "finished"})  # a convicted release serves, and is no evidence


class Found(NamedTuple):
    """The check, and what it rests on."""

    check: Check
    evidence: Evidence | None = None


def staging_evidence(environment: Environment, plan: Plan, ref: str, at: datetime) -> Found:
    """Whether the environment before has rehearsed these very migrations, and its release of them got through.

    Raises:
        ConfigurationError: The file of the environment before is missing or wrong.
        StoreError: Its bucket refuses or is lost.
    """
    name, before = "staging evidence", environment.gate.evidence_from
    if before is None:
        return Found(Check(name=name, tick="yes", evidence="not asked for: [gate] evidence_from names no environment"))
    if not plan.pending:
        return Found(Check(name=name, tick="yes", evidence="not needed: no migration is pending"))
    bucket = Bucket(load(before).storage)
    deploy = f"`runbook deploy {before} --ref {ref}`"
    evidence = newest(bucket, hash_of(plan))
    if evidence is None:
        return Found(
            Check(
                name=name,
                tick="no",
                evidence=f"{before} has not rehearsed these {len(plan.pending)} migrations, as they are in this commit"
                f" with Django {plan.django} on this PostgreSQL",
                mend=f"{deploy} first; the same Django and the same major version of PostgreSQL have to be there",
            )
        )
    told = f"release {evidence.release_id} of {before}"
    age_s = (at - evidence.kept_at).total_seconds()
    if not evidence.passed:
        return Found(Check(name=name, tick="no", evidence=f"{told} rehearsed them, and they did not pass", mend=deploy))
    if age_s > environment.gate.evidence_max_age_s:
        limit = duration(environment.gate.evidence_max_age_s)
        old = f"{told} rehearsed them {duration(age_s)} ago; allowed are {limit}"
        return Found(Check(name=name, tick="no", evidence=old, mend=f"{deploy} --release-id new rehearses them again"))
    return Found(_through(Ledger(bucket, before), evidence, plan, told, deploy), evidence)


def _through(ledger: Ledger, evidence: Evidence, plan: Plan, told: str, deploy: str) -> Check:
    name = "staging evidence"
    release = ledger.load(evidence.release_id)
    if release.status not in THROUGH:
        # A release that failed after its migrations is often mended by one that has none left to rehearse.
        newer = itertools.takewhile(lambda one: one.id != evidence.release_id, ledger.newest())
        since = next((one for one in newer if one.status in THROUGH and _has(one, plan)), None)
        if since is None:
            why = f": {release.verdict.sentence}" if release.status == "convicted" and release.verdict else ""
            return Check(
                name=name,
                tick="no",
                evidence=f"{told} rehearsed them and is {release.status}{why}",
                mend=f"`runbook report {release.environment}` says why; then {deploy}",
            )
        told = f"{told} rehearsed them; release {since.id}, which runs on them,"
        release = since
    ended = "is being watched" if release.status == "watching" else "got through"
    return Check(name=name, tick="yes", evidence=f"{told} {ended}")


def _has(release: Release, plan: Plan) -> bool:
    """Whether the migrations stood applied when a release was planned or done."""
    listed = (*(release.plan.listed if release.plan else ()), *(release.applied.after if release.applied else ()))
    applied = {f"{one.app}.{one.name}" for one in listed if one.applied}
    return applied >= {migration.label for migration in plan.pending}
