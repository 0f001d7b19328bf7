"""What the rules of the runbook refuse, whatever stage asks."""

from __future__ import annotations

import pytest

from tasks.release.errors import RefusedError
from tasks.release.rules import refuse_blocked
from tests.builders import finding, plan, rehearsal, rehearsed, release, risk

LABEL = "documents.0002_document_category"


def test_what_is_not_judged_is_refused() -> None:
    with pytest.raises(RefusedError, match="was not judged"):
        refuse_blocked(release(plan=plan(LABEL)))


def test_a_blocked_finding_is_refused_before_anything_is_rehearsed() -> None:
    blocked = finding("duplicate-values", severity="blocked", message="5 rows share a title", harm="fails")
    with pytest.raises(RefusedError, match=r"v1\.1 is blocked: documents.*5 rows share a title") as caught:
        refuse_blocked(release(plan=plan(LABEL), risk=risk(blocked)))
    assert "runbook report staging" in caught.value.hint


def test_a_migration_that_failed_on_the_backup_is_refused() -> None:
    failed = rehearsal(rehearsed(error="could not create unique index"))
    with pytest.raises(RefusedError, match="on the backup: could not create unique index"):
        refuse_blocked(release(plan=plan(LABEL), risk=risk(labels=(LABEL,)), rehearsal=failed))


def test_a_high_risk_is_for_the_environment_to_decide() -> None:
    refuse_blocked(release(plan=plan(LABEL), risk=risk(finding(severity="high")), rehearsal=rehearsal()))
