"""The lint of prefect.yaml: everything that `prefect deploy` would ignore without a word is an error here.

Prefect ignores misspelt keys, takes an unset variable as an empty string, lets the last of two deployments of one name
win, and turns a misspelt trigger into one that fires on every event. The keys it accepts are taken from its own models.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.release.errors import ConfigurationError

TOP = frozenset({"prefect-version", "name", "build", "push", "pull", "definitions", "deployments"})
TRIGGER_COMMON = frozenset({"name", "description", "enabled", "parameters", "job_variables", "schedule_after"})
TRIGGER_EVENT = frozenset({"match", "match_related", "after", "expect", "for_each", "posture", "threshold", "within"})
TRIGGER_GROUP = frozenset({"type", "triggers", "require", "within"})
VARIABLE = re.compile(r"\{\{\s*\$(\w+)\s*\}\}")
PLACEHOLDER = re.compile(r"\{\{\s*([^}]*?)\s*\}\}")
# What Prefect itself fills in: blocks, variables, and the image or step outputs of build steps.
FILLED = ("$", "prefect.blocks.", "prefect.variables.")


def check(path: Path, variables: Mapping[str, str]) -> None:
    """Refuse a prefect.yaml that Prefect would take differently from how it reads.

    Args:
        path: The file.
        variables: The environment variables that `prefect deploy` will have.

    Raises:
        ConfigurationError: Names every mistake with its place.
    """
    problems = list(problems_in(path, variables))
    if problems:
        raise ConfigurationError(
            f"{path} has {len(problems)} mistake{'s' * (len(problems) > 1)} that Prefect would not tell:\n"
            + "\n".join(f"  {problem}" for problem in problems),
            hint="mend them; nothing was deployed",
        )


def problems_in(path: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Every mistake in a prefect.yaml, in one sentence each.

    Args:
        path: The file.
        variables: The environment variables that `prefect deploy` will have.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except (OSError, yaml.YAMLError) as error:
        yield f"it cannot be read: {' '.join(str(error).split())}"
        return
    if not isinstance(content, dict):
        yield "it is not a mapping"
        return
    yield from _unknown("the file", content, TOP)
    deployments = content.get("deployments")
    if not isinstance(deployments, list) or not deployments:
        yield "it has no deployments"
        return
    names: Counter[tuple[Any, Any]] = Counter()
    for position, deployment in enumerate(deployments):
        if not isinstance(deployment, dict) or not isinstance(deployment.get("name"), str):
            yield f"deployment {position + 1} has no name"
            continue
        yield from _in_deployment(deployment)
        names[_flow_of(deployment), deployment["name"]] += 1
    for (flow, name), count in names.items():
        if count > 1:
            yield f"{name}: {count} deployments of {flow} have this name; the last one would win"
    yield from _unset(content, variables)


def _in_deployment(deployment: Mapping[str, Any]) -> Iterator[str]:
    from prefect.cli.deploy._models import DeploymentConfig, WorkPoolConfig  # noqa: PLC0415 - seconds of import

    name = deployment["name"]
    yield from _unknown(name, deployment, _keys(DeploymentConfig))
    pool = deployment.get("work_pool")
    if not isinstance(pool, dict) or not pool.get("name"):
        yield f"{name}: no work_pool: name; a run of it would never start"
    else:
        yield from _unknown(f"{name}: work_pool", pool, _keys(WorkPoolConfig))
    yield from _entrypoint(name, deployment)
    for position, trigger in enumerate(deployment.get("triggers") or ()):
        if isinstance(trigger, dict):
            yield from _trigger(f"{name}: trigger {trigger.get('name', position + 1)}", trigger)
        else:
            yield f"{name}: trigger {position + 1} is not a mapping"


def _entrypoint(name: str, deployment: Mapping[str, Any]) -> Iterator[str]:
    from prefect import Flow  # noqa: PLC0415 - seconds of import

    module, _, function = str(deployment.get("entrypoint", "")).rpartition(".")
    if not module or ":" in function:
        yield f"{name}: entrypoint must be a module path, such as flows.staging.staging"
        return
    try:
        flow = getattr(importlib.import_module(module), function)
    except Exception as error:  # noqa: BLE001 - whatever a module raises while it is imported
        yield f"{name}: entrypoint {module}.{function} cannot be loaded: {type(error).__name__}: {error}"
        return
    if not isinstance(flow, Flow):
        yield f"{name}: entrypoint {module}.{function} is not a flow"
        return
    known = flow.parameters.properties
    for parameter in deployment.get("parameters") or {}:
        if parameter not in known:
            yield f"{name}: parameters: {parameter} is no parameter of {function}"
    if not flow.description:
        yield f"{name}: {function} has no docstring; the UI would show the word None"


def _trigger(place: str, trigger: Mapping[str, Any]) -> Iterator[str]:
    if trigger.get("type") in ("compound", "sequence"):
        yield from _unknown(place, trigger, TRIGGER_COMMON | TRIGGER_GROUP)
        for position, inner in enumerate(trigger.get("triggers") or ()):
            yield from _trigger(f"{place}.{position + 1}", inner)
        return
    yield from _unknown(place, trigger, TRIGGER_COMMON | TRIGGER_EVENT | {"type"})
    if not trigger.get("expect"):
        yield f"{place}: no expect; it would fire on every event there is"
    if not trigger.get("match") and not trigger.get("match_related"):
        yield f"{place}: neither match nor match_related; it would fire for every resource"


def _unset(content: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[str]:
    """Placeholders that would become an empty string."""
    for place, text in _texts(content, ""):
        for variable in VARIABLE.findall(text):
            if not variables.get(variable):
                yield f"{place}the variable {variable} is not set; it would become an empty string"
        for placeholder in PLACEHOLDER.findall(text):
            if not placeholder.startswith(FILLED):
                yield f"{place}nothing fills {{{{ {placeholder} }}}}; it would become an empty string"


def _texts(value: object, place: str) -> Iterator[tuple[str, str]]:
    """Every text with its place, but for those of triggers: they are filled from the event later."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key != "triggers":
                yield from _texts(inner, f"{place}{key}: ")
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(
                inner, f"{place}{inner['name']}: " if isinstance(inner, dict) and "name" in inner else place
            )


def _unknown(place: str, found: Mapping[str, Any], known: frozenset[str]) -> Iterator[str]:
    for key in found:
        if key not in known:
            yield f"{place}: Prefect knows no key {key!r} there and would ignore it"


def _keys(model: Any) -> frozenset[str]:
    return frozenset(model.model_fields)


def _flow_of(deployment: Mapping[str, Any]) -> str:
    return str(deployment.get("flow_name") or deployment.get("entrypoint"))


MERGE = "tag:yaml.org,2002:merge"


class _UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys; here they are an error."""


def _mapping(loader: _UniqueKeys, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: set[Any] = set()
    # Before what `<<` brings is mixed in, which the mapping's own keys may override.
    for key_node, _ in node.value:
        if key_node.tag == MERGE:
            continue
        key = loader.construct_object(key_node, deep=deep)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key!r} is there twice", problem_mark=key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
