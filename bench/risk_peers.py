"""Other linters over the same migrations: squawk, django-migration-linter, -safe-migrations, -deferred-migrations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.migrations.case import Case
from bench.projects import variables
from bench.reasons import is_style
from bench.shop_server import Shop

INSIDE = Path(__file__).with_name("peers_inside.py")
SQUAWK = Path(sys.executable).with_name("squawk")
POSTGRES = "17.0"
ANSWER_S = 120
APPS = ("django_migration_linter", "django_safe_migrations")
DEFERRED_APP = "deferred_migrations"
NAMES = {
    "linter": "django-migration-linter",
    "safe": "django-safe-migrations",
    "deferred": "django-deferred-migrations",
}


def ask(shop: Shop, case: Case, dbname: str, sql: Path) -> dict[str, tuple[str, ...]]:
    """The rules of each linter but squawk that fire on a case; its SQL is written below a directory, for squawk.

    Raises:
        RuntimeError: The linters could not be run.
    """
    done = subprocess.run(
        [str(shop.python), str(INSIDE), *(["deferred"] if shop.deferred else [])],
        cwd=shop.home / f"new_{case.name}",
        env=variables(shop.place, dbname, *APPS, *([DEFERRED_APP] if shop.deferred else [])),
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the linters on {case.name}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for migration, text in answer["sql"].items():
        if text is not None:
            (sql / f"{case.name}--{migration}.sql").write_text(text)
    tools = [tool for tool in NAMES if tool != "deferred" or shop.deferred]
    return {NAMES[tool]: tuple(rule for rule in answer[tool] if not is_style(rule)) for tool in tools}


def squawk(sql: Path) -> Mapping[str, tuple[str, ...]]:
    """The rules of squawk that fire on each case, by one process over all files.

    Raises:
        json.JSONDecodeError: It did not answer.
    """
    files = [str(file) for file in sorted(sql.glob("*.sql"))]
    if not files:
        return {}
    done = subprocess.run(
        [str(SQUAWK), "--reporter", "json", "--pg-version", POSTGRES, *files],
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        check=False,
    )
    found: defaultdict[str, set[str]] = defaultdict(set)
    for finding in json.loads(done.stdout):
        if not is_style(finding["rule_name"]):
            found[Path(finding["file"]).name.partition("--")[0]].add(finding["rule_name"])
    return {case: tuple(sorted(rules)) for case, rules in found.items()}
