"""The example application's history is the same wherever it is built, and its releases are what they say."""

import subprocess
import sys
from pathlib import Path

import pytest

from examples.chatbot.history import BAD, GOOD, History, build_history
from tests.fix_postgres import PostgresServer

SOURCE = Path(__file__).parents[2] / "examples" / "chatbot"
TAGS = ("v1.0", GOOD, *BAD)


@pytest.fixture(scope="session")
def repository(chatbot_history: Path) -> History:
    return History(chatbot_history)


def test_each_build_gives_the_same_commits(
    repository: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\n\tname = Somebody Else\n[commit]\n\tgpgSign = true\n[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    build_history(tmp_path / "again")
    assert History(tmp_path / "again").refs() == repository.refs()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "gitconfig"]


def test_building_again_leaves_a_repository_alone(tmp_path: Path) -> None:
    build_history(tmp_path / "repository")
    history = History(tmp_path / "repository")
    history.git("branch", "feature/mine")
    before = history.refs()
    build_history(tmp_path / "repository")
    assert history.refs() == before


def test_something_else_at_the_destination_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else"):
        build_history(tmp_path / "notes")
    assert [path.name for path in tmp_path.rglob("*")] == ["notes", "mine.txt"]


def test_it_is_a_program_too(repository: History, tmp_path: Path) -> None:
    subprocess.run([sys.executable, SOURCE / "history.py", tmp_path / "repository"], check=True)
    assert History(tmp_path / "repository").refs() == repository.refs()


def test_every_release_is_tagged_and_an_ancestor_of_both_branches(repository: History) -> None:
    assert set(repository.git("tag").split()) == set(TAGS)
    assert {path.name for path in (SOURCE / "releases").iterdir()} == set(TAGS) - {"v1.0"}
    for branch in ("main", "develop"):
        assert set(repository.git("tag", "--merged", branch).split()) == set(TAGS)


def test_the_branches_end_with_the_tree_of_the_good_release(repository: History) -> None:
    good = repository.git("rev-parse", f"{GOOD}^{{tree}}")
    assert {repository.git("rev-parse", f"{branch}^{{tree}}") for branch in ("main", "develop")} == {good}
    assert repository.git("status", "--porcelain") == ""


@pytest.mark.parametrize("tag", BAD)
def test_a_bad_release_stands_on_the_good_one_with_one_migration_more(repository: History, tag: str) -> None:
    assert repository.git("rev-parse", f"{tag}~1^{{tree}}") == repository.git("rev-parse", f"{GOOD}^{{tree}}")
    added = repository.git("diff", "--name-only", "--diff-filter=A", GOOD, tag, "--", "*/migrations/*").split()
    assert len(added) == 1
    assert not repository.git("diff", "--name-only", "--diff-filter=D", GOOD, tag)


@pytest.mark.parametrize("tag", TAGS)
def test_the_models_of_a_release_agree_with_its_migrations(
    repository: History, chatbot_python: Path, tmp_path: Path, tag: str
) -> None:
    repository.git("worktree", "add", "--detach", "--quiet", str(tmp_path / "tree"), tag)
    # Nothing listens on port 1: Django warns that it cannot look at the recorded migrations, and compares all the same.
    check = subprocess.run(
        [chatbot_python, "manage.py", "makemigrations", "--check", "--dry-run"],
        cwd=tmp_path / "tree",
        env={"DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert "No changes detected" in check.stdout


@pytest.mark.parametrize("tag", ["v1.0", GOOD])
def test_the_applications_own_suite_passes(
    repository: History, chatbot_python: Path, postgres: PostgresServer, tmp_path: Path, tag: str
) -> None:
    repository.git("worktree", "add", "--detach", "--quiet", str(tmp_path / "tree"), tag)
    suite = subprocess.run(
        [chatbot_python, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path / "tree",
        env={
            "DATABASE_HOST": postgres.host,
            "DATABASE_PORT": str(postgres.port),
            "DATABASE_USER": postgres.superuser,
            "DATABASE_PASSWORD": postgres.password,
            "DATABASE_NAME": f"suite_{tag.replace('.', '_')}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert suite.returncode == 0, suite.stdout + suite.stderr
