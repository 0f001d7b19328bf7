"""Deploying code: no code without a proved backup, requirements only when they differ, and a reload that is heard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tasks.code.deploy import deploy, reload
from tasks.release.errors import CodeError, CommandError, RefusedError, StaleBackupError
from tests.builders import backup, plan, release, verification
from tests.fix_app import Site

PROVED = {"plan": plan(), "backup": backup(), "verification": verification()}


def test_a_release_is_checked_out_and_reloaded(served_site: Site) -> None:
    site, told = served_site, list[str]()
    before, commit = site.commit_of("v1.0"), site.commit_of("v1.1")
    site.manage("migrate", "--no-input")
    assert httpx.get(f"{site.url}/api/health").json()["release"] == before

    made = deploy(
        site.environment,
        release(
            commit=commit,
            previous_commit=before,
            checked_out=before,
            backup=backup(),
            verification=verification(),
            plan=plan(),
        ),
        told.append,
    )
    assert (made.previous, made.commit, made.installed) == (before, commit, False)
    assert site.checkout.commit == commit
    assert httpx.get(f"{site.url}/api/health").json()["release"] == before, "the old code serves until the reload"

    assert reload(site.environment, release(commit=commit), told.append).commit == commit
    site.wait_for_release(commit)


@pytest.mark.parametrize("proof", [{}, {"plan": plan(), "backup": backup()}])
def test_no_code_without_a_proved_backup(staging_site: Site, proof: dict[str, object]) -> None:
    before = staging_site.commit_of("v1.0")
    with pytest.raises(RefusedError, match="no backup that was proved"):
        deploy(staging_site.environment, release(commit=staging_site.commit_of("v1.1"), **proof), print)
    assert staging_site.checkout.commit == before


def test_changed_requirements_are_installed_and_a_failure_can_be_repeated(staging_site: Site) -> None:
    before = staging_site.commit_of("v1.0")
    commit = staging_site.publish({"requirements.txt": "Django>=5.2,<5.3\n# changed\n"})
    wanted = release(
        commit=commit,
        previous_commit=before,
        checked_out=before,
        backup=backup(),
        verification=verification(),
        plan=plan(),
    )
    broken = staging_site.configure(app={"install": ["{python}", "-c", "raise SystemExit('no network')"]})
    staging_site.fetch()
    with pytest.raises(CommandError, match="no network"):
        deploy(broken, wanted, print)
    told: list[str] = []
    whole = staging_site.configure(app={"install": ["{python}", "-c", "print('installed', end='')"]})
    assert deploy(whole, wanted, told.append).installed
    assert "installed" in told


def test_local_changes_are_never_overwritten(staging_site: Site) -> None:
    file = staging_site.app / "manage.py"
    file.write_text(file.read_text() + "# a hot fix by hand\n")
    wanted = release(commit=staging_site.commit_of("v1.1"), **PROVED)
    with pytest.raises(CodeError, match=r"local changes: M manage\.py"):
        deploy(staging_site.environment, wanted, print)
    assert "hot fix" in file.read_text()


def test_a_deployment_that_was_killed_inside_its_checkout_is_repeated(staging_site: Site) -> None:
    app, before = staging_site.app, staging_site.commit_of("v1.0")
    commit = staging_site.publish({"manage.py": "# new\n", "new.txt": "brought", "later.txt": ""})
    staging_site.fetch()
    (app / "manage.py").write_text("# new\n")
    (app / "new.txt").write_text("brought")
    (app / ".git" / "index.lock").touch()
    told: list[str] = []
    wanted = release(commit=commit, previous_commit=before, checked_out=before, **PROVED)
    assert deploy(staging_site.environment, wanted, told.append).commit == commit
    assert staging_site.checkout.commit == commit
    assert (app / "later.txt").exists()
    assert not any("no release brought" in line for line in told)


def test_a_backup_that_is_too_old_is_refused_before_the_code_is_changed(staging_site: Site) -> None:
    old = backup(started_at=datetime.now(UTC) - timedelta(minutes=61))
    wanted = release(
        commit=staging_site.commit_of("v1.1"),
        plan=plan("documents.0002_document_category"),
        backup=old,
        verification=verification(),
    )
    with pytest.raises(StaleBackupError, match="61 minutes old"):
        deploy(staging_site.environment, wanted, print)
    assert staging_site.checkout.commit == staging_site.commit_of("v1.0")


def test_a_reload_that_fails_says_what_to_do(staging_site: Site) -> None:
    serving = release(commit=staging_site.commit_of("v1.0"))
    with pytest.raises(CodeError, match="could not be reloaded") as caught:
        reload(staging_site.environment, serving, print)  # nothing serves
    assert "is it running?" in caught.value.hint
    assert not reload(staging_site.configure(app={"reload": []}), serving, print).told


def test_other_code_than_the_releases_is_not_taken_up(staging_site: Site) -> None:
    with pytest.raises(CodeError, match="the release is"):
        reload(staging_site.environment, release(commit=staging_site.commit_of("v1.1")), print)
