"""What a person can set, run or meet is documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

import deployments.cli  # noqa: F401 - adds its commands
from flows.cli import app
from tasks.release.environment import DIRECTORY_VARIABLE, Environment

ROOT = Path(__file__).parents[1]
PAGES = {
    page.relative_to(ROOT).as_posix(): page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
TEXT = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def _settings(section: type[BaseModel] = Environment) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield name
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _settings(kind)


@pytest.mark.parametrize("setting", sorted(set(_settings())))
def test_every_setting_is_explained(setting: str) -> None:
    assert re.search(rf"\b{setting}\b", TEXT["docs/environments.md"])


def test_the_variable_that_names_other_environments_is_explained() -> None:
    assert DIRECTORY_VARIABLE in TEXT["docs/environments.md"]


def _commands() -> list[Any]:
    return [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


@pytest.mark.parametrize("command", _commands())
def test_every_command_is_in_the_documentation(command: str) -> None:
    assert any(re.search(rf"runbook {command}\b", text) for text in TEXT.values())


def test_every_command_in_the_documentation_exists() -> None:
    named = {
        found for text in TEXT.values() for found in re.findall(r"(?:`|^\s*)runbook ([a-z]+)\b", text, re.MULTILINE)
    }
    assert named <= set(_commands())
    assert isinstance(typer.main.get_command(app), object)


@pytest.mark.parametrize("deployment", yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"], ids=str)
def test_every_deployment_has_its_page(deployment: dict[str, Any]) -> None:
    chapter = str(deployment["entrypoint"]).split(".")[1]
    assert f"docs/{chapter}.md" in PAGES


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in LINK.findall(TEXT[page]):
        if "://" not in target:
            assert (PAGES[page].parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`|^\s*make ([a-z-]+)", TEXT[page], re.MULTILINE)) <= {
        pair for target in targets for pair in ((target, ""), ("", target))
    }
