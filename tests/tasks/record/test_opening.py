"""Opening a release: what died is taken up where it can be, and closed where it cannot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tasks.record.opening import open_release
from tasks.release.decisions import Asked
from tasks.release.errors import CodeError, RefusedError
from tasks.release.release import Release
from tasks.store.ledger import now
from tests.builders import applied, backup, deployed, finding, plan, release, reloaded, risk
from tests.fix_app import Site

OLD = timedelta(hours=2)


def opened(site: Site, ref: str = "v1.1", release_id: str = "", told: list[str] | None = None) -> Release:
    report = told.append if told is not None else print
    return open_release(site.environment, site.ledger, ref, release_id, "a test", report)


def left(site: Site, ref: str = "v1.1", **changes: Any) -> Release:
    """A release that is in the ledger already, older than any that is opened now."""
    serves = site.checkout.commit
    fields = {
        "id": "20250101-000000-left",
        "ref": ref,
        "commit": site.commit_of(ref),
        "previous_commit": serves,
        "checked_out": serves,
        "created_at": now(),
    }
    return site.ledger.create(release(**fields | changes))


def planned_and_backed_up(age: timedelta) -> dict[str, Any]:
    return {"plan": plan("documents.0002_document_category"), "backup": backup(started_at=now() - age)}


def test_a_new_release_says_what_it_brings(staging_site: Site) -> None:
    told: list[str] = []
    made = opened(staging_site, told=told)
    assert staging_site.ledger.load(made.id) == made
    assert (made.status, made.ref, made.requested_by) == ("running", "v1.1", "a test")
    assert made.commit == staging_site.commit_of("v1.1")
    assert made.previous_commit == staging_site.commit_of("v1.0")
    assert len(made.commits) == 1
    assert [entry.what for entry in made.timeline] == ["opened by a test"]
    assert made.id in told[0]


@pytest.mark.parametrize("status", ["running", "failed"])
def test_an_unfinished_release_of_the_same_commit_is_taken_up(staging_site: Site, status: str) -> None:
    died = left(staging_site, status=status, **planned_and_backed_up(timedelta(minutes=1)))
    told: list[str] = []
    made = opened(staging_site, told=told)
    assert (made.id, made.status) == (died.id, "running")
    assert made.backup == died.backup
    assert "taken up again by a test" in made.timeline[-1].what
    assert len(list(staging_site.ledger.newest())) == 1


def test_what_was_blocked_is_judged_anew(staging_site: Site) -> None:
    """By then the data may be mended."""
    label = "documents.0002_document_category"
    blocked = left(staging_site, status="failed", plan=plan(label), risk=risk(finding(severity="blocked")))
    made = opened(staging_site)
    assert made.id != blocked.id
    assert made.risk is None


def test_what_died_for_another_commit_is_closed_as_failed(staging_site: Site) -> None:
    died = left(staging_site, "v1.0")
    made = opened(staging_site)
    assert made.id != died.id
    closed = staging_site.ledger.load(died.id)
    assert closed.status == "failed"
    assert closed.timeline[-1].what == "its run died; superseded by a release of v1.1"


def test_a_finished_release_is_left_alone(staging_site: Site) -> None:
    done = left(staging_site, status="finished", **planned_and_backed_up(OLD))
    assert opened(staging_site).id != done.id
    assert staging_site.ledger.load(done.id) == done
    told: list[str] = []
    staging_site.check_out("v1.1")
    assert opened(staging_site, release_id=done.id, told=told) == done
    assert "nothing is repeated" in told[0]


def test_a_backup_that_became_stale_before_the_migration_calls_for_a_new_release(staging_site: Site) -> None:
    died = left(staging_site, **planned_and_backed_up(OLD))
    made = opened(staging_site)
    assert made.id != died.id
    assert made.backup is None
    assert staging_site.ledger.load(died.id).status == "failed"


def test_a_migration_that_began_goes_on_with_its_backup_whatever_its_age(staging_site: Site) -> None:
    died = left(staging_site, **planned_and_backed_up(OLD))
    staging_site.psql(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('documents', '0002_document_category', now())"
    )
    assert opened(staging_site).id == died.id


def test_a_database_without_any_migration_was_not_begun(staging_site: Site) -> None:
    died = left(staging_site, **planned_and_backed_up(OLD))
    staging_site.psql("DROP TABLE django_migrations")
    assert opened(staging_site).id != died.id


def test_what_serves_is_not_what_a_release_that_failed_checked_out(staging_site: Site) -> None:
    before, after = staging_site.commit_of("v1.0"), staging_site.commit_of("v1.1")
    left(staging_site, **planned_and_backed_up(OLD))
    staging_site.check_out("v1.1")  # it died behind this, so its requirements may be half installed
    second = opened(staging_site)
    assert (second.previous_commit, second.checked_out) == (before, after)

    for tag in ("v2", "v3", "v4"):  # ids of one second sort by the ref
        staging_site.publish({tag: ""}, on="develop", tag=tag)
    third = opened(staging_site, "v2")  # the second one failed before it did anything
    assert (third.previous_commit, third.checked_out) == (before, after)
    fourth = opened(staging_site, "v3")  # and so did the third
    assert (fourth.previous_commit, fourth.checked_out) == (before, after)

    staging_site.ledger.update(
        fourth.id, lambda record: record.began("reloaded", now()).finished("reloaded", reloaded(), now())
    )
    assert opened(staging_site, "v4").previous_commit == after


def test_an_id_is_of_one_commit(staging_site: Site) -> None:
    died = left(staging_site, "v1.0")
    with pytest.raises(RefusedError, match=f"release {died.id} is of v1.0 .*, not of v1.1") as caught:
        opened(staging_site, release_id=died.id)
    assert "`new` as release id" in caught.value.hint
    assert opened(staging_site, "v1.0", release_id=died.id).id == died.id
    with pytest.raises(RefusedError, match="there is no release nothing"):
        opened(staging_site, release_id="nothing")


@pytest.mark.parametrize("ref", ["no-such-ref", "feature"])
def test_what_cannot_be_deployed_opens_nothing(staging_site: Site, ref: str) -> None:
    staging_site.publish({"x": ""}, branch="feature")
    died = left(staging_site, "v1.0")
    with pytest.raises(CodeError):
        opened(staging_site, ref)
    assert list(staging_site.ledger.newest()) == [died]


def test_what_was_undone_by_hand_is_not_taken_for_done(staging_site: Site) -> None:
    """Finished stages are not repeated, so they are looked at: the checkout went back, or the migrations did."""
    finished = {"code": deployed(), "applied": applied(), **planned_and_backed_up(timedelta(minutes=1))}
    died = left(staging_site, status="failed", **finished)
    told: list[str] = []
    assert opened(staging_site, told=told).id != died.id
    assert "the checkout is at" in "".join(told)
    with pytest.raises(RefusedError, match="cannot go on: it had checked out"):
        opened(staging_site, release_id=died.id)

    staging_site.check_out("v1.1")
    with pytest.raises(RefusedError, match=r"it had applied documents\.0002_document_category, which"):
        opened(staging_site, release_id=died.id)
    staging_site.manage("migrate", "--no-input")
    assert opened(staging_site, release_id=died.id).id == died.id


def test_a_new_release_can_be_asked_for(staging_site: Site) -> None:
    died = left(staging_site, status="failed", **planned_and_backed_up(timedelta(minutes=1)))
    made = opened(staging_site, release_id="new")
    assert made.id != died.id
    assert made.backup is None


def test_a_finished_release_that_no_longer_serves_is_no_success(staging_site: Site) -> None:
    done = left(staging_site, status="finished")
    gone = f"release {done.id} is finished and no longer what serves"
    with pytest.raises(RefusedError, match=f"{gone}: the checkout is at") as caught:
        opened(staging_site, release_id=done.id)
    assert "`new` as release id" in caught.value.hint
    staging_site.check_out("v1.1")
    left(staging_site, id="20250102-000000-failed", status="failed")
    assert opened(staging_site, release_id=done.id) == done
    left(staging_site, id="20250103-000000-later", status="finished")
    with pytest.raises(RefusedError, match=f"{gone}: release 20250103-000000-later finished since"):
        opened(staging_site, release_id=done.id)


def test_a_release_is_not_taken_up_when_another_one_finished_since(staging_site: Site) -> None:
    died = left(staging_site, status="failed")
    assert opened(staging_site, release_id=died.id).id == died.id
    left(staging_site, "v1.0", id="20250102-000000-later", status="finished")
    with pytest.raises(RefusedError, match=r"cannot go on: release 20250102-000000-later of v1\.0 finished since"):
        opened(staging_site, release_id=died.id)
    assert opened(staging_site).id != died.id


def test_an_older_release_is_not_taken_up_while_a_newer_one_waits_for_a_person(staging_site: Site) -> None:
    died = left(staging_site, status="failed")
    asked = Asked(
        flow_run_id="another", level="low", demands=("approval",), asked_at=now(), expires_at=now() + timedelta(hours=1)
    )
    left(staging_site, id="20250102-000000-later", status="waiting", asked=asked)
    place, ledger = staging_site.environment, staging_site.ledger
    with pytest.raises(RefusedError, match=r"20250102-000000-later of v1\.1 waits for an approval"):
        open_release(place, ledger, "v1.1", died.id, "a test", print, goes_on=lambda _: True)
    assert open_release(place, ledger, "v1.1", died.id, "a test", print, goes_on=lambda _: False).id == died.id


def test_a_release_is_not_taken_up_on_another_checkout_than_its_own(staging_site: Site) -> None:
    died = left(staging_site, status="failed")
    other = staging_site.publish({"other": ""}, on="develop", tag="other")
    staging_site.check_out("other")
    with pytest.raises(RefusedError, match=f"it was opened at .*, the checkout is at {other[:12]} by now"):
        opened(staging_site, release_id=died.id)
    told: list[str] = []
    assert opened(staging_site, told=told).id != died.id
    assert "it was opened at" in told[0]

    staging_site.check_out("v1.1")  # its own commit: it died behind the checkout
    assert opened(staging_site, release_id=died.id).id == died.id


def test_what_was_killed_inside_its_checkout_is_taken_up(staging_site: Site) -> None:
    staging_site.publish({"manage.py": "# new\n"}, on="develop", tag="v2")
    staging_site.fetch()
    died = left(staging_site, "v2")
    (staging_site.app / "manage.py").write_text("# new\n")
    (staging_site.app / ".git" / "index.lock").touch()
    assert opened(staging_site, "v2").id == died.id
    with pytest.raises(CodeError, match="local changes"):
        opened(staging_site, "v1.1")
