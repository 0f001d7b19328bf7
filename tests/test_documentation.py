"""What a person can set, run or meet is documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import typer
import yaml
from pydantic import BaseModel

import deployments.cli  # noqa: F401 - adds its commands
from deployments.embedded import errors as embedded_errors
from flows.cli import app
from tasks.release import errors
from tasks.release.environment import DIRECTORY_VARIABLE, Environment
from tasks.release.errors import RunbookError
from tasks.release.plan import ProblemRule
from tasks.release.release import StageName
from tasks.risk.rules import MIGRATION_RULES, OPERATION_RULES

ROOT = Path(__file__).parents[1]
PAGES = {
    page.relative_to(ROOT).as_posix(): page for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
TEXT = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
ROWS = {
    "gate": "prerequisites",
    "announced": "notice before",
    "verification": "proof",
    "maintenance": "maintenance on",
    "applied": "migrate",
    "reloaded": "reload",
    "reopened": "maintenance off",
    "smoke": "smoke test",
    "told": "notice after",
}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def _settings(section: type[BaseModel] = Environment, heading: str = "The file itself") -> Iterator[tuple[str, str]]:
    """Every key, with the beginning of the heading that it stands under."""
    for name, field in section.model_fields.items():
        yield heading, name
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            # `scratch_server` is a second section of a kind that has a page of its own.
            if isinstance(kind, type) and issubclass(kind, BaseModel) and name != "scratch_server":
                yield from _settings(kind, "[smoke]" if name == "endpoints" else f"[{name}]")


@pytest.mark.parametrize(("heading", "setting"), list(_settings()), ids=lambda one: one.strip("[]"))
def test_every_setting_is_explained(heading: str, setting: str) -> None:
    section = TEXT["docs/environments.md"].partition(f"\n## {heading}")[2].partition("\n## ")[0]
    first_cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("|")]
    assert any(f"`{setting}`" in cell for cell in first_cells)


def test_the_variable_that_names_other_environments_is_explained() -> None:
    assert DIRECTORY_VARIABLE in TEXT["docs/environments.md"]


def _commands() -> list[Any]:
    return [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


@pytest.mark.parametrize("command", _commands())
def test_every_command_is_in_the_documentation(command: str) -> None:
    assert any(re.search(rf"runbook {command}\b", text) for text in TEXT.values())


def _options() -> Iterator[tuple[str, str]]:
    group = typer.main.get_command(app)
    for name, command in getattr(group, "commands", {}).items():
        for parameter in command.params:
            yield from ((name, option) for option in parameter.opts if option.startswith("--"))


@pytest.mark.parametrize(("command", "option"), list(_options()))
def test_every_option_is_in_the_documentation(command: str, option: str) -> None:
    assert any(re.search(rf"{option}\b", text) and f"runbook {command}" in text for text in TEXT.values())


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


def test_every_rule_is_in_the_table_of_rules() -> None:
    """The table is what the rules say of themselves; a mismatch shows the table to paste."""
    rules = {rule.id: rule for rule in (*OPERATION_RULES, *MIGRATION_RULES)}
    rows = [f"| `{rule.id}` | {rule.severity} | {rule.harm} | {rule.catches} |" for rule in rules.values()]
    expected = "\n".join(["| rule | severity | harm | catches |", "|---|---|---|---|", *rows])
    between = TEXT["docs/risk.md"].partition("<!-- rules: begin -->\n")[2].partition("\n<!-- rules: end -->")[0]
    assert between == expected


@pytest.mark.parametrize("problem", [rule for rule in get_args(ProblemRule) if rule != "unclassified"])
def test_every_problem_of_a_plan_is_in_the_documentation(problem: str) -> None:
    assert f"`{problem}`" in TEXT["docs/risk.md"]


@pytest.mark.parametrize("stage", get_args(StageName))
def test_every_stage_has_a_line_in_the_table(stage: str) -> None:
    """In the table of what one run does; the words there are a person's, those here the record's."""
    rows = re.findall(r"^\| \*?(\w[\w ]*?)\*? \|", TEXT["README.md"], re.MULTILINE)
    assert ROWS.get(stage, stage) in rows


@pytest.mark.parametrize("module", [errors, embedded_errors], ids=lambda module: module.__name__)
def test_every_error_is_in_the_tree_of_its_file(module: ModuleType) -> None:
    tree = module.__doc__ or ""
    for name, kind in vars(module).items():
        if isinstance(kind, type) and issubclass(kind, RunbookError) and kind.__module__ == module.__name__:
            [line] = re.findall(rf"^.*\b{name}\b.*$", tree, re.MULTILINE)
            parent = kind.__mro__[1].__name__
            above = tree[: tree.index(line)].splitlines()
            depth = len(line) - len(line.lstrip(" │├└─"))
            nearest = next((one for one in reversed(above) if len(one) - len(one.lstrip(" │├└─")) < depth), "")
            assert parent in nearest or kind is RunbookError, f"{name} stands below {nearest or 'nothing'}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_every_page_is_linked(page: str) -> None:
    """By another page; the decision records by their folder."""
    linked = {
        (PAGES[name].parent / target).resolve()
        for name, text in TEXT.items()
        if name != page
        for target in LINK.findall(text)
        if "://" not in target
    }
    assert linked & {PAGES[page], PAGES[page].parent}


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
