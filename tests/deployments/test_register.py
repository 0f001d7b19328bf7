"""Registering on a real server: what runs by itself waits until its environment has a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deployments.register import register
from tests.fix_prefect import PrefectServer


@pytest.fixture
def files(prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RUNBOOK_ENVIRONMENTS", str(tmp_path))
    yield tmp_path
    prefect_server.pause_schedules()


def paused(server: PrefectServer) -> set[tuple[str, bool]]:
    """What is on a schedule: its environment, and whether it is paused."""
    found = httpx.post(f"{server.api}/deployments/filter", json={}, timeout=30).raise_for_status().json()
    return {(one["parameters"]["environment"], one["paused"]) for one in found if one["schedules"]}


def test_schedules_wait_for_the_file_of_their_environment(prefect_server: PrefectServer, files: Path) -> None:
    told: list[str] = []
    (files / "staging.toml").touch()
    register(prefect_server.api, told.append)
    assert paused(prefect_server) == {("staging", False), ("production", True)}
    [line] = [line for line in told if line.startswith("paused")]
    assert "reconcile/production" in line
    assert "staging" not in line.replace(str(files), "")

    told.clear()
    register(prefect_server.api, told.append, only_if_changed=True)
    assert not told

    (files / "production.toml").touch()
    register(prefect_server.api, told.append, only_if_changed=True)
    assert paused(prefect_server) == {("staging", False), ("production", False)}
    assert not [line for line in told if line.startswith("paused")]
