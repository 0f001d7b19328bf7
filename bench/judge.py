"""The judge of releases on simulated traffic and on labelled series, beside two ways that others judge.

    python -m bench.judge [--repetitions 200] [--nab CLONE]

False alarms are counted in worlds that differ in persistence, scatter, days and season; none of their parameters is
known to the judge. Ends with status 1 where a limit is missed, and with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import norm, rankdata

from bench import nab
from bench.judge_traffic import Bad, Floats, Simulated, Traffic, World
from tasks.monitor.judge import judge_watch

NEVER = 10**6
WORLDS = {
    "plain": World(),
    "20 requests a minute": World(rate=20),
    "24 hours": World(minutes=1440),
    "24 hours, 20 a minute": World(minutes=1440, rate=20),
    "independent minutes": World(persistence=0.0),
    "AR 0.9": World(persistence=0.9),
    "no day effect": World(day=0.0),
    "days 10 %": World(day=0.1),
    "days 20 %": World(day=0.2),
    "clumped errors (2)": World(clumping=2.0),
    "clumped errors (5)": World(clumping=5.0),
    "two peaks a day": World(peaks=2),
    "flat": World(swing=1.0),
    "noise 10 %": World(noise=0.1),
}
RELEASES = {
    "good": Bad(),
    "latency x2": Bad(latency=2.0),
    "latency x1.3": Bad(latency=1.3),
    "errors 0.1 to 5 %": Bad(errors=0.05),
    "errors 0.1 to 0.5 %": Bad(errors=0.005),
    "two-minute blip": Bad(latency=4.0, errors=0.3, lasts=2, begins=30),
}
LIMITS = {"latency x2": 7, "latency x1.3": 35, "errors 0.1 to 5 %": 6, "errors 0.1 to 0.5 %": 20}  # median minutes
KEYS = {
    "latency x2": "x2_latency_min",
    "latency x1.3": "x1_3_latency_min",
    "errors 0.1 to 5 %": "errors_5pct_min",
    "errors 0.1 to 0.5 %": "errors_0_5pct_min",
}
MOST_FALSE = 0.01
Alarms = NDArray[np.int64]  # (repetitions): the minute of the alarm, counted from 1; NEVER


@dataclass
class Row:
    """How one way judged one kind of release."""

    found: float
    minutes: float

    @classmethod
    def of(cls, alarms: Alarms) -> Row:
        """The summary of repetitions."""
        return cls(float((alarms < NEVER).mean()), float(np.median(alarms)))

    def __str__(self) -> str:
        return f"{100 * self.found:.1f} %" + (f" / {self.minutes:g}" if self.minutes < NEVER else "")


def ours(traffic: Traffic, bad: Bad) -> Alarms:
    """The product's judge, with what it promises by default."""
    at = judge_watch(traffic.past, traffic.watch(bad)).alarmed_at
    return np.where(at >= 0, at + 1, NEVER)


def thresholds(traffic: Traffic, bad: Bad) -> Alarms:
    """As Argo Rollouts or Flagger: p95 twice that of the hour before, or more than 5 % errors, three times running."""
    watch, p95, before = _watched(traffic, bad)
    beyond = (p95 > 2 * np.median(before, axis=-1)[:, None]) | (watch > 0.05)
    running = beyond[:, 2:] & beyond[:, 1:-1] & beyond[:, :-2]
    return np.where(running.any(axis=-1), running.argmax(axis=-1) + 3, NEVER)


def mann_whitney(traffic: Traffic, bad: Bad) -> Alarms:
    """As Kayenta: what came since against the hour before, at 1 %, repeated every minute from the fifth on."""
    watch, p95, before = _watched(traffic, bad)
    errors_before = _errors(traffic)[:, -60:]
    alarms = np.full(watch.shape[0], NEVER)
    for minute in range(5, watch.shape[-1] + 1):
        worse = _greater(p95[:, :minute], before) | _greater(watch[:, :minute], errors_before)
        alarms = np.where(worse & (alarms == NEVER), minute, alarms)
    return alarms


def _watched(traffic: Traffic, bad: Bad) -> tuple[Floats, Floats, Floats]:
    """Share of errors and p95 of each minute of the watch, and the p95 of the hour before."""
    watch = traffic.watch(bad)
    past = traffic.past.latency
    assert isinstance(past, Simulated)  # noqa: S101 - what Traffic makes
    assert watch.latency is not None  # noqa: S101
    hour = Simulated(past.requests[:, -60:], past.middle[:, -60:], past.width, past.random)
    share = watch.errors / np.maximum(watch.requests, 1)
    return share, np.nan_to_num(watch.latency.quantile(0.95)), np.nan_to_num(hour.quantile(0.95))


def _errors(traffic: Traffic) -> Floats:
    return np.asarray(traffic.past.errors / np.maximum(traffic.past.requests, 1), float)


def _greater(one: Floats, two: Floats) -> NDArray[np.bool_]:
    """Whether a one-sided Mann-Whitney test, by its normal approximation with ties, says so at 1 %."""
    n, m = one.shape[-1], two.shape[-1]
    ranks = rankdata(np.concatenate([one, two], axis=-1), axis=-1)
    statistic = ranks[:, :n].sum(axis=-1) - n * (n + 1) / 2
    # The variance of the ranks that there are takes the ties into account.
    deviation = np.sqrt(n * m / (n + m) * ranks.var(axis=-1, ddof=1))
    return np.asarray(statistic - n * m / 2 > norm.isf(0.01) * np.maximum(deviation, 1e-9), bool)


WAYS = {"ours": ours, "thresholds": thresholds, "mann_whitney": mann_whitney}


def releases(world: World, repetitions: int) -> dict[str, dict[str, Row]]:
    """Every way on every release, on the same series."""
    traffic = Traffic(world, repetitions, seed=7)
    return {name: {way: Row.of(alarms(traffic, bad)) for way, alarms in WAYS.items()} for name, bad in RELEASES.items()}


def false_alarms(repetitions: int) -> dict[str, float]:
    """Ours on good releases, in every world."""
    found = {}
    for seed, (name, world) in enumerate(WORLDS.items(), start=100):
        alarms = ours(Traffic(world, repetitions, seed), Bad())
        found[name] = float((alarms < NEVER).mean())
    return found


def table(title: str, rows: dict[str, dict[str, Row]]) -> Table:
    """What every way said of every release."""
    shown = Table("release", *WAYS, title=title, title_justify="left")
    for name, row in rows.items():
        shown.add_row(name, *(str(row[way]) for way in WAYS))
    return shown


def main() -> int:
    """Run everything; 1 where a limit is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.judge")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--nab", type=Path, default=os.environ.get("NAB"), help="a clone of numenta/NAB")
    arguments = parser.parse_args()
    console = Console(width=110)
    many = releases(World(), arguments.repetitions)
    console.print(table("600 requests a minute, 2 h: found / median minutes", many))
    few = releases(replace(World(), rate=20), arguments.repetitions)
    console.print(table("20 requests a minute", few))
    alarms = false_alarms(arguments.repetitions)
    shown = Table("good releases in a world of", "false alarms", title_justify="left")
    for name, share in alarms.items():
        shown.add_row(name, f"{100 * share:.1f} %")
    console.print(shown)
    if arguments.nab:
        seen = nab.replay(arguments.nab)
        console.print(
            f"NAB: {seen.false_alarms} alarms in {seen.quiet} quiet watches of two hours; "
            f"{seen.found} of {seen.windows} labelled windows found"
        )
    else:
        console.print("NAB: skipped; --nab names a clone of https://github.com/numenta/NAB")
    rate = float(np.mean(list(alarms.values())))
    missed = [name for name, limit in LIMITS.items() if many[name]["ours"].minutes > limit]
    if rate > MOST_FALSE:
        missed.append("false alarms")
    if many["two-minute blip"]["ours"].found > many["good"]["ours"].found:
        missed.append("two-minute blip")
    console.print(f"{'FAIL: ' + ', '.join(missed) if missed else 'PASS'}")
    result = {
        "bench": "judge",
        "false_alarm_rate": round(rate, 4),
        **{key: many[name]["ours"].minutes for name, key in KEYS.items()},
        "blip_alarms": many["two-minute blip"]["ours"].found,
        "peers": {
            way: {
                "false_alarm_rate": many["good"][way].found,
                **{key: many[name][way].minutes for name, key in KEYS.items()},
                "blip_alarms": many["two-minute blip"][way].found,
            }
            for way in WAYS
            if way != "ours"
        },
    }
    sys.stdout.write(json.dumps(result).replace(str(float(NEVER)), "null") + "\n")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
