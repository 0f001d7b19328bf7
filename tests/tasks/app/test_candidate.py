"""The candidate: beside the serving code, never in its way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tasks.app.candidate import KEPT, prepare, serving
from tasks.app.probing import plan
from tasks.release.errors import CodeError, CommandError
from tests.fix_app import Site, git

QUIET: list[str] = []


def candidates(site: Site) -> Path:
    return site.app.with_name(f".{site.app.name}-candidates")


def test_the_candidate_is_asked_while_the_old_code_serves(staging_site: Site) -> None:
    commit = staging_site.commit_of("v1.1")
    checkout = prepare(staging_site.environment, commit, QUIET.append)
    assert checkout.directory.parent == candidates(staging_site)
    assert checkout.python == staging_site.python, "the same requirements need no other interpreter"
    assert staging_site.checkout.commit == staging_site.commit_of("v1.0")
    pending = [migration.label for migration in plan(staging_site.environment, checkout).pending]
    assert pending == ["documents.0002_document_category", "documents.0003_category_index"]
    assert git(staging_site.app, "status", "--porcelain") == ""


def test_what_serves_already_needs_no_candidate(staging_site: Site) -> None:
    checkout = prepare(staging_site.environment, staging_site.commit_of("v1.0"), QUIET.append)
    assert checkout == serving(staging_site.environment)
    assert not candidates(staging_site).exists()


def test_a_whole_candidate_is_used_again_and_a_half_made_one_is_made_anew(staging_site: Site) -> None:
    commit = staging_site.commit_of("v1.1")
    directory = prepare(staging_site.environment, commit, QUIET.append).directory
    mark = directory / "mark"
    mark.write_text("")
    prepare(staging_site.environment, commit, QUIET.append)
    assert mark.exists(), "it was used again"
    (directory / "manage.py").unlink()  # killed while the files were written
    prepare(staging_site.environment, commit, QUIET.append)
    assert (directory / "manage.py").exists()
    assert not mark.exists()
    (directory / ".git").unlink()
    prepare(staging_site.environment, commit, QUIET.append)
    assert git(directory, "rev-parse", "HEAD") == commit


def test_other_requirements_get_an_interpreter_of_their_own(staging_site: Site) -> None:
    commit = staging_site.publish({"requirements.txt": "# nothing at all\n"})
    staging_site.fetch()
    before = installed(staging_site.python)
    told: list[str] = []
    checkout = prepare(staging_site.environment, commit, told.append)
    assert checkout.python.is_relative_to(checkout.directory)
    assert "django" not in installed(checkout.python)
    assert installed(staging_site.python) == before
    assert len(told) == 1
    made = checkout.python.lstat().st_mtime_ns
    prepare(staging_site.environment, commit, QUIET.append)
    assert checkout.python.lstat().st_mtime_ns == made, "it is not made twice"


def test_an_interpreter_that_was_half_made_is_made_anew(staging_site: Site) -> None:
    commit = staging_site.publish({"requirements.txt": "# nothing at all\n"})
    staging_site.fetch()
    broken = staging_site.configure(app={"install": ["{python}", "-c", "raise SystemExit('disk full')"]})
    with pytest.raises(CommandError, match="disk full"):
        prepare(broken, commit, QUIET.append)
    whole = staging_site.configure(app={"install": ["{python}", "-c", ""]})
    assert prepare(whole, commit, QUIET.append).python.exists()


def installed(python: Path) -> set[str]:
    code = "import importlib.metadata as m; print(*(d.name.lower() for d in m.distributions()))"
    return set(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_files_outside_git_are_linked_even_before_they_exist(staging_site: Site) -> None:
    environment = staging_site.configure(app={"untracked": [".env", "config/later.ini"]})
    commit = staging_site.commit_of("v1.1")
    directory = prepare(environment, commit, QUIET.append).directory
    assert (directory / ".env").read_text() == (staging_site.app / ".env").read_text()
    prepare(environment, commit, QUIET.append)
    (staging_site.app / "config/later.ini").write_text("now")
    assert (directory / "config/later.ini").read_text() == "now"


def test_old_candidates_go(staging_site: Site) -> None:
    tags = ("v1.1", "v1.2-unique", "v1.2-slow", "v1.2-errors", "v1.2-not-null")
    for age, tag in enumerate(tags):
        directory = prepare(staging_site.environment, staging_site.commit_of(tag), QUIET.append).directory
        os.utime(directory, (1_000_000_000 + age, 1_000_000_000 + age))
    left = {path.name for path in candidates(staging_site).iterdir()}
    assert left == {staging_site.commit_of(tag)[:12] for tag in tags[-KEPT:]}


def test_a_site_without_checkout_is_named(staging_site: Site) -> None:
    with pytest.raises(CodeError, match="nowhere does not exist") as caught:
        serving(staging_site.configure(app={"directory": "nowhere"}))
    assert "[app] directory" in caught.value.hint
