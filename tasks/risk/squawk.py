"""squawk's opinion on statements: https://squawkhq.com, a binary that comes with the package squawk-cli."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tasks.risk.vocabulary import words

TIMEOUT_S = 60  # a hundred files take a tenth of a second
# What the runner makes moot (it sets the limits, it does not wrap), what is a matter of taste, and what our own rules
# know better, since squawk sees neither the types nor the rows.
MOOT = words(
    "require-timeout-settings require-lock-timeout require-statement-timeout ban-uncommitted-transaction"
    " transaction-nesting assume-in-transaction"
)
TASTE = ("prefer-", "require-table-schema", "identifier-", "ban-char-field", "require-enum")


@dataclass(frozen=True)
class Violation:
    """One thing that squawk says about a statement."""

    rule: str
    message: str
    help: str  # "": none


def opinions(statements: Sequence[str]) -> list[tuple[Violation, ...]]:
    """What squawk says about each of some statements; one process for all of them.

    Raises:
        OSError: The binary is not there, or it does not answer in its form.
    """
    return list(_opinions(tuple(statements))) if statements else []


@lru_cache(maxsize=256)
def _opinions(statements: tuple[str, ...]) -> tuple[tuple[Violation, ...], ...]:
    with tempfile.TemporaryDirectory(prefix="runbook-squawk-") as directory:
        names = [f"{number:05}.sql" for number in range(len(statements))]
        for name, statement in zip(names, statements, strict=True):
            Path(directory, name).write_text(statement.rstrip(";") + ";\n", encoding="utf-8")
        config = Path(directory, ".squawk.toml")  # so that none of the application's is found
        config.write_text("", encoding="utf-8")
        try:
            done = subprocess.run(
                [_binary(), "--reporter", "json", "--config", str(config), *names],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
            told = json.loads(done.stdout or "[]")
        except (subprocess.TimeoutExpired, ValueError) as error:
            raise OSError(f"squawk did not answer: {type(error).__name__}") from None
    if done.returncode not in (0, 1):
        raise OSError(f"squawk ended with exit code {done.returncode}")
    found: dict[str, list[Violation]] = {name: [] for name in names}
    for each in told:
        if each["rule_name"] not in MOOT and not each["rule_name"].startswith(TASTE):
            found[Path(each["file"]).name].append(Violation(each["rule_name"], each["message"], each["help"] or ""))
    return tuple(tuple(dict.fromkeys(violations)) for violations in found.values())


def _binary() -> str:
    places = (Path(sys.executable).parent, Path(sysconfig.get_path("scripts")))
    return next((str(place / "squawk") for place in places if (place / "squawk").exists()), "squawk")
