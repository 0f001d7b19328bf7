"""What may be deployed: a commit that the remote has, in the branch of the environment, on a clean tree."""

from __future__ import annotations

import shutil
import subprocess
import time
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


def killed_inside_checkout(site: Site, commit: str, *, lock: bool = True) -> None:
    """Leave what `git checkout` leaves when it is killed: some files of the commit, the old index, its lock."""
    for path, text in (("manage.py", "# new"), ("new/file.txt", "brought")):
        assert git(site.app, "show", f"{commit}:{path}") == text
        (site.app / path).parent.mkdir(exist_ok=True)
        (site.app / path).write_text(text)
    (site.app / "README.md").unlink()
    if lock:
        (site.app / ".git" / "index.lock").touch()


@pytest.fixture
def wanted(staging_site: Site) -> str:
    """A commit that changes, brings and drops files, and changes more than a killed checkout came to."""
    desk = staging_site.app.with_name("desk")
    git(staging_site.repository, "worktree", "add", "--quiet", "--detach", str(desk), "v1.0")
    git(desk, "rm", "--quiet", "README.md")
    git(desk, "commit", "--quiet", "--message", "drop")
    dropped = git(desk, "rev-parse", "HEAD")
    files = {"manage.py": "# new", "new/file.txt": "brought", "new/later.txt": "later", "requirements.txt": "# other"}
    commit = staging_site.publish(files, on=dropped)
    staging_site.fetch()
    return commit


@pytest.mark.parametrize("lock", [True, False])
def test_a_checkout_that_was_killed_is_finished(staging_site: Site, wanted: str, lock: bool) -> None:
    here = Git(staging_site.environment)
    assert not here.interrupted(wanted)
    killed_inside_checkout(staging_site, wanted, lock=lock)
    assert here.interrupted(wanted)
    here.check_deployable(wanted, "the same")
    with pytest.raises(CodeError, match="has local changes"):
        here.check_deployable(here.head(), "what serves")
    here.checkout(wanted)
    assert (here.head(), here.changes(), here.untracked()) == (wanted, [], [])
    assert not (staging_site.app / ".git" / "index.lock").exists()
    assert not here.interrupted(wanted)


def test_a_checkout_that_was_killed_before_its_first_or_after_its_last_file_is_finished(
    staging_site: Site, wanted: str
) -> None:
    here, old = Git(staging_site.environment), staging_site.commit_of("v1.0")
    (staging_site.app / ".git" / "index.lock").touch()
    here.checkout(wanted)
    assert here.head() == wanted

    staging_site.check_out(old)
    (staging_site.app / "new").mkdir()
    (staging_site.app / "new" / "file.txt").write_text("brought")
    here.checkout(wanted)  # only a new file was written, which plain git would not overwrite
    assert (here.head(), here.changes()) == (wanted, [])

    git(staging_site.app, "update-ref", "--no-deref", "HEAD", old)  # files and index were written, HEAD was not
    (staging_site.app / ".git" / "HEAD.lock").touch()
    here.check_deployable(wanted, "the same")
    here.checkout(wanted)
    assert (here.head(), here.changes()) == (wanted, [])


@pytest.mark.parametrize("path", ["manage.py", "requirements.txt", "config/gunicorn.py", "new/later.txt"])
def test_an_edit_beside_a_killed_checkout_is_refused(staging_site: Site, wanted: str, path: str) -> None:
    here, file = Git(staging_site.environment), staging_site.app / path
    killed_inside_checkout(staging_site, wanted)
    file.write_text("# by hand\n")
    assert not here.interrupted(wanted)
    with pytest.raises(CodeError, match=rf"has local changes: [M?]+ {path}\n"):
        here.check_deployable(wanted, "the same")
    with pytest.raises(CodeError, match="git checkout failed"):
        here.checkout(wanted)
    assert file.read_text() == "# by hand\n"


def test_what_else_a_forced_checkout_would_lose_is_refused(staging_site: Site, wanted: str) -> None:
    here, app = Git(staging_site.environment), staging_site.app
    killed_inside_checkout(staging_site, wanted, lock=False)
    (app / "requirements.txt").unlink()  # the commit has it
    assert not here.interrupted(wanted)
    git(app, "checkout", "requirements.txt")
    (app / "requirements.txt").chmod(0o755)
    assert not here.interrupted(wanted)
    (app / "requirements.txt").chmod(0o644)
    (app / "new" / "later.txt").mkdir()
    (app / "new" / "later.txt" / "mine").touch()
    assert not here.interrupted(wanted)
    shutil.rmtree(app / "new")
    (app / "new").write_text("mine")
    assert not here.interrupted(wanted)
    (app / "new").unlink()
    assert here.interrupted(wanted)
    kept = (app / "requirements.txt").read_text()
    (app / "requirements.txt").write_text("staged")
    git(app, "add", "requirements.txt")
    (app / "requirements.txt").write_text(kept)
    assert not here.interrupted(wanted)


@pytest.mark.parametrize("how", ["open", "works"])
def test_a_lock_that_is_held_is_left(staging_site: Site, wanted: str, how: str) -> None:
    killed_inside_checkout(staging_site, wanted)
    lock = staging_site.app / ".git" / "index.lock"
    command = ["tail", "-f", str(lock)] if how == "open" else ["git", "cat-file", "--batch"]
    with subprocess.Popen(command, cwd=staging_site.app, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as other:
        try:
            deadline = time.monotonic() + 10
            while Path(f"/proc/{other.pid}/comm").read_text().strip() != command[0] or (
                how == "open" and not any(f.resolve() == lock for f in Path(f"/proc/{other.pid}/fd").iterdir())
            ):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with pytest.raises(CodeError, match=f"index.lock is held: .*{other.pid}") as caught:
                Git(staging_site.environment).checkout(wanted)
            assert caught.value.retryable
            assert lock.exists()
        finally:
            other.kill()
    Git(staging_site.environment).checkout(wanted)
    assert staging_site.checkout.commit == wanted
