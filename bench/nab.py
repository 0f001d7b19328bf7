"""NAB's labelled series of cloud services, cut into days: what the judge says of a quiet day and of a labelled one.

The series (Numenta Anomaly Benchmark, https://github.com/numenta/NAB, MIT) are read from a clone, of which a git
directory will do: `--nab` or the variable NAB names it. Each value is compared with the limits of the days before it.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from tasks.monitor import seasonal
from tasks.monitor.evidence import Floats
from tasks.monitor.judge import judge

SERIES = (
    "realAWSCloudwatch/elb_request_count_8c0756",
    "realAWSCloudwatch/ec2_cpu_utilization_5f5533",
    "realAWSCloudwatch/ec2_cpu_utilization_825cc2",
    "realAWSCloudwatch/ec2_cpu_utilization_fe7f93",
    "realAWSCloudwatch/rds_cpu_utilization_cc0c53",
    "realAWSCloudwatch/rds_cpu_utilization_e47b3b",
    "realAWSCloudwatch/ec2_network_in_257a54",
    "realKnownCause/ec2_request_latency_system_failure",
)
DAY = 288  # of five minutes
LEAST_DAYS = 4  # the series have two weeks; 7 days, as in production, would leave hardly any
HISTORY = 14
WATCH = 24  # two hours


@dataclass
class Seen:
    """Watches of two hours, one after the other."""

    quiet: int = 0
    false_alarms: int = 0
    windows: int = 0
    found: int = 0


def read(repository: Path, path: str) -> str:
    """A file of the newest commit."""
    command = ["git", "-C", str(repository), "show", f"HEAD:{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def replay(repository: Path) -> Seen:
    """Every two hours of every series a watch, against the days before; labelled windows have to be found."""
    seen = Seen()
    labels = json.loads(read(repository, "labels/combined_windows.json"))
    for name in SERIES:
        rows = list(csv.DictReader(io.StringIO(read(repository, f"data/{name}.csv"))))
        times = [datetime.fromisoformat(row["timestamp"]) for row in rows]
        values = np.array([float(row["value"]) for row in rows])
        windows = [tuple(datetime.fromisoformat(one) for one in pair) for pair in labels[f"{name}.csv"]]
        number = np.full(values.size, -1)
        for index, (begin, end) in enumerate(windows):
            number[[position for position, at in enumerate(times) if begin <= at <= end]] = index
        found = set()
        reached = set()
        for start in range(LEAST_DAYS * DAY, values.size - WATCH, WATCH):
            alarmed = _alarmed(values[:start], values[start : start + WATCH])
            labelled = set(number[start : start + WATCH]) - {-1}
            reached |= labelled
            if labelled:
                found |= labelled if alarmed else set()
            elif (number[max(0, start - DAY) : start] < 0).all():
                seen.quiet += 1
                seen.false_alarms += alarmed
        seen.windows += len(reached)
        seen.found += len(found)
    return seen


def _alarmed(past: Floats, watched: Floats) -> bool:
    days = seasonal.by_day(past, DAY)[-HISTORY:]
    tolerated = np.tile(seasonal.GAUGE_SHARES, 2)
    beyond, dispersion = [], []
    # Either direction may be the anomaly: metrics for what is too high, others for what is too low.
    for sign in (1.0, -1.0):
        limits = seasonal.gauge_limits(sign * days)[:, None]
        beyond.append(sign * watched > limits)
        before = (sign * days > limits[..., None]).astype(float)
        share = np.broadcast_to(seasonal.GAUGE_SHARES[:, None, None], before.shape)
        dispersion.append(seasonal.dispersion(before, share, 1 / 5))
    bad = np.concatenate(beyond).astype(float)
    judged = judge(bad, np.ones_like(bad), tolerated[:, None], dispersion=np.concatenate(dispersion))
    return int(judged.alarmed_at) >= 0
