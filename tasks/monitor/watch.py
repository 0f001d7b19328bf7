"""Watch: one interval after the other, each judged once all sources have told of it, and written down at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from tasks.monitor.checks import look
from tasks.monitor.compared import normal_of, without_history
from tasks.monitor.evidence import ACCEPTED, ASK, BROKEN, CONVICTED, WATCHING, Observation, Rules, State, step
from tasks.monitor.normal import Normal
from tasks.monitor.observe import POOLED, Interval, is_broken, is_silent
from tasks.monitor.state import Point, Watchbook, WatchState, added
from tasks.release.environment import Environment
from tasks.release.errors import DatabaseError
from tasks.release.release import Release
from tasks.signals import collect as signals
from tasks.signals.maintenance import is_shut
from tasks.signals.sample import Sample
from tasks.signals.tally import GRACE_S
from tasks.store.bucket import Bucket

SETTLED_S = GRACE_S + 1.0  # after an interval's end, when its last lines are in the logs
RISEN = 0.5  # of the busiest time's traffic: a night's watch does not end before so much was seen
LONGEST_WAIT_S = 14 * 3600.0  # for the morning; the watch ends then
LOOKS = 10  # intervals between two looks into the catalogue

ENDINGS = {CONVICTED: "convicted", BROKEN: "broken", ASK: "ask", ACCEPTED: "accepted"}


def beginning(release: Release, interval_s: float) -> datetime:
    """The first whole interval in which a release serves: after its reload and after maintenance mode was ended."""
    ends = [
        run.ended_at
        for stage in ("applied", "reloaded", "reopened")
        if (run := release.stages.get(stage)) and run.ended_at
    ]
    latest = max(ends, default=release.created_at)
    return datetime.fromtimestamp((latest.timestamp() // interval_s + 1) * interval_s, UTC)


@dataclass
class Watch:
    """The watch of one release, as far as it is.

    Attributes:
        environment: Where the release is.
        release: Its record.
        book: Where the state is written.
        normal: What it is compared with.
        state: After the last judged interval.
        ended: Why it is over: "convicted", "broken", "ask", "accepted", "time"; "" while it is not.
    """

    environment: Environment
    release: Release
    book: Watchbook
    normal: Normal
    state: WatchState
    ended: str = ""

    @classmethod
    def open(cls, environment: Environment, release: Release) -> Watch:
        """Begin the watch of a release, or go on where another process stopped.

        Raises:
            StoreError: The bucket refuses or is lost.
        """
        bucket = Bucket(environment.storage)
        book = Watchbook(bucket, release.id)
        state = book.load()
        settings = environment.monitor
        if state is None:
            begins = beginning(release, settings.interval_s)
            state = WatchState(
                release_id=release.id,
                began_at=begins,
                next_at=begins,
                until=begins + timedelta(seconds=settings.watch_s),
            )
        normal = normal_of(environment, release, bucket, state.began_at)
        watch = cls(environment, release, book, normal, state)
        watch.ended = watch._ending() if state.judged else ""
        return watch

    def due_s(self, now: datetime) -> float:
        """Seconds until the next interval can be judged; negative when it is late."""
        return (self.state.next_at - now).total_seconds() + self.environment.monitor.interval_s + SETTLED_S

    def begin(self, now: datetime) -> None:
        """Take the first counters, which is to be done as soon as the migrations are through.

        Raises:
            ReleaseInProgressError: Another run watches this release by now.
            StoreError: The bucket refuses or is lost.
        """
        if not self.state.reading:
            self._collect(now)
            self._look()
            self.book.write(self.state)

    def described(self) -> str:
        """How the watch stands, in a line."""
        judged, threshold = self.state.judged, 1 / self.environment.monitor.false_alarm_rate
        evidence = 1.0
        if self.state.held:
            evidence = float(np.asarray(self.state.held["evidence"]) @ self.rules.weights)
        return f"{judged} intervals judged, evidence {evidence:.3g} of {threshold:g}" + (
            f": {self.ended}" if self.ended else ""
        )

    def advance(self, now: datetime) -> None:
        """Collect what there is, judge every interval that is settled, and write the state down.

        Raises:
            ReleaseInProgressError: Another run watches this release by now.
            StoreError: The bucket refuses or is lost.
        """
        self._collect(now)
        while not self.ended and self.due_s(now) <= 0:
            self._judge_one()
        self.book.write(self.state)

    def _collect(self, now: datetime) -> None:
        state = self.state
        reading = signals.State.restore(json.dumps(state.reading).encode()) if state.reading else signals.State()
        samples: list[Sample] = []
        problems = list(state.problems)
        more = True
        while more:
            found = signals.collect(self.environment, reading, state.began_at, now)
            samples += found.samples
            problems += [problem for problem in found.problems if problem not in problems]
            more = found.more
        shut = is_shut(self.environment)
        spans = [span for span in state.shut if span[1] > state.next_at]
        if shut or state.is_shut:
            # It was switched at some moment between two looks.
            spans.append((state.looked_at or state.began_at, now))
        fresh = [sample for sample in samples if sample.at >= state.next_at and self._is_needed(sample)]
        self.state = state.changed(
            reading=json.loads(reading.dump()),
            pending=(*state.pending, *fresh),
            problems=tuple(problems[-20:]),
            shut=tuple(spans),
            is_shut=shut,
            looked_at=now,
        )

    def _is_needed(self, sample: Sample) -> bool:
        """Whether a sample is judged: the state would grow by every table and index otherwise."""
        judged = {one.metric for one in self.normal.measures}
        return sample.metric in judged or sample.metric.startswith(("log", "probe."))

    def _judge_one(self) -> None:
        state, settings = self.state, self.environment.monitor
        end = state.next_at + timedelta(seconds=settings.interval_s)
        shut = any(begin < end and until > state.next_at for begin, until in state.shut)
        # What an application does that is shut on purpose says nothing: the interval counts as one without traffic.
        samples = [] if shut else [sample for sample in state.pending if sample.at < end]
        if not self.normal.measures:
            metrics = [sample.metric for sample in samples]
            self.normal = without_history(self.environment, self.release, self.book.bucket, state.began_at, metrics)
        recent = [
            *(one for one in state.recent if (end - one.at).total_seconds() <= POOLED * settings.interval_s),
            *samples,
        ]
        broken = is_broken(samples, settings)
        interval = Interval(self.normal, state.next_at, samples, recent, settings.interval_s)
        held, plain = (interval.observed(compared=compared, broken=broken) for compared in (True, False))
        judged: dict[str, object] = {}
        if self.normal.measures:
            against = _stepped(state.held, self.rules, held)
            judged["held"] = against.to_json()
            judged["plain"] = _stepped(state.plain, self.rules, plain).to_json()
            judged["series"] = self._series(plain, against, state.next_at)
        self.state = state.changed(
            **judged,
            next_at=end,
            judged=state.judged + 1,
            silent=state.silent + is_silent(samples, logged=bool(settings.logs)),
            maintained=state.maintained + shut,
            pending=tuple(sample for sample in state.pending if sample.at >= end),
            recent=tuple(recent),
            peak=max(state.peak, self._share_of_busiest(state.next_at)),
        )
        if state.judged % LOOKS == 0:
            self._look()
        self.ended = self._ending()
        if self.state.held and not self.ended and int(np.asarray(self.state.held["verdict"])) == ACCEPTED:
            # For the judge this is the last word; here the watch goes on, and may still convict.
            self.state = self.state.changed(held={**self.state.held, "verdict": WATCHING})

    @property
    def rules(self) -> Rules:
        """The judge's rules for this watch."""
        settings = self.environment.monitor
        measures = self.normal.measures
        return Rules.of(
            len(measures),
            max(1, round(settings.watch_s / settings.interval_s)),
            alpha=settings.false_alarm_rate,
            weights=self.normal.weights(),
            lower=[one.quality == "traffic" for one in measures],
            dispersion=[one.dispersion for one in measures],
            certain=self.normal.certain,
        )

    def _ending(self) -> str:
        """Why the watch is over; "" while it is not."""
        state, settings = self.state, self.environment.monitor
        verdict = int(np.asarray((state.held or {}).get("verdict", 0)))
        watched_s = state.judged * settings.interval_s
        if verdict in (CONVICTED, BROKEN, ASK):
            return ENDINGS[verdict]
        if any(finding.convicts for finding in state.findings):
            return "finding"
        if verdict == ACCEPTED and watched_s >= min(settings.least_s, settings.watch_s) and self._has_risen():
            return "accepted"
        if watched_s < settings.watch_s:
            return ""
        quiet = 2 * state.silent > state.judged
        longest_s = settings.watch_s * 2 if quiet else settings.watch_s + LONGEST_WAIT_S
        waits = quiet or not self._has_risen()
        return "" if waits and watched_s < longest_s else "time"

    def _has_risen(self) -> bool:
        """Whether the traffic came near that of the day's busiest time; where that is not known, nobody waits."""
        return self.normal.busiest <= 0 or self.state.peak >= RISEN

    def _share_of_busiest(self, at: datetime) -> float:
        """How near to the busiest time of day it is, by what is usual."""
        usual = [self.normal.usual(one, at) for one in self.normal.measures if one.quality == "traffic"]
        return max(usual, default=0.0) / self.normal.busiest if self.normal.busiest > 0 else 0.0

    def _series(self, seen: Observation, judged: State, at: datetime) -> dict[str, tuple[Point, ...]]:
        series = dict(self.state.series)
        for index, measure in enumerate(self.normal.measures):
            total = float(seen.total[index])
            point = Point(
                at.timestamp(),
                float(seen.bad[index]),
                total,
                float(f"{seen.tolerated[index] * total:.6g}"),
                float(f"{judged.evidence[index]:.6g}"),
            )
            series[measure.name] = added(series.get(measure.name, ()), point)
        return series

    def _look(self) -> None:
        if self.release.plan is None or not self.release.plan.tables:
            return
        try:
            findings, scans = look(self.environment, self.release.plan, self.state.scans, self.normal.indexed)
        except DatabaseError as error:
            problem = self.environment.redacted(error.message)
            if problem not in self.state.problems:
                self.state = self.state.changed(problems=(*self.state.problems, problem))
            return
        # What was mended stays told; what is gone otherwise was mended by somebody else.
        kept = [one for one in self.state.findings if one.mended]
        known = {one.subject for one in kept}
        self.state = self.state.changed(
            findings=(*kept, *(one for one in findings if one.subject not in known)), scans=scans
        )


def _stepped(stored: dict[str, Any] | None, rules: Rules, seen: Observation) -> State:
    state = State.from_json(stored) if stored else State.start(rules.weights.size)
    return step(state, rules, seen)
