"""Our judgement of migrations against what they really do, and against other linters.

    python -m bench.risk [--only NAME ...] [--keep] [--trust]

Every migration of the set is run on PostgreSQL with 50,000 rows per table; a label that the run does not bear out ends
the benchmark with status 1, as do a danger that we do not name for the right reason and a safe migration that we flag.
Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import hundred, reasons, risk_peers, truth
from bench.migrations import CASES
from bench.migrations.case import PREVIOUS, Case
from bench.migrations.shop import ROWS, release
from bench.projects import write_release
from bench.shop_server import Shop, shop
from bench.truth import Truth
from tasks.app.command import Checkout
from tasks.app.probing import plan as plan_of
from tasks.release.environment import Environment, parse
from tasks.release.plan import Plan
from tasks.risk.assess import assess
from tasks.risk.judge import judge
from tasks.risk.live import LiveFacts
from tasks.risk.problems import findings_of

WORKERS = 2  # cases that run side by side
LIMIT_S = 10.0  # of the judgement of a hundred migrations
MILLISECONDS = 1000


@dataclass
class Said:
    """What everybody says of a case."""

    ours: tuple[str, ...] = ()  # rules
    told: tuple[str, ...] = ()  # our messages
    without_data: tuple[str, ...] = ()  # our rules where the database is a throw-away one
    peers: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Result:
    """A case, what is true of it and what was said."""

    case: Case
    truth: Truth | None  # None: the label is trusted
    said: Said

    @property
    def wrong_label(self) -> str:
        """How the label differs from what running it showed; "" where it does not."""
        if self.truth is None:
            return ""
        if missing := [danger for danger in self.case.dangers if danger not in self.truth.dangers]:
            return f"{', '.join(missing)} was not seen; seen: {self.truth.dangers or 'nothing'}"
        return f"is called safe; seen: {self.truth.dangers}" if self.truth.dangers and not self.case.dangers else ""

    def right(self, rules: Sequence[str], topics: reasons.Topics) -> bool:
        """Whether a danger is named for the right reason, or a safe migration is left alone."""
        return reasons.names(rules, topics, self.case.reasons) if self.case.dangerous else not rules


def environment_of(shop_: Shop, directory: Path, dbname: str) -> Environment:
    """The environment of a shop with a database."""
    place = shop_.place
    secret = {"file": "password"}
    return parse(
        {
            "name": "bench",
            "kind": "staging",
            "app": {
                "directory": str(directory),
                "python": str(shop_.python),
                "settings": "shop_settings",
                "branch": "main",
                "reload": [],
                "variables": {
                    "SHOP_HOST": place["SHOP_HOST"],
                    "SHOP_PORT": place["SHOP_PORT"],
                    "SHOP_USER": place["SHOP_USER"],
                    "SHOP_DATABASE": dbname,
                },
                "secrets": {"SHOP_PASSWORD": secret},
            },
            "database": {
                "host": place["SHOP_HOST"],
                "port": int(place["SHOP_PORT"]),
                "name": dbname,
                "user": place["SHOP_USER"],
                "password": secret,
            },
            "storage": {"bucket": "bench"},
            "smoke": {"base_url": "http://127.0.0.1:1", "endpoints": [{"path": "/"}]},
        },
        shop_.home / "bench.toml",
    )


class Judgement:
    """Our judgement and the linters', all on one filled database that nobody changes."""

    def __init__(self, shop_: Shop, dbname: str) -> None:
        self.shop = shop_
        self.dbname = dbname
        password = shop_.home / "password"
        password.touch(mode=0o600)
        password.write_text(shop_.place["SHOP_PASSWORD"])
        self.old = Checkout(shop_.old, shop_.python, "old")
        self.environment = environment_of(shop_, shop_.old, dbname)
        self.sql = shop_.home / "sql"
        self.sql.mkdir()

    def plan(self, directory: Path) -> tuple[Plan, Checkout]:
        """The plan of a release."""
        checkout = Checkout(directory, self.shop.python, "new")
        return plan_of(self.environment, checkout), checkout

    def __call__(self, case: Case) -> Said:
        """What everybody but squawk says of a case."""
        plan, checkout = self.plan(self.shop.new(case))
        risk = assess(self.environment, plan, checkout, self.old)
        with LiveFacts(self.environment.database, plan.database.migrations_schema, data=False) as facts:
            less = judge(plan, facts, checkout.directory, self.shop.old, more=findings_of(plan))
        return Said(
            ours=tuple(dict.fromkeys(finding.rule for finding in risk.findings)),
            told=tuple(f"{finding.rule} ({finding.severity}): {finding.message}" for finding in risk.findings),
            without_data=tuple(dict.fromkeys(finding.rule for finding in less.findings)),
            peers=risk_peers.ask(self.shop, case, self.dbname, self.sql),
        )

    def hundred(self) -> float:
        """Seconds that the judgement of a hundred pending migrations takes, the application's start included."""
        files = {PREVIOUS: self.shop.initial, **hundred.migrations()}
        directory = write_release(self.shop.home / "hundred", release(), files)
        begun = time.perf_counter()
        plan, checkout = self.plan(directory)
        risk = assess(self.environment, plan, checkout, self.old)
        seconds = time.perf_counter() - begun
        if len(plan.pending) != hundred.COUNT or not risk.findings:
            raise RuntimeError(f"{len(plan.pending)} migrations are pending, {len(risk.findings)} findings")
        return seconds


def table(results: Sequence[Result], peers: Sequence[str]) -> Table:
    """One line per case."""
    drawn = Table(title="Truth, and who says what", title_justify="left")
    for heading in ("migration", "what running it showed", "lock, x trivial", "we", "we, no data", *peers):
        drawn.add_column(heading, overflow="fold")
    for result in results:
        seen = result.truth
        shown = ", ".join(seen.dangers if seen else result.case.dangers) or "safe"
        times = seen.held_s / seen.trivial_s if seen and seen.trivial_s else 0
        drawn.add_row(
            result.case.name,
            shown,
            f"{seen.lock} {seen.held_s * MILLISECONDS:.0f} ms, x{times:.0f}" if seen and seen.lock else "",
            _mark(result, result.said.ours, reasons.OURS),
            _mark(result, result.said.without_data, reasons.OURS),
            *(_mark(result, result.said.peers.get(peer, ()), reasons.PEERS[peer]) for peer in peers),
        )
    return drawn


def _mark(result: Result, rules: Sequence[str], topics: reasons.Topics) -> str:
    """What a tool says, green where it is right."""
    colour = "green" if result.right(rules, topics) else "red"
    return f"[{colour}]{', '.join(rules) or '-'}[/]"


def tally(results: Sequence[Result], topics: reasons.Topics, peer: str | None = None) -> tuple[int, int]:
    """How many dangers a tool names and how many safe migrations it flags; None: ours."""
    named = flagged = 0
    for result in results:
        rules = result.said.peers.get(peer, ()) if peer else result.said.ours
        right = result.right(rules, topics)
        named += result.case.dangerous and right
        flagged += not result.case.dangerous and not right
    return named, flagged


def run(cases: Sequence[Case], shop_: Shop, trust: bool, console: Console) -> tuple[list[Result], float]:
    """Run and judge every case; the results and the seconds of a hundred migrations."""
    with shop_.database(ROWS, "judged") as dbname:
        with shop_.inside(shop_.old, dbname) as old:
            before: Mapping[str, str] = old("use")["found"]
        judgement = Judgement(shop_, dbname)
        seconds = judgement.hundred()
        results = []
        with ThreadPoolExecutor(WORKERS) as running, ThreadPoolExecutor(1) as judging:
            try:
                said = [judging.submit(judgement, case) for case in cases]
                true = [None if trust else running.submit(truth.measure, shop_, case, before) for case in cases]
                for case, says, shows in zip(cases, said, true, strict=True):
                    result = Result(case, shows.result() if shows else None, says.result())
                    results.append(result)
                    told = complaints([result]) or [f"        {case.name}"]
                    console.print("\n".join(told), highlight=False, markup=False)
            except BaseException:  # an interruption, too, must not wait for what has not begun
                for pool in (running, judging):
                    pool.shutdown(wait=False, cancel_futures=True)
                raise
        for case_name, rules in risk_peers.squawk(judgement.sql).items():
            next(result for result in results if result.case.name == case_name).said.peers["squawk"] = rules
    return results, seconds


def complaints(results: Sequence[Result]) -> list[str]:
    """Wrong labels, unnamed dangers, flagged safe ones, and rules of ours that no reason stands for."""
    found = [f"LABEL   {result.case.name}: {result.wrong_label}" for result in results if result.wrong_label]
    for result in results:
        if result.right(result.said.ours, reasons.OURS):
            continue
        why = ", ".join(f"{danger} ({how})" for danger, how in result.truth.dangers.items()) if result.truth else ""
        told = "".join(f"\n          {line}" for line in result.said.told) or " nothing"
        word = f"MISSED  {result.case.name}: {why}; we say" if result.case.dangerous else f"FLAGGED {result.case.name}:"
        found.append(f"{word}{told}")
    unknown = {rule for result in results for rule in result.said.ours} - reasons.OURS.keys()
    return [*found, *(f"RULE    {rule} stands for no reason in bench/reasons.py" for rule in sorted(unknown))]


def main() -> int:
    """Run the benchmark; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.risk", description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME", help="a case; may be given several times")
    parser.add_argument("--keep", action="store_true", help="leave each case's database until the end")
    parser.add_argument("--trust", action="store_true", help="do not run the migrations, take the labels for true")
    options = parser.parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit("interrupted"))  # unwinds, so the server is stopped
    console = Console(width=190) if not sys.stdout.isatty() else Console()
    cases = [case for case in CASES if not options.only or case.name in options.only]
    with shop(options.keep) as place:
        place.begin((ROWS,) if options.trust else truth.SIZES)
        results, seconds = run(cases, place, options.trust, console)
        peers = [peer for peer in reasons.PEERS if place.deferred or peer != "django-deferred-migrations"]
    console.print(table(results, peers))
    for complaint in complaints(results):
        console.print(complaint, highlight=False, markup=False)
    named, flagged = tally(results, reasons.OURS)
    dangerous = sum(result.case.dangerous for result in results)
    told = {
        "bench": "risk",
        "dangerous": dangerous,
        "named": named,
        "safe": len(results) - dangerous,
        "flagged": flagged,
        "peers": {peer: tally(results, reasons.PEERS[peer], peer) for peer in peers},
        "plan_100_s": round(seconds, 2),
    }
    print(json.dumps(told))  # noqa: T201
    wrong = any(result.wrong_label for result in results)
    return int(wrong or named < dangerous or flagged > 0 or seconds >= LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
