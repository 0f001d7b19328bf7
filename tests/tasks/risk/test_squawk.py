"""squawk, asked about statements that no rule knows."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import pytest

from tasks.risk.squawk import opinions

INDEX = "CREATE INDEX i ON shop_order (number)"
TYPE = "ALTER TABLE shop_order ALTER COLUMN number TYPE bigint"


def test_each_statement_gets_its_own_opinions() -> None:
    index, nothing, kind, several = opinions([INDEX, "SELECT 1", f"{TYPE};", "-- nothing\nSELECT 2"])
    assert [each.rule for each in index] == ["require-concurrent-index-creation"]
    assert [each.rule for each in kind] == ["changing-column-type"]
    assert nothing == several == ()


def test_limits_that_the_runner_sets_and_taste_are_not_told() -> None:
    said = opinions([INDEX, "CREATE TABLE a (id serial PRIMARY KEY, name varchar(20), n int, at timestamp)"])
    assert {each.rule for each in (*said[0], *said[1])} == {"require-concurrent-index-creation"}


def test_many_statements_are_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    real = shutil.which("squawk", path=sysconfig.get_path("scripts"))
    wrapper = tmp_path / "bin" / "squawk"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho called >> "{calls}"\nexec "{real}" "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(wrapper.parent / "python"))
    statements = [f"CREATE INDEX i{number} ON shop_order (number)" for number in range(100)]
    assert all(opinions(statements))
    assert all(opinions(statements))
    assert calls.read_text(encoding="utf-8").splitlines() == ["called"]
