"""The control group, and who may roll back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks.monitor.control import Share, Touch, factor, relations_of, touch_of
from tasks.monitor.evidence import CONVICTED, Rules, State, step
from tasks.monitor.normal import Measure, Normal
from tasks.monitor.observe import Interval
from tasks.monitor.verdict import may_roll_back
from tasks.release.monitoring import Monitor
from tasks.release.watch import Placebo
from tasks.signals.sample import Sample, binned

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "relations"),
    [
        (
            'SELECT "a"."id" FROM "shop_order" a JOIN public.shop_item ON true WHERE a.id = $1',
            {"shop_order", "shop_item"},
        ),
        ("INSERT INTO shop_order (id) VALUES ($1)", {"shop_order"}),
        ('SELECT 1 FROM "shop_order" WHERE "id" IN ($1, $2, ', {"shop_order"}),
        ("SELECT $1", set()),
    ],
)
def test_the_relations_of_a_statement(text: str, relations: set[str]) -> None:
    assert relations_of(text) == relations


@pytest.mark.parametrize(
    ("metric", "touch"),
    [
        ("log.errors:/api/documents/<int:document_id>", "touched"),
        ("probe.latency:/api/health", "untouched"),
        ("probe.latency:/api/conversations/<uuid:id>", "untouched"),
        ("probe.latency:/api/statistics", "unknown"),
        ("probe.latency:/search", "touched"),
        ("log.latency", "unknown"),
        ("statement.mean_s:abc", "touched"),
        ("statement.mean_s:other", "unknown"),
        ("table.seq_rows:public.documents_document", "touched"),
    ],
)
def test_what_a_release_touches(metric: str, touch: str) -> None:
    texts = {"abc": "SELECT * FROM documents_document"}
    routes = {"/search": ["documents_document"], "/api/health": [], "/api/documents/<int:document_id>": ["cache"]}
    assert touch_of(metric, {"documents_document"}, texts, routes, {"conversations_conversation"})[0] == touch


def test_the_middle_of_the_control_group_counts() -> None:
    assert factor([]) == 1
    assert factor([Share(0, 100, 0.01)]) == 1  # better is no excuse
    assert factor([Share(3, 100, 0.01), Share(3, 100, 0.01), Share(90, 100, 0.01)]) == pytest.approx(3)
    assert factor([Share(3, 3, 0.01)]) == 1  # too few to say anything


def test_a_rollback_by_itself_wants_a_judge_that_was_never_wrong() -> None:
    clean = Placebo(replays=14, false_alarms=0, since=NOW, until=NOW)
    wrong = Placebo(replays=14, false_alarms=1, since=NOW, until=NOW)
    calibrated, always, never = (Monitor(automatic_rollback=one) for one in ("calibrated", "always", "never"))
    assert may_roll_back("convicted", "convicted", calibrated, clean) == (True, "")
    assert may_roll_back("convicted", "convicted", calibrated, wrong)[0] is False
    assert may_roll_back("convicted", "convicted", calibrated, None)[0] is False
    assert may_roll_back("convicted", "broken", calibrated, None) == (True, "")
    assert may_roll_back("convicted", "convicted", always, wrong) == (True, "")
    assert may_roll_back("convicted", "broken", never, clean)[0] is False
    assert may_roll_back("inconclusive", "ask", always, clean)[0] is False


@pytest.mark.parametrize(
    ("health_s", "touch", "convicts"), [(0.3, "untouched", False), (0.1, "untouched", True), (0.3, "unknown", True)]
)
def test_a_slowdown_of_what_is_not_touched_too_is_granted(health_s: float, touch: Touch, *, convicts: bool) -> None:
    """Documents take three times as long as usual; whether the release is to blame depends on what it leaves alone."""
    documents, health = "log.latency:/api/documents", "log.latency:/api/health"
    touches: dict[str, Touch] = {documents: "touched", health: touch}
    measures = tuple(
        Measure(metric=metric, quality="p50", group="route latency", touch=touch, usual=(0.1,))
        for metric, touch in touches.items()
    )
    normal = Normal(began_at=NOW, grid_s=60, days=28, certain=True, latency_tolerance=1.15, measures=measures)
    rules = Rules.of(2, 60, weights=normal.weights())
    held = plain = State.start(2)
    for minute in range(20):
        at = NOW + timedelta(minutes=minute)
        seconds = {documents: 0.3, health: health_s}
        samples = [Sample(one, "latency", at, 60, total=50, bins=binned([took] * 50)) for one, took in seconds.items()]
        interval = Interval(normal, at, samples, samples, 60)
        held = step(held, rules, interval.observed(compared=True, broken=False))
        plain = step(plain, rules, interval.observed(compared=False, broken=False))
    assert (int(held.verdict) == CONVICTED) is convicts
    assert int(plain.verdict) == CONVICTED
