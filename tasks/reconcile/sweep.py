"""The decision: what is wrong, from an environment's records and what was looked at. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from tasks.reconcile.hands import Hands
from tasks.reconcile.memory import Entry, Memory
from tasks.reconcile.runs import GONE
from tasks.reconcile.trouble import (
    GRACE,
    SHOWN_AFTER,
    TRIED_AGAIN_AFTER,
    Facts,
    Trouble,
    last_sign,
)
from tasks.release.environment import Environment
from tasks.release.release import Release

OVER = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED", GONE})
SUSPENDED = "PAUSED"  # the type of Prefect's state Suspended
# An answer may come in the last second, and its run needs a worker and a start until it takes the record up.
ANSWER_ON_ITS_WAY = timedelta(minutes=15)
MISSED_INTERVALS = 3  # of a watch, after which its monitor counts as dead
HEALTHY_AFTER = 10  # times as long as it takes to miss them: then an earlier restart is forgotten


def troubles(environment: Environment, facts: Facts, memory: Memory, hands: Hands) -> tuple[Trouble, ...]:
    """Everything that is wrong, the most urgent first."""
    return (
        *_maintenance(facts, hands),
        *_dead_runs(facts),
        *_questions(environment, facts, hands),
        *_watches(environment, facts, memory),
        *_left_behind(facts),
        *_unknown(facts),
    )


def due_now(found: Sequence[Trouble], memory: Memory, at: datetime) -> tuple[Trouble, ...]:
    """The troubles that something is done about now: seen for long enough, not settled, and not tried just now."""

    def is_due(trouble: Trouble) -> bool:
        entry = memory.entries.get(trouble.key, Entry(since=at))
        if entry.done or at - entry.since < SHOWN_AFTER[trouble.kind]:
            return False
        return entry.acted_at is None or at - entry.acted_at >= TRIED_AGAIN_AFTER[trouble.kind]

    return tuple(filter(is_due, found))


def noticed(memory: Memory, found: Sequence[Trouble], facts: Facts, forget_after: timedelta) -> Memory:
    """With what was found now, and without what is well again; the restarts of a watch are forgotten later."""

    def is_kept(key: str, entry: Entry) -> bool:
        restarted = key.startswith("watch/") and entry.acted_at is not None
        return bool(facts.unseen) or (restarted and facts.at - (entry.acted_at or facts.at) < forget_after)

    keys = [trouble.key for trouble in found]
    kept = {key: entry for key, entry in memory.entries.items() if key in keys or is_kept(key, entry)}
    new = {key: Entry(since=facts.at) for key in keys if key not in kept}
    return memory.model_copy(update={"entries": kept | new})


def tried(memory: Memory, keys: Sequence[str], at: datetime) -> Memory:
    """With a try begun at each of these: whoever writes this first is the one that acts."""
    entries = {
        key: entry.model_copy(update={"acted_at": at, "times": entry.times + 1}) if key in keys else entry
        for key, entry in memory.entries.items()
    }
    return memory.model_copy(update={"entries": entries})


def settled(memory: Memory, changes: Mapping[str, Mapping[str, object]]) -> Memory:
    """With how the tries went: changes of fields by key."""
    entries = {key: entry.model_copy(update=changes.get(key, {})) for key, entry in memory.entries.items()}
    return memory.model_copy(update={"entries": entries})


def stale_after(environment: Environment) -> timedelta:
    """How old the state of a watch may be before its monitor counts as dead."""
    return timedelta(seconds=MISSED_INTERVALS * environment.monitor.interval_s) + GRACE / 2


def forgotten_after(environment: Environment) -> timedelta:
    """How long a monitor must have worked after a restart before the next one counts from the beginning."""
    return HEALTHY_AFTER * stale_after(environment)


def is_dead(release: Release, facts: Facts) -> bool:
    """Whether a release runs by its record, and by nothing else."""
    return release.status == "running" and facts.lock_is_free is True


def _maintenance(facts: Facts, hands: Hands) -> Iterator[Trouble]:
    """Maintenance mode that the newest release to switch it has left on: what an older one did is long overtaken."""
    closing = next((one for one in facts.records if "maintenance" in one.stages), None)
    if closing and facts.lock_is_free and hands.may_be_on(closing):
        yield Trouble(
            "maintenance",
            f"maintenance/{closing.id}/{closing.stages['maintenance'].began_at:%Y%m%dT%H%M%S.%f}",
            f"release {closing.id} began to switch maintenance mode on and is dead: it may be on still",
            closing,
        )


def _dead_runs(facts: Facts) -> Iterator[Trouble]:
    for release in facts.records:
        if is_dead(release, facts):
            last = last_sign(release)
            what = f"the run of release {release.id} died {whereabouts(release)}, after {last:%Y-%m-%d %H:%M:%S} UTC"
            yield Trouble("dead run", f"dead/{release.id}/{last:%Y%m%dT%H%M%S.%f}", what, release)


def whereabouts(release: Release) -> str:
    """Where in its stages a release ended."""
    begun = [stage for stage in release.stages if stage != "reopened"]
    if not begun:
        return "before its first stage"
    newest = max(begun, key=lambda stage: release.stages[stage].began_at)
    return f"after {newest!r}" if release.result(newest) is not None else f"amid {newest!r}"


def _questions(environment: Environment, facts: Facts, hands: Hands) -> Iterator[Trouble]:
    for release in facts.records:
        asked, state = release.asked, facts.runs.get(release.asked.flow_run_id) if release.asked else None
        if release.status != "waiting" or asked is None or state is None:
            continue
        late = facts.at - asked.expires_at
        is_over = state in OVER
        about = f"{release.id}/{asked.asked_at:%Y%m%dT%H%M%S}"
        if late >= timedelta(0) and (is_over or state == SUSPENDED or late >= ANSWER_ON_ITS_WAY):
            what = f"nobody approved release {release.id} until {asked.expires_at:%Y-%m-%d %H:%M} UTC"
            yield Trouble("expired", f"expired/{about}", what, release)
        elif late < timedelta(0) and is_over:
            what = (
                f"release {release.id} waits for an approval, and the run that asked for it is over ({state.lower()})"
            )
            yield Trouble("abandoned", f"abandoned/{about}", what, release)
        elif late < timedelta(0) and state == SUSPENDED:
            contacts = hands.due(environment.contacts, asked.asked_at, facts.at)
            names = tuple(contact.name for contact in contacts if contact.name not in asked.told)
            if names:
                what = f"release {release.id} waits for an approval since {asked.asked_at:%Y-%m-%d %H:%M} UTC"
                yield Trouble("unanswered", f"unanswered/{about}/{len(asked.told)}", what, release, names)


def _left_behind(facts: Facts) -> Iterator[Trouble]:
    for one in facts.migrating if facts.lock_is_free else ():
        what = (
            f"server process {one.pid} of {one.name!r} is there since {one.since:%Y-%m-%d %H:%M:%S} UTC ({one.state})"
        )
        yield Trouble("session", f"session/{one.pid}/{one.since:%Y%m%dT%H%M%S}", f"{what}, and no release runs")
    for name in facts.shut_scratch:
        what = f"the database {name} was made for a rehearsal or a proof and never opened: whoever made it is dead"
        yield Trouble("shut scratch", f"scratch/{name}", what)


def _unknown(facts: Facts) -> Iterator[Trouble]:
    for release_id, why in facts.unreadable.items():
        yield Trouble("record", f"record/{release_id}", f"the record of release {release_id} cannot be read: {why}")
    for part, why in facts.unseen.items():
        yield Trouble("blind", f"blind/{part}", f"{part} could not be looked at: {why}")


def _watches(environment: Environment, facts: Facts, memory: Memory) -> Iterator[Trouble]:
    for release in facts.records:
        heartbeat = facts.heartbeats.get(release.id)
        if release.status != "watching" or heartbeat is None:
            continue
        key = f"watch/{release.id}"
        restarted_at = memory.entries[key].acted_at if key in memory.entries else None
        if facts.at - max(filter(None, (heartbeat, restarted_at))) > stale_after(environment):
            what = f"nothing was seen of the watch of release {release.id} since {heartbeat:%Y-%m-%d %H:%M:%S} UTC"
            yield Trouble("watch", key, what, release)
