"""Our guarded migrate on a database of the shop, without backup and record: only what the application feels counts."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from bench.projects import variables
from bench.shop_server import Shop
from tasks.app.alone import alone_in
from tasks.app.command import Checkout
from tasks.app.probing import plan
from tasks.database.lock import advisory_lock
from tasks.migrate.attempt import Clock
from tasks.migrate.run import SESSION, Run
from tasks.release.environment import Environment
from tasks.release.errors import MigrationError

PATIENCE_S = 60
PASSED = ("SHOP_HOST", "SHOP_PORT", "SHOP_USER", "SHOP_DATABASE", "PYTHONPATH")


def migrate(shop: Shop, directory: Path, dbname: str, budget_s: float) -> bool:
    """Migrate; whether it finished, else it was refused.

    Raises:
        RunbookError: Something else went wrong.
    """
    environment = _environment(shop, directory, dbname, budget_s)
    checkout = Checkout(directory, shop.python, "bench")

    def ignore(*_: object) -> None:
        """Nobody reads it."""

    with advisory_lock(environment.database, "migrate", "bench") as lock, alone_in(directory, 1, ignore) as lone:
        pending = plan(environment, checkout).pending
        clock = Clock([migration.label for migration in pending], ignore)
        run = Run(environment, checkout, f"{SESSION}bench", budget_s, lone, lock, {}, clock, ignore)
        try:
            run.to_the_end(pending)
        except MigrationError:
            return False
    return True


def _environment(shop: Shop, directory: Path, dbname: str, budget_s: float) -> Environment:
    reached = variables(shop.place, dbname)
    return Environment.model_validate(
        {
            "name": "bench",
            "kind": "test",
            "app": {
                "directory": directory,
                "python": str(shop.python),
                "settings": "shop_settings",
                "variables": {name: reached[name] for name in PASSED},
                "secrets": {"SHOP_PASSWORD": SecretStr(shop.place["SHOP_PASSWORD"])},
                "branch": "main",
                "reload": [],
            },
            "database": {
                "host": shop.place["SHOP_HOST"],
                "port": int(shop.place["SHOP_PORT"]),
                "name": dbname,
                "user": shop.place["SHOP_USER"],
                "password": SecretStr(shop.place["SHOP_PASSWORD"]),
            },
            "storage": {"bucket": "none"},
            "migrate": {"patience_s": PATIENCE_S},
            "risk": {"blocking_s": budget_s},
            "smoke": {"base_url": "http://127.0.0.1:1", "endpoints": [{"path": "/"}]},
        }
    )
