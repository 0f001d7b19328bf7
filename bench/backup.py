"""Our backup and restore against the runbook's and against pg_dump at its best, side by side on the same database.

    python -m bench.backup [--gigabytes 1.5] [--rounds 3] [--memory-gigabytes 6]

In every round each way runs in a process of its own, one after the other, and all but the slow one once more in the
opposite order. A ratio is the median of the ratios within the rounds, since both sides of it then met the same machine.
Ends with one line of JSON, and with status 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import data, peers
from bench.measure import Cost, measure
from bench.place import Place, servers
from bench.ways import BACKUPS, RESTORES

TITLES = {
    "runbook": "(a) runbook: pg_dump | gzip, upload / download, gunzip | psql",
    "custom": "(b) pg_dump -Fc zstd:1, upload_fileobj / download, pg_restore -j2",
    "directory": "(c) pg_dump -Fd -j2 zstd:1, upload / download, pg_restore -j2",
    "stream": "ours, the stream alone",
    "stage": "ours, the whole stage: fingerprints, manifest",
}
SLOW = "runbook"
THERE, BACK = "there", "back"  # the tours of a round, each with a prefix of its own in the bucket
MEGABYTE = 1e6
Costs = dict[str, list[Cost]]  # by way, one per round


class Bench:
    """One benchmark on one pair of servers."""

    def __init__(self, place: Place, temporary: Path, console: Console) -> None:
        self.place = place
        self.temporary = temporary
        self.console = console
        self.backups: Costs = {name: [] for name in BACKUPS}
        self.restores: Costs = {name: [] for name in RESTORES}

    def fill(self, gigabytes: float) -> None:
        """Make the database that everybody backs up."""
        begun = time.perf_counter()
        self.place.create(self.place.source)
        with self.place.connect(self.place.source) as connection:
            size = data.fill(connection, gigabytes)
            self.rows = data.rows(connection)
        self._tell(f"{size / 1e9:.2f} GB, {sum(self.rows.values()):,} rows made in {time.perf_counter() - begun:.0f} s")

    def round(self, number: int) -> None:
        """Back up and restore in every way: all of them in turn, and the quick ones once more in the opposite order."""
        there: Costs = {name: [] for name in BACKUPS}
        back: Costs = {name: [] for name in RESTORES}
        for tour, name in _tours(BACKUPS, number):
            there[name].append(self._measured("backup", name, f"round {number + 1}", tour))
        for tour, name in _tours(RESTORES, number):
            self.place.create(self.place.target)
            back[name].append(self._measured("restore", name, f"round {number + 1}", tour))
            with self.place.connect(self.place.target) as connection:
                if (rows := data.rows(connection)) != self.rows:
                    raise RuntimeError(f"{name} restored {rows} instead of {self.rows}")
        self.place.drop(self.place.target)
        self._empty_bucket()
        for kept, measured in ((self.backups, there), (self.restores, back)):
            for name, costs in measured.items():
                kept[name].append(mean(costs))

    def memory(self, gigabytes: float) -> Cost:
        """Our backup of a larger database."""
        with self.place.connect(self.place.source) as connection:
            size = data.grow(connection, gigabytes)
        cost = self._measured("backup", "stage", f"{size / 1e9:.2f} GB", THERE)
        self._empty_bucket()
        return cost

    def _measured(self, direction: str, name: str, when: str, prefix: str) -> Cost:
        self.place.settle()
        with tempfile.TemporaryDirectory(dir=self.temporary) as directory:
            command = [sys.executable, "-m", "bench.ways", direction, name]
            cost = measure(command, asdict(replace(self.place, prefix=prefix)), Path(directory))
        self._tell(
            f"{when}: {direction:7} {name:9} {cost.wall_s:6.1f} s, cpu {cost.cpu_s:5.1f} s,"
            f" memory {cost.peak_memory_bytes / MEGABYTE:4.0f} MB, disk {cost.peak_disk_bytes / MEGABYTE:4.0f} MB"
        )
        return cost

    def _empty_bucket(self) -> None:
        client = peers.bucket(self.place)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.place.bucket):
            for entry in page.get("Contents", []):
                client.delete_object(Bucket=self.place.bucket, Key=entry["Key"])

    def _tell(self, line: str) -> None:
        self.console.print(line, highlight=False)


def ratio(over: Iterable[Cost], under: Iterable[Cost], of: Callable[[Cost], float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(of(one) / of(other) for one, other in zip(over, under, strict=True))


def wall(cost: Cost) -> float:
    """Its wall time in seconds."""
    return cost.wall_s


def cpu(cost: Cost) -> float:
    """Its client's processor time in seconds."""
    return cost.cpu_s


def mean(costs: list[Cost]) -> Cost:
    """The costs of one piece of work that was measured several times; of memory and disk the peak."""
    return Cost(
        wall_s=statistics.fmean(map(wall, costs)),
        cpu_s=statistics.fmean(map(cpu, costs)),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        peak_disk_bytes=max(cost.peak_disk_bytes for cost in costs),
    )


def best(costs: Costs, names: Iterable[str]) -> list[Cost]:
    """The costs of whichever of these ways had the shortest median."""
    return min((costs[name] for name in names), key=lambda rounds: statistics.median(map(wall, rounds)))


def results(backups: Costs, restores: Costs, large: Cost | None) -> dict[str, float]:
    """The figures of the last line."""
    runbook, stream, stage = backups["runbook"], backups["stream"], backups["stage"]
    ours = [*stream, *stage, *([large] if large else [])]
    return {
        "speedup_vs_runbook": ratio(runbook, stage, wall),
        "stream_speedup_vs_runbook": ratio(runbook, stream, wall),
        "stream_cpu_speedup_vs_runbook": ratio(runbook, stream, cpu),
        "vs_best_pgdump": ratio(stream, best(backups, ("custom", "directory")), wall),
        "restore_vs_j2": ratio(restores["stage"], best(restores, ("custom", "directory")), wall),
        "peak_rss_mb": max(cost.peak_memory_bytes for cost in ours) / MEGABYTE,
        "temp_disk_mb": max(cost.peak_disk_bytes for cost in ours) / MEGABYTE,
    }


PROMISES: tuple[tuple[str, str, str, float], ...] = (
    ("the stream alone is at least 4 times faster than the runbook", "stream_speedup_vs_runbook", ">=", 4),
    ("the stream alone takes at most a quarter of the runbook's CPU", "stream_cpu_speedup_vs_runbook", ">=", 4),
    ("the stream alone is within 1.1 of the best pg_dump", "vs_best_pgdump", "<=", 1.1),
    ("the whole stage is at least 3 times faster than the runbook", "speedup_vs_runbook", ">=", 3),
    ("the restore is not slower than 1.05 of download and pg_restore -j2", "restore_vs_j2", "<=", 1.05),
    ("memory of all client processes stays under 300 MB at every size", "peak_rss_mb", "<=", 300),
    ("the backup needs no temporary disk", "temp_disk_mb", "<=", 0),
)


def kept(figures: dict[str, float], console: Console) -> bool:
    """Print which promises hold; tells whether all do."""
    all_kept = True
    for promise, figure, relation, limit in PROMISES:
        holds = figures[figure] >= limit if relation == ">=" else figures[figure] <= limit
        all_kept &= holds
        word = "[green]PASS[/]" if holds else "[red]FAIL[/]"
        console.print(f"{word} {promise}: {figures[figure]:.2f} ({relation} {limit:g})", highlight=False)
    return all_kept


def table(title: str, costs: Costs) -> Table:
    """Medians of a direction, with ratios to the runbook's way."""
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("way")
    for heading in ("wall s", "best s", "x faster than (a)", "CPU s", "x less CPU", "memory MB", "disk MB"):
        drawn.add_column(heading, justify="right")
    for name, rounds in costs.items():
        drawn.add_row(
            TITLES[name],
            f"{statistics.median(map(wall, rounds)):.1f}",
            f"{min(map(wall, rounds)):.1f}",
            f"{ratio(costs['runbook'], rounds, wall):.2f}",
            f"{statistics.median(map(cpu, rounds)):.1f}",
            f"{ratio(costs['runbook'], rounds, cpu):.2f}",
            f"{max(cost.peak_memory_bytes for cost in rounds) / MEGABYTE:.0f}",
            f"{max(cost.peak_disk_bytes for cost in rounds) / MEGABYTE:.0f}",
        )
    return drawn


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.backup", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.5, help="size of the database on the server's disk")
    parser.add_argument("--rounds", type=int, default=3, help="how often every way is measured")
    parser.add_argument("--memory-gigabytes", type=float, default=6, help="size for the memory alone; 0 leaves it out")
    options = parser.parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit("interrupted"))  # unwinds, so the servers are stopped
    console = Console(width=150) if not sys.stdout.isatty() else Console()
    with servers() as (place, temporary):
        bench = Bench(place, temporary, console)
        bench.fill(options.gigabytes)
        for number in range(options.rounds):
            bench.round(number)
        large = bench.memory(options.memory_gigabytes) if options.memory_gigabytes else None
    console.print(table("Backup (median of the rounds)", bench.backups))
    console.print(table("Restore (median of the rounds)", bench.restores))
    figures = results(bench.backups, bench.restores, large)
    all_kept = kept(figures, console)
    print(json.dumps({"bench": "backup", **{name: round(value, 2) for name, value in figures.items()}}))  # noqa: T201
    return 0 if all_kept else 1


def _tours(names: Iterable[str], number: int) -> list[tuple[str, str]]:
    """The order of a round; a load of the machine that grows or falls meanwhile meets all quick ways alike."""
    there = list(names) if number % 2 == 0 else list(names)[::-1]
    return [(THERE, name) for name in there] + [(BACK, name) for name in reversed(there) if name != SLOW]


if __name__ == "__main__":
    sys.exit(main())
