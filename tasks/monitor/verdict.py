"""Verdict: what a watch comes to, in words that need no statistics, and what it blames."""

from __future__ import annotations

from datetime import UTC, datetime

from tasks.monitor.evidence import Rules, State
from tasks.monitor.normal import Measure, Normal, weights_of
from tasks.monitor.onset import onset
from tasks.monitor.power import power
from tasks.monitor.state import Point, WatchState
from tasks.monitor.watch import Watch
from tasks.release.monitoring import Monitor
from tasks.release.release import Release
from tasks.release.watch import Blame, Outcome, Placebo, Verdict, Watched

FOUND_IN = 20  # intervals in which harm has to be seen, for the statement of power
SHOWN = 12  # metrics in the record
NAMED_FROM = 0.3  # of the strongest evidence's logarithm; a route with less is not named instead of the whole


def verdict_of(watch: Watch, ended: str, now: datetime, *, placebo: Placebo | None) -> Verdict:
    """The verdict of a watch.

    Args:
        watch: As far as it came.
        ended: Why it is over: of Watch.ended, or "superseded".
        now: This moment.
        placebo: What the judge said of days without a release.
    """
    state, normal = watch.state, watch.normal
    watched = ranked(state, normal, watch.rules if normal.measures else None)
    outcome, sentence, blame, metric = _found(watch, ended, watched)
    may, why_not = may_roll_back(outcome, ended, watch.environment.monitor, placebo)
    return Verdict(
        outcome=outcome,
        sentence=sentence,
        metric=metric,
        blame=blame,
        may_roll_back=may,
        why_not=why_not,
        began_at=state.began_at,
        ended_at=now,
        intervals=state.judged,
        silent=state.silent,
        maintained=state.maintained,
        watched=tuple(watched[:SHOWN]),
        findings=state.findings,
        power=_power(watch),
        placebo=placebo,
    )


def ranked(state: WatchState, normal: Normal, rules: Rules | None) -> list[Watched]:
    """What became of each measure, the one that weighs most against the release first."""
    if state.held is None or state.plain is None or rules is None:
        return []
    held, plain = State.from_json(state.held), State.from_json(state.plain)
    weights = weights_of(normal)
    parts = {one.name: weights[one.name] * float(held.evidence[index]) for index, one in enumerate(normal.measures)}
    whole = sum(parts.values())
    found = []
    for index, one in enumerate(normal.measures):
        points = state.series.get(one.name, ())
        total = sum(point.total for point in points)
        found.append(
            Watched(
                metric=one.name,
                evidence=float(held.evidence[index]),
                observed=sum(point.bad for point in points) / total if total else None,
                tolerated=sum(point.tolerated for point in points) / total if total else None,
                share=parts[one.name] / whole if whole else 0.0,
                general=bool(plain.evidence[index] >= 1 / rules.alpha > held.evidence[index]),
            )
        )
    return sorted(found, key=lambda one: (-one.share, one.metric))


def may_roll_back(outcome: Outcome, ended: str, settings: Monitor, placebo: Placebo | None) -> tuple[bool, str]:
    """Whether a verdict may be acted on without a person, and why not."""
    if outcome != "convicted":
        return False, "it was not convicted"
    if settings.automatic_rollback == "never":
        return False, 'automatic_rollback is "never" here'
    if (
        settings.automatic_rollback == "always" or ended == "broken"
    ):  # a service that is down is no matter of statistics
        return True, ""
    if placebo is None or placebo.replays == 0:
        return False, "the judge was not tried yet on days without a release"
    if not placebo.clean:
        return False, f"on days without a release the judge was wrong {placebo.false_alarms} of {placebo.replays} times"
    return True, ""


def _power(watch: Watch) -> str:
    """What could have been seen with the traffic of this watch; "": there was none in its logs."""
    settings, weights = watch.environment.monitor, weights_of(watch.normal)
    for one in watch.normal.measures:
        total = sum(point.total for point in watch.state.series.get(one.name, ()))
        if one.quality == "share" and one.metric == "log.errors" and total:
            intervals = max(1, round(settings.watch_s / settings.interval_s))
            return power(
                total / watch.state.judged,
                one.usual[0],
                dispersion=one.dispersion,
                weight=weights[one.name],
                alpha=settings.false_alarm_rate,
                intervals=min(FOUND_IN, intervals),
                planned=intervals,
            ).sentence(settings.interval_s)
    return ""


def _found(watch: Watch, ended: str, watched: list[Watched]) -> tuple[Outcome, str, Blame | None, str | None]:
    release = watch.release
    if ended == "superseded":
        return "superseded", f"a newer release took the place of {release.ref}", None, None
    if ended == "broken":
        what = "the service is down, or most of its requests fail"
        blame = Blame(migration=None, relation=None, what=what, began_at=_broke_at(watch))
        return "convicted", f"{release.ref} has broken {release.environment}: {what}", blame, None
    if ended == "finding":
        finding = next(one for one in watch.state.findings if one.convicts)
        table = finding.subject.rpartition(".")[2].strip('"')
        began = watch.state.began_at
        blame = Blame(migration=_migration(release, table), relation=table, what=finding.what, began_at=began)
        return "convicted", f"{release.ref} does harm: {finding.what}", blame, None
    if ended not in ("convicted", "ask"):
        return _not_convicted(watch, ended, watched)
    culprit = _culprit(watch.normal, watched)
    blame = _blame(watch, culprit)
    sentence = _accusation(watch, culprit, blame)
    if ended == "ask":
        doubt = "there is not enough history to be sure, so a person has to decide"
        return "inconclusive", f"{sentence}; {doubt}", blame, culprit.name
    return "convicted", sentence, blame, culprit.name


def _not_convicted(watch: Watch, ended: str, watched: list[Watched]) -> tuple[Outcome, str, Blame | None, str | None]:
    ref, state = watch.release.ref, watch.state
    if not watch.normal.measures or 2 * state.silent > state.judged:
        why = "there was hardly any traffic to see"
        if 2 * state.maintained > state.judged:
            why = f"{watch.environment.name} was in maintenance mode for most of the time"
        return "inconclusive", f"nothing can be said of {ref}: {why}", None, None
    general = [one for one in watched if one.general]
    if general:
        what = _what(_measure(watch.normal, general[0].metric))
        sentence = (
            f"not only the {what} became worse, but also what {ref} does not touch: the cause is common to all and is"
            " not held against the release; look at the machine and the database as a whole"
        )
        return "inconclusive", sentence, None, general[0].metric
    early = ", surely within what is tolerated" if ended == "accepted" else ""
    unsure = "" if watch.normal.certain else "; there is little history, so only gross harm would have been seen"
    return "passed", f"{ref} does no harm that could be seen{early}{unsure}", None, None


def _culprit(normal: Normal, watched: list[Watched]) -> Measure:
    """The measure to be named: a touched route or statement before an untouched one, and that before the whole.

    Of which it is not known is named only where nothing else is as strong.
    """
    measures = {one.name: one for one in normal.measures}
    most = max(one.evidence for one in watched)
    strong = [measures[one.metric] for one in watched if one.evidence >= most**NAMED_FROM]
    for wanted in (_is_touched, _is_untouched, _is_whole, lambda _: True):
        for measure in strong:
            if wanted(measure):
                return measure
    raise ValueError("nothing was watched")


def _is_touched(measure: Measure) -> bool:
    return measure.touch == "touched"


def _is_untouched(measure: Measure) -> bool:
    return measure.touch == "untouched"


def _is_whole(measure: Measure) -> bool:
    return not measure.subject


def _blame(watch: Watch, culprit: Measure) -> Blame:
    relation = culprit.relation or None
    return Blame(
        migration=_migration(watch.release, relation) if relation else None,
        relation=relation,
        what=_what(culprit),
        began_at=began_at(watch.state.series.get(culprit.name, ()), lower=culprit.quality == "traffic"),
    )


def _migration(release: Release, relation: str) -> str | None:
    """The last of the release's migrations that touches a relation; None: none does."""
    touching = [
        migration.label
        for migration in (release.plan.pending if release.plan else ())
        if any(operation["table"] == relation for operation in migration.operations)
    ]
    return touching[-1] if touching else None


def _accusation(watch: Watch, culprit: Measure, blame: Blame) -> str:
    points = watch.state.series.get(culprit.name, ())
    since = blame.began_at.timestamp() if blame.began_at else 0.0
    harmful = [point for point in points if point.at_s >= since]
    total = sum(point.total for point in harmful) or 1.0
    seen, tolerated = (
        sum(values) / total for values in zip(*((one.bad, one.tolerated) for one in harmful), strict=True)
    )
    how = _how(culprit, seen, tolerated, watch.normal)
    sentence = f"{watch.release.ref} does harm: {how}"
    if blame.began_at:
        sentence += f", since {blame.began_at:%H:%M:%S} UTC"
    if blame.migration:
        return f"{sentence}; {blame.migration} changed {blame.relation}, which these use"
    if culprit.touch == "untouched" or not (watch.release.plan and watch.release.plan.tables):
        return f"{sentence}; no migration touches it, so it is the code"
    return f"{sentence}; whether a migration touches it is not known"


def _how(culprit: Measure, seen: float, tolerated: float, normal: Normal) -> str:
    whose = f" of {culprit.subject}" if culprit.subject else ""
    if culprit.quality == "share":
        noun = "requests" if ".errors" in culprit.metric else "transactions"
        return f"{seen:.1%} of the {noun}{whose} fail, {tolerated:.2%} would be tolerated"
    if culprit.quality in ("p50", "p95"):
        limit_ms = 1000 * normal.usual(culprit, normal.began_at) * normal.latency_tolerance
        return f"{seen:.0%} of the requests{whose} take longer than {limit_ms:.0f} ms, {tolerated:.0%} would be usual"
    if culprit.quality == "traffic":
        return f"only {seen:.1f} requests an interval arrive, at least {tolerated:.1f} would be expected"
    return f"{culprit.metric} is beyond its usual range in {seen:.0%} of the time"


def _what(measure: Measure) -> str:
    subject = measure.subject or "all requests"
    return {
        "share": f"errors of {subject}",
        "p50": f"response time of {subject}",
        "p95": f"response time of {subject}",
        "traffic": "traffic",
    }.get(measure.quality, measure.metric)


def _measure(normal: Normal, name: str) -> Measure:
    return next(one for one in normal.measures if one.name == name)


def began_at(points: tuple[Point, ...], *, lower: bool) -> datetime | None:
    """When a metric became worse than tolerated; None: no such moment can be seen."""
    seen = [point for point in points if point.total > 0]
    if not seen:
        return None
    found = onset(
        [point.bad for point in seen],
        [point.total for point in seen],
        [point.tolerated / point.total for point in seen],
        lower=lower,
    )
    return None if found is None else datetime.fromtimestamp(seen[found].at_s, UTC)


def _broke_at(watch: Watch) -> datetime:
    """The beginning of the last two intervals, which are those that broke."""
    interval_s = watch.environment.monitor.interval_s
    return datetime.fromtimestamp(watch.state.next_at.timestamp() - 2 * interval_s, UTC)
