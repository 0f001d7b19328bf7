"""The candidate: beside the serving code, never in its way."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.app.candidate import KEPT, prepare, serving
from tasks.app.probing import plan
from tasks.release.errors import CodeError, CommandError, ConfigurationError
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
    left = {path.name for path in candidates(staging_site).iterdir() if path.is_dir()}
    assert left == {staging_site.commit_of(tag)[:12] for tag in tags[-KEPT:]}


def test_a_candidate_that_is_used_is_not_old(staging_site: Site) -> None:
    first = prepare(staging_site.environment, staging_site.commit_of("v1.1"), QUIET.append).directory
    os.utime(first, (1_000_000_000, 1_000_000_000))
    for tag in ("v1.2-unique", "v1.2-slow"):
        prepare(staging_site.environment, staging_site.commit_of(tag), QUIET.append)
    prepare(staging_site.environment, staging_site.commit_of("v1.1"), QUIET.append)
    prepare(staging_site.environment, staging_site.commit_of("v1.2-errors"), QUIET.append)
    assert first.exists()


def test_one_run_prepares_at_a_time(staging_site: Site) -> None:
    """Two runs of one commit: the second one waits, and finds what the first one made."""
    commit = staging_site.publish({"requirements.txt": "# nothing at all\n"})
    staging_site.fetch()
    trace = staging_site.app.with_name("trace")
    install = f"import time; f = open({str(trace)!r}, 'a', 1); print('in', file=f); time.sleep(1); print('out', file=f)"
    environment = staging_site.configure(app={"install": ["{python}", "-c", install]})
    told: list[str] = []
    with ThreadPoolExecutor() as pool:  # flock is of the open file, so threads exclude each other as processes do
        runs = [pool.submit(prepare, environment, commit, told.append) for _ in range(2)]
        assert runs[0].result(60) == runs[1].result(60)
    assert trace.read_text().split() == ["in", "out"]
    assert sum("waiting until it is done" in line for line in told) == 1


def test_a_place_that_cannot_be_written_is_named(staging_site: Site) -> None:
    candidates(staging_site).write_text("in the way")
    with pytest.raises(CodeError, match=r"no candidate can be made in .*-candidates") as caught:
        prepare(staging_site.environment, staging_site.commit_of("v1.1"), QUIET.append)
    assert "beside the checkout" in caught.value.hint


def test_requirements_that_are_nowhere_are_refused(staging_site: Site) -> None:
    environment = staging_site.configure(app={"requirements": ["poetry.lock"]})
    with pytest.raises(ConfigurationError, match=r"\[app\] requirements names poetry\.lock"):
        prepare(environment, staging_site.commit_of("v1.1"), QUIET.append)


def test_a_site_without_checkout_is_named(staging_site: Site) -> None:
    with pytest.raises(CodeError, match="nowhere does not exist") as caught:
        serving(staging_site.configure(app={"directory": "nowhere"}))
    assert "[app] directory" in caught.value.hint
