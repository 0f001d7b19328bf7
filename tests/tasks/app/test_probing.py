"""Asking the application: whose code answers, and what is kept of the answer."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tasks.app.candidate import prepare, serving
from tasks.app.probing import plan
from tasks.release.environment import Environment
from tasks.release.errors import AppError, CodeError
from tests.fix_app import Site

TOKEN = 'hunter2"\\é-token'  # JSON writes it in another way
LATER = ["documents.0002_document_category", "documents.0003_category_index"]
ADMIN = (
    "from django.core.management import execute_from_command_line\nimport sys\nexecute_from_command_line(sys.argv)\n"
)


def test_the_serving_code_is_not_taken_for_the_candidates(staging_site: Site, tmp_path: Path) -> None:
    """The application is installed in editable form: its interpreter finds the serving code, wherever it is started."""
    python = tmp_path / "editable" / "bin" / "python"
    subprocess.run([staging_site.python, "-m", "venv", "--without-pip", python.parents[1]], check=True)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    installed, own = (
        subprocess.run([interpreter, "-c", where], check=True, capture_output=True, text=True).stdout.strip()
        for interpreter in (staging_site.python, python)
    )
    (Path(own) / "editable.pth").write_text(f"{installed}\n{staging_site.app}\n")
    admin = python.with_name("admin.py")
    admin.write_text(ADMIN)

    environment = staging_site.configure(app={"python": str(python), "manage": ["{python}", str(admin)]})
    checkout = prepare(environment, staging_site.commit_of("v1.1"), print)
    with pytest.raises(CodeError, match=r"imported config\.settings\.staging from .*the code which serves") as caught:
        plan(environment, checkout)
    assert str(staging_site.app / "config" / "settings" / "staging.py") in caught.value.message
    served = plan(environment, serving(environment))
    assert (served.pending, served.findings) == ((), ())

    assert '"PYTHONPATH={directory}"' in caught.value.hint
    mended = staging_site.configure(app={"manage": ["PYTHONPATH={directory}", "{python}", str(admin)]})
    assert [migration.label for migration in plan(mended, checkout).pending] == LATER


def test_what_the_candidate_shares_with_the_serving_code_is_no_mistake(staging_site: Site) -> None:
    (staging_site.app / "settings_here.py").write_text("from config.settings.staging import *\n")
    environment = staging_site.configure(
        app={
            "settings": "settings_here",
            "untracked": [".env", "settings_here.py"],
            "manage": [f"PYTHONPATH={staging_site.app}", "{python}", "manage.py"],
        }
    )
    checkout = prepare(environment, staging_site.commit_of("v1.1"), print)
    assert len(plan(environment, checkout).pending) == len(LATER)
    (checkout.directory / "settings_here.py").unlink()  # now found in the serving directory
    assert len(plan(environment, checkout).pending) == len(LATER)


def test_no_secret_of_the_environment_is_kept(staging_site: Site) -> None:
    (staging_site.directory / "token").write_text(TOKEN, encoding="utf-8")
    environment = staging_site.configure(app={"secrets": {"TOKEN": {"file": "token"}}})
    body = (
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        '    dependencies = [("documents", "0001_initial")]\n'
        f"    operations = [migrations.RunSQL([{TOKEN!r}, 'SELECT 1'])]\n"
    )
    commit = staging_site.publish({"apps/documents/migrations/0002_secret.py": body})
    staging_site.fetch()
    made = plan(environment, prepare(environment, commit, print))
    assert TOKEN not in str(made.model_dump())
    [secret] = made.pending
    assert secret.label == "documents.0002_secret"
    assert secret.operations[0]["sql"] == ["******", "SELECT 1"]
    assert secret.sql.forward.statements is not None
    assert "******" in secret.sql.forward.statements[0]


def test_names_stay_though_a_weak_password_is_part_of_them(staging_site: Site) -> None:
    (staging_site.directory / "weak").write_text("documents")
    environment = staging_site.configure(app={"secrets": {"UNUSED": {"file": "weak"}}})
    made = plan(environment, prepare(environment, staging_site.commit_of("v1.1"), print))
    assert [migration.label for migration in made.pending] == LATER
    assert made.tables == {"documents_document"}


def answering(site: Site, answer: object) -> Environment:
    """An application whose management command gives this answer to the probe."""
    code = f"import os; open(os.environ['RUNBOOK_PROBE_ANSWER'], 'w').write({json.dumps(answer)!r})"
    return site.configure(app={"manage": ["{python}", "-c", code]})


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({}, "KeyError 'django'"),
        ({"error": {"type": "Odd"}, "identity": {}}, "Odd inside the application: None"),
        ({"code": {}, "django": "5", "python": "3", "settings": "x"}, "KeyError 'identity'"),
        (
            {"code": {}, "django": "5", "python": "3", "settings": "x", "identity": {"user": ["private"]}},
            "user: Input should be a valid string",
        ),
    ],
)
def test_an_answer_that_is_not_understood_is_an_error_of_ours(staging_site: Site, answer: object, told: str) -> None:
    with pytest.raises(AppError) as caught:
        plan(answering(staging_site, answer), staging_site.checkout)
    assert told in caught.value.message
    assert "private" not in str(caught.value)


def test_the_hint_does_not_tell_variables(staging_site: Site) -> None:
    environment = staging_site.configure(app={"manage": ["TOKEN=private", "{python}", "no-such-file.py"]})
    with pytest.raises(AppError) as caught:
        plan(environment, staging_site.checkout)
    assert caught.value.hint == "does this work there? {python} no-such-file.py check"
    assert "private" not in str(caught.value)
