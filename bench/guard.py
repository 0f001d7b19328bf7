"""What the application feels of a migration: plain `migrate`, ours, and django-pg-zero-downtime-migrations.

    python -m bench.guard [--rows 400000] [--budget 1.0] [--cases reader,index]

The shop serves requests (short SELECT, INSERT and UPDATE of a few threads) while a migration is carried out; in the
first case somebody reads the table in a transaction of ten seconds besides. Told are the worst request beyond the worst
one before the migration, the failed requests (the shop gives up after five seconds), and whether the migration finished
or was refused. Ours promises: no stall beyond the budget and what it takes to react, no failed request, and in the
reader's case a stall under a second and an end. Ends with one line of JSON, and with status 1 when the promise is
broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import uv

from bench.guard_load import Load
from bench.guard_ours import migrate
from bench.migrations.case import Case
from bench.migrations.shop import added
from bench.projects import INSTALL_S, variables
from bench.shop_server import Shop, shop

PEER = "django-pg-zero-downtime-migrations==0.20"
ENGINES = {
    "plain": "django.db.backends.postgresql",
    "zero-downtime": "django_zero_downtime_migrations.backends.postgres",
}
# As the peer's own documentation proposes them.
SETTINGS = """
import os

SECRET_KEY = "not a secret"
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {
    "ENGINE": os.environ.get("SHOP_ENGINE", "django.db.backends.postgresql"),
    "HOST": os.environ["SHOP_HOST"], "PORT": os.environ["SHOP_PORT"], "USER": os.environ["SHOP_USER"],
    "PASSWORD": os.environ["SHOP_PASSWORD"], "NAME": os.environ["SHOP_DATABASE"],
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
ZERO_DOWNTIME_MIGRATIONS_LOCK_TIMEOUT = "2s"
ZERO_DOWNTIME_MIGRATIONS_STATEMENT_TIMEOUT = "2s"
ZERO_DOWNTIME_MIGRATIONS_FLEXIBLE_STATEMENT_TIMEOUT = True
ZERO_DOWNTIME_MIGRATIONS_RAISE_FOR_UNSAFE = False
"""
WORK = """
def forwards(apps, schema_editor):
    for order in apps.get_model("shop", "Order").objects.order_by("pk")[:20000]:
        order.note = "y"
        order.save()
"""
CASES = {
    "reader": Case(
        "reader",
        "migrations.AddField('order', 'extra', models.IntegerField(null=True)),",
        models=added("Order", "extra = models.IntegerField(null=True)"),
    ),
    "index": Case("index", "migrations.RunSQL('CREATE INDEX guarded ON shop_order (note, reference)'),"),
    "type": Case(
        "type",
        "migrations.AlterField('order', 'number', models.BigIntegerField()),",
        models=(("    number = models.IntegerField()\n", "    number = models.BigIntegerField()\n"),),
    ),
    "foreign key": Case(
        "foreign_key",
        (
            "migrations.RunSQL('ALTER TABLE shop_item ADD CONSTRAINT guarded FOREIGN KEY (order_id)"
            " REFERENCES shop_order'),"
        ),
    ),
    "python": Case("python", "migrations.RunPython(forwards, migrations.RunPython.noop),", head=WORK),
}
READER_S, READER_STALL_S, REACTION_S = 10.0, 1.0, 0.25
NORMAL_S = 2.0  # of load before the migration
LIMIT_S = 300


class Felt(NamedTuple):
    """What one way did to the application in one case."""

    stall_s: float
    failed: int
    finished: bool
    seconds: float


def _commanded(directory: Path, shop: Shop, dbname: str, engine: str) -> bool:
    place = {**variables(shop.place, dbname), "SHOP_ENGINE": engine}
    done = subprocess.run(
        [str(shop.python), "manage.py", "migrate", "--no-input"],
        cwd=directory,
        env=place,
        capture_output=True,
        check=False,
        timeout=LIMIT_S,
    )
    return done.returncode == 0


@contextlib.contextmanager
def _reader(shop: Shop, dbname: str) -> Iterator[None]:
    """Hold the table of orders for ten seconds, as a long report does."""
    held, ended = threading.Event(), threading.Event()

    def read() -> None:
        with shop.connect(dbname) as connection, connection.transaction():
            connection.execute("SELECT count(*) FROM (SELECT 1 FROM shop_order LIMIT 10) o")
            held.set()
            ended.wait(READER_S)

    thread = threading.Thread(target=read)
    thread.start()
    held.wait(READER_S)
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measured(shop: Shop, case: str, rows: int, way: Callable[[str], bool]) -> Felt:
    """Carry out a case in one way under load."""
    with shop.database(rows, case.replace(" ", "_")) as dbname, Load(lambda: shop.connect(dbname), rows) as load:
        time.sleep(NORMAL_S)
        normal_s = load.worst_s()
        with _reader(shop, dbname) if case == "reader" else contextlib.nullcontext():
            began = time.monotonic()
            finished = way(dbname)
            seconds = time.monotonic() - began
        time.sleep(0.2)
        load.stop()
        return Felt(max(0.0, load.worst_s() - normal_s), load.failed, finished, seconds)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Measure every case in every way, print it and judge ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--budget", type=float, default=1.0, help="seconds that others may be made to wait")
    parser.add_argument("--cases", default=",".join(CASES))
    arguments = parser.parse_args()
    felt: dict[str, dict[str, Felt]] = {"plain": {}, "ours": {}, "zero-downtime": {}}
    with shop(keep=False) as place:
        install = [uv.find_uv_bin(), "pip", "install", "-q", "--python", str(place.python), PEER]
        subprocess.run(install, check=True, timeout=INSTALL_S)
        place.begin((arguments.rows,))
        _tell(f"{'case':12} {'way':14} {'stall s':>8} {'failed':>7} {'ended':>9} {'seconds':>8}")
        for name in arguments.cases.split(","):
            directory = place.new(CASES[name])
            (directory / "shop_settings.py").write_text(SETTINGS)
            ways: dict[str, Callable[[str], bool]] = {
                "plain": lambda dbname, at=directory: _commanded(at, place, dbname, ENGINES["plain"]),  # type: ignore[misc]
                "ours": lambda dbname, at=directory: migrate(place, at, dbname, arguments.budget),  # type: ignore[misc]
                "zero-downtime": lambda dbname, at=directory: _commanded(  # type: ignore[misc]
                    at, place, dbname, ENGINES["zero-downtime"]
                ),
            }
            for way, carry_out in ways.items():
                one = felt[way][name] = measured(place, name, arguments.rows, carry_out)
                ended = "finished" if one.finished else "refused" if way == "ours" else "failed"
                _tell(f"{name:12} {way:14} {one.stall_s:8.2f} {one.failed:7} {ended:>9} {one.seconds:8.1f}")
    ours = felt["ours"]
    _tell(
        json.dumps(
            {
                "bench": "guard",
                "worst_stall_s": round(max(one.stall_s for one in ours.values()), 2),
                "failed_requests": sum(one.failed for one in ours.values()),
                "plain_worst_stall_s": round(max(one.stall_s for one in felt["plain"].values()), 2),
            }
        )
    )
    kept = all(one.stall_s <= arguments.budget + REACTION_S and not one.failed for one in ours.values())
    if "reader" in ours:
        kept = kept and ours["reader"].finished and ours["reader"].stall_s < READER_STALL_S
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
