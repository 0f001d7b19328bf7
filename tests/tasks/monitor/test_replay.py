"""The past judged again, and how often the judge would have been wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

from tasks.monitor.replay import last_placebo, placebo, replay
from tasks.signals import history
from tasks.signals.sample import Sample
from tasks.store.bucket import Bucket
from tests.fix_app import Site

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAYS = 16
EVERY_S = 120


def test_a_bad_hour_is_found_and_quiet_days_prove_the_judge(staging_site: Site) -> None:
    environment = staging_site.configure(monitor={"watch_s": 3600, "interval_s": EVERY_S})
    bucket, random = Bucket(environment.storage), np.random.default_rng(1)
    times = [NOW - timedelta(seconds=EVERY_S * number) for number in range(1, DAYS * 86_400 // EVERY_S)]
    bad_hour = NOW - timedelta(hours=5)
    samples = []
    for at in times:
        total = int(random.poisson(1200))
        share = 0.02 if bad_hour <= at < bad_hour + timedelta(hours=1) else 0.001
        bad = int(random.binomial(total, share))
        samples.append(Sample("log.errors", "events", at, EVERY_S, bad=bad, total=total))
    history.append(bucket, samples, NOW)

    found = replay(environment, bad_hour)
    assert (found.verdict, found.metric) == ("convicted", "log.errors@share")
    assert found.alarmed_at is not None
    assert found.alarmed_at - bad_hour < timedelta(minutes=30)
    assert replay(environment, bad_hour - timedelta(days=1)).alarmed_at is None

    assert last_placebo(bucket) is None
    counted = placebo(environment, NOW)
    assert (counted.replays, counted.false_alarms) == (14, 0)
    assert counted.clean
    assert last_placebo(bucket) == counted
    wrong = placebo(environment, bad_hour + timedelta(hours=1))
    assert wrong.false_alarms == 1
    assert last_placebo(bucket) == wrong
