"""The environment files that come with the project can be read, and say nothing in clear that is secret."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tasks.release.environment import parse

PRESETS = sorted((Path(__file__).parents[2] / "deployments" / "environments").glob("*.toml"))


def filled(value: Any) -> Any:
    """The same content with a secret in the place of each reference to one."""
    if isinstance(value, dict):
        if len(value) == 1 and set(value) <= {"file", "env", "block"}:
            return SecretStr("a secret")
        return {key: filled(inner) for key, inner in value.items()}
    return value


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_a_preset_is_an_environment(preset: Path) -> None:
    environment = parse(filled(tomllib.loads(preset.read_text(encoding="utf-8"))), preset)
    assert environment.app.directory.is_absolute()
    first = environment.smoke.endpoints[0]
    assert first.json_equals.get("release") == "{commit}", "the first endpoint tells new code from old after a reload"


def test_there_is_one() -> None:
    assert "staging" in {preset.stem for preset in PRESETS}
