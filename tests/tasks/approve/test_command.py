"""`runbook approve` and `runbook reject`, against a run that really waits."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from flows.cli import app
from tasks.release.errors import RefusedError, RunbookError
from tests.tasks.approve.conftest import Deployed


def test_the_commands_show_the_question_and_answer_it(asking: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", str(asking.api.base_url))
    command = CliRunner(env={"COLUMNS": "160"})
    approve = ["approve", "production", "--by", "Ada", "--standby", "Grace", "--yes"]

    nothing = command.invoke(app, approve)
    assert isinstance(nothing.exception, RefusedError)
    assert "no release of production waits" in nothing.exception.message

    run = asking.ask()
    unsure = command.invoke(app, approve[:-1], input="n\n")
    assert "documents.0002_document_category" in unsure.output
    assert (unsure.exit_code, asking.state_of(run)) == (1, "Suspended")
    nameless = command.invoke(app, ["reject", "production", "--by", "x", "--yes"])
    assert isinstance(nameless.exception, RunbookError)
    assert "was not taken" in nameless.exception.message

    assert command.invoke(app, approve).exit_code == 0
    assert "waits no more" in str(command.invoke(app, approve).exception)
    asking.go_on(run)
    release = asking.release
    assert release.approval is not None
    assert (release.status, release.approval.by, release.approval.standby) == ("finished", "Ada", "Grace")
