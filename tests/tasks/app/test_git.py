"""What may be deployed: a commit that the remote has, in the branch of the environment, on a clean tree."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tasks.app.git import Git
from tasks.release.errors import CodeError, ConfigurationError
from tests.fix_app import Site, git


def test_tags_branches_and_hashes_are_found(staging_site: Site) -> None:
    here = Git(staging_site.environment)
    commit = staging_site.commit_of("v1.1")
    assert here.commit_of("v1.1") == here.commit_of(commit) == here.commit_of(commit[:10]) == commit
    assert here.commit_of("develop") == staging_site.commit_of("develop")
    assert here.head() == staging_site.commit_of("v1.0")


@pytest.mark.parametrize(
    "ref", ["v9.9", "", "no such thing", "--upload-pack=x", "-h", "..", "0" * 40, "v1.1:manage.py"]
)
def test_what_names_no_commit_is_refused(staging_site: Site, ref: str) -> None:
    with pytest.raises(CodeError) as caught:
        Git(staging_site.environment).commit_of(ref)
    assert repr(ref) in caught.value.message
    assert caught.value.hint
    assert not caught.value.retryable


def test_the_remotes_branch_goes_before_a_local_one(staging_site: Site) -> None:
    old, new = staging_site.commit_of("v1.0"), staging_site.publish({"new.txt": ""}, on="develop")
    git(staging_site.app, "branch", "--force", "develop", old)
    here = Git(staging_site.environment)
    here.fetch()
    assert here.commit_of("develop") == new


def test_only_what_the_branch_contains_is_deployable(staging_site: Site) -> None:
    here = Git(staging_site.environment)
    stray = staging_site.publish({"stray.txt": ""}, branch="feature", tag="v7")
    here.fetch()
    assert here.commit_of("v7") == stray
    assert not here.branch_contains(stray)
    with pytest.raises(CodeError, match=r"is not contained in origin/develop") as caught:
        here.check_deployable(stray, "stray")
    assert "staging deploys only what that branch contains" in caught.value.hint
    here.check_deployable(here.commit_of("v1.1"), "v1.1")


def test_a_branch_that_the_remote_has_not_is_named(staging_site: Site) -> None:
    here = Git(staging_site.configure(app={"branch": "nowhere"}))
    with pytest.raises(CodeError, match="origin/nowhere"):
        here.check_deployable(staging_site.commit_of("v1.1"), "v1.1")


def test_local_changes_are_named_and_untracked_files_are_not_changes(staging_site: Site) -> None:
    here = Git(staging_site.environment)
    (staging_site.app / "notes.txt").write_text("mine")
    here.check_deployable(here.head(), "HEAD")
    (staging_site.app / "manage.py").write_text("")
    (staging_site.app / "README.md").unlink()
    with pytest.raises(CodeError, match=r"has local changes: .*README\.md.*manage\.py") as caught:
        here.check_deployable(here.head(), "HEAD")
    assert "nothing was deployed" in caught.value.hint


def test_a_tag_that_was_moved_does_not_block_every_later_fetch(staging_site: Site) -> None:
    here = Git(staging_site.environment)
    moved = staging_site.publish({"fix.txt": ""}, on="develop")
    git(staging_site.repository, "tag", "--force", "v1.1", moved)
    here.fetch()
    assert here.commit_of("v1.1") == moved


def test_a_remote_that_is_away_may_come_back(staging_site: Site) -> None:
    staging_site.repository.rename(staging_site.repository.with_name("gone"))
    with pytest.raises(CodeError, match=r"cannot fetch from origin: .*does not appear to be a git") as caught:
        Git(staging_site.environment).fetch()
    assert caught.value.retryable
    assert "reachable" in caught.value.hint


def test_the_repository_that_is_asked_is_that_of_the_environment(
    staging_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "--quiet", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert Git(staging_site.environment).head() == staging_site.commit_of("v1.0")


def test_no_hook_runs(staging_site: Site, tmp_path: Path) -> None:
    hook = staging_site.app / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'it-ran'}\n")
    hook.chmod(0o755)
    Git(staging_site.environment).checkout(staging_site.commit_of("v1.1"))
    assert not (tmp_path / "it-ran").exists()


def test_what_lies_between_two_commits(staging_site: Site) -> None:
    here = Git(staging_site.environment)
    old, new = staging_site.commit_of("v1.0"), staging_site.commit_of("v1.1")
    [subject] = here.subjects(old, new)
    assert new.startswith(subject.split()[0])
    assert here.subjects(new, old) == []
    assert here.differing(old, new, ["apps"])
    assert not here.differing(old, new, ["requirements.txt"])
    assert not here.differing(old, new, ["requirements*.txt"])
    assert not here.differing(old, new, [])
    newer = staging_site.publish({"poetry.lock": "django 5.2"}, on=new)
    here.fetch()
    assert here.differing(new, newer, ["requirements.txt", "poetry.lock"])
    assert here.differing(newer, old, ["poetry.lock"])


def test_requirements_that_no_commit_has_are_refused(staging_site: Site) -> None:
    old, new = staging_site.commit_of("v1.0"), staging_site.commit_of("v1.1")
    with pytest.raises(ConfigurationError, match=r"\[app\] requirements names uv\.lock, which neither") as caught:
        Git(staging_site.environment).differing(old, new, ["requirements.txt", "uv.lock"])
    assert "[app] install" in caught.value.hint


def test_a_worktree_that_was_killed_in_the_making_is_made_anew(staging_site: Site) -> None:
    here, commit = Git(staging_site.environment), staging_site.commit_of("v1.1")
    directory = staging_site.app.with_name("beside")
    here.add_worktree(directory, commit)
    git(staging_site.app, "worktree", "lock", "--reason", "initializing", str(directory))
    shutil.rmtree(directory)
    here.add_worktree(directory, commit)
    assert git(directory, "rev-parse", "HEAD") == commit


def test_a_worktree_that_cannot_be_made_says_what_to_look_at(staging_site: Site) -> None:
    file, commit = staging_site.app.with_name("file"), staging_site.commit_of("v1.1")
    file.write_text("")
    with pytest.raises(CodeError, match="git worktree failed") as caught:
        Git(staging_site.environment).add_worktree(file / "below", commit)
    assert "may this user write" in caught.value.hint


def test_a_directory_that_is_no_checkout_is_named(staging_site: Site, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CodeError, match=r"git rev-parse failed in .*empty"):
        Git(staging_site.environment, tmp_path / "empty").head()
