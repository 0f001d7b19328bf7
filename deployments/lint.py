"""The lint of prefect.yaml: everything that `prefect deploy` would ignore without a word is an error here.

Prefect ignores misspelt keys, takes an unset variable as an empty string, lets the last of two deployments of one name
win, and turns a misspelt trigger into one that fires on every event. The keys it accepts are taken from its own models.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tasks.release.errors import ConfigurationError

if TYPE_CHECKING:
    from prefect import Flow

TOP = frozenset({"prefect-version", "name", "build", "push", "pull", "definitions", "deployments"})
Mistakes = Callable[[str, Mapping[str, Any]], Iterator[str]]
SCHEDULES = ("cron", "interval", "rrule")
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
    names: Counter[tuple[str, str]] = Counter()
    for position, deployment in enumerate(deployments):
        if not isinstance(deployment, dict) or not isinstance(deployment.get("name"), str):
            yield f"deployment {position + 1} has no name"
            continue
        yield from _in_deployment(deployment)
        names[flow_name(deployment), deployment["name"]] += 1
    for (flow, name), count in names.items():
        if count > 1:
            yield f"{name}: {count} deployments of {flow} have this name; the last one would win"
    yield from _unset(content, variables)


def flow_name(deployment: Mapping[str, Any]) -> str:
    """The name of a deployment's flow on the server; the text of its entrypoint if that cannot be loaded.

    Args:
        deployment: An item of `deployments` in prefect.yaml.
    """
    flow = _load(deployment)
    return str(deployment.get("entrypoint")) if isinstance(flow, str) else flow.name


def _load(deployment: Mapping[str, Any]) -> Flow[..., Any] | str:
    """The flow that an entrypoint means, or what is wrong with the entrypoint."""
    from prefect import Flow  # noqa: PLC0415 - seconds of import

    module, _, function = str(deployment.get("entrypoint", "")).rpartition(".")
    if not module or ":" in function:
        return "entrypoint must be a module path, such as flows.staging.staging"
    try:
        flow = getattr(importlib.import_module(module), function)
    except Exception as error:  # noqa: BLE001 - whatever a module raises while it is imported
        return f"entrypoint {module}.{function} cannot be loaded: {type(error).__name__}: {error}"
    return flow if isinstance(flow, Flow) else f"entrypoint {module}.{function} is not a flow"


def _in_deployment(deployment: Mapping[str, Any]) -> Iterator[str]:
    from prefect.cli.deploy._models import (  # noqa: PLC0415 - seconds of import
        ConcurrencyLimitSpec,
        DeploymentConfig,
        WorkPoolConfig,
    )

    name = deployment["name"]
    yield from _unknown(name, deployment, _keys(DeploymentConfig))
    pool = deployment.get("work_pool")
    if not isinstance(pool, dict) or not pool.get("name"):
        yield f"{name}: no work_pool: name; a run of it would never start"
    else:
        yield from _unknown(f"{name}: work_pool", pool, _keys(WorkPoolConfig))
    limit = deployment.get("concurrency_limit")
    if isinstance(limit, dict):
        yield from _unknown(f"{name}: concurrency_limit", limit, _keys(ConcurrencyLimitSpec))
    yield from _in_starters(deployment)
    flow = _load(deployment)
    if isinstance(flow, str):
        yield f"{name}: {flow}"
        return
    yield from _parameters(deployment, flow)
    if not flow.description:
        yield f"{name}: {flow.fn.__name__} has no docstring; the UI would show the word None"


def _parameters(deployment: Mapping[str, Any], flow: Flow[..., Any]) -> Iterator[str]:
    """What a flow is given by its deployment, and by the schedules and triggers that start it without a person."""
    function = flow.fn.__name__
    given: set[Any] = set()
    starters = [(place, item) for place, item, _ in _starters(deployment) if isinstance(item, dict)]
    for place, giver in [(deployment["name"], deployment), *starters]:
        parameters = giver.get("parameters")
        if not isinstance(parameters, dict | None):
            yield f"{place}: parameters is not a mapping"
            continue
        for parameter in parameters or ():
            if parameter not in flow.parameters.properties:
                yield f"{place}: parameters: {parameter} is no parameter of {function}"
        if giver is deployment:
            given = set(parameters or ())
            continue
        for parameter in flow.parameters.required:
            if parameter not in given.union(parameters or ()):
                yield f"{place}: nothing gives {function} its parameter {parameter}; every run of it would fail"


def _in_starters(deployment: Mapping[str, Any]) -> Iterator[str]:
    for key in ("schedules", "triggers"):
        if not isinstance(deployment.get(key), list | None):
            yield f"{deployment['name']}: {key} is not a list"
    for place, item, mistakes in _starters(deployment):
        if isinstance(item, dict):
            yield from mistakes(place, item)
        else:
            yield f"{place} is not a mapping"


def _starters(deployment: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mistakes]]:
    """The items of `schedules`, of its older spelling `schedule`, and of `triggers`, with their places."""
    name = deployment["name"]
    if deployment.get("schedule"):
        yield f"{name}: schedule", deployment["schedule"], _schedule
    for key, mistakes in (("schedules", _schedule), ("triggers", _trigger)):
        items = deployment.get(key)
        for position, item in enumerate(items if isinstance(items, list) else ()):
            called = item.get("name") if key == "triggers" and isinstance(item, dict) else None
            yield f"{name}: {key.removesuffix('s')} {called or position + 1}", item, mistakes


def _schedule(place: str, schedule: Mapping[str, Any]) -> Iterator[str]:
    from prefect.cli.deploy._models import RawScheduleConfig  # noqa: PLC0415 - seconds of import

    # These Prefect does refuse, but only with a warning, and it goes on as if the file were empty.
    yield from _unknown(place, schedule, _keys(RawScheduleConfig), "leave out every deployment")
    if sum(bool(schedule.get(kind)) for kind in SCHEDULES) != 1:
        yield f"{place}: it must have exactly one of {', '.join(SCHEDULES)}"


def _trigger(place: str, trigger: Mapping[str, Any]) -> Iterator[str]:
    # Without a type, Prefect takes whatever has triggers inside for a group.
    if trigger.get("type") in ("compound", "sequence") or ("type" not in trigger and "triggers" in trigger):
        yield from _group(place, trigger)
        return
    yield from _unknown(place, trigger, TRIGGER_COMMON | TRIGGER_EVENT | {"type"})
    expect, match, related = (trigger.get(key) for key in ("expect", "match", "match_related"))
    if not expect:
        yield f"{place}: no expect; it would fire on every event there is"
    elif isinstance(expect, list) and not all(expect):
        yield f"{place}: expect holds an empty text; no event has that name"
    if not match and not related:
        yield f"{place}: neither match nor match_related; it would fire for every resource"
    elif expect and all(_everything(value) for value in (expect, match, related)):
        yield f"{place}: expect and match are only '*'; it would fire on every event there is"


def _group(place: str, trigger: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(place, trigger, TRIGGER_COMMON | TRIGGER_GROUP)
    triggers = trigger.get("triggers")
    if not triggers:
        yield f"{place}: no triggers inside; there is nothing that it could wait for"
    elif not isinstance(triggers, list):
        yield f"{place}: triggers is not a list"
    else:
        for position, inner in enumerate(triggers):
            if isinstance(inner, dict):
                yield from _trigger(f"{place}.{position + 1}", inner)
            else:
                yield f"{place}.{position + 1} is not a mapping"


def _everything(value: object) -> bool:
    """Whether a trigger's `expect`, `match` or `match_related` leaves nothing out."""
    if isinstance(value, dict):
        return all(_everything(inner) for inner in value.values())
    if isinstance(value, list):  # one of several texts is enough, but each of several mappings is needed
        return "*" in value or all(isinstance(inner, dict) and _everything(inner) for inner in value)
    return value is None or value == "*"


def _unset(content: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[str]:
    """Placeholders that would become an empty string."""
    for place, text in _texts(content, ""):
        for variable in VARIABLE.findall(text):
            if not variables.get(variable):
                yield f"{place}the variable {variable} is not set; it would become an empty string"
        for placeholder in PLACEHOLDER.findall(text):
            if not placeholder.startswith(FILLED):
                yield f"{place}nothing fills {{{{ {placeholder} }}}}; it would become an empty string"


def _texts(value: object, place: str, later: str = "") -> Iterator[tuple[str, str]]:
    """Every text with its place, but for the parameters of triggers: they are filled from the event later."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key != later:
                yield from _texts(inner, f"{place}{key}: ", "parameters" if key == "triggers" else later)
    elif isinstance(value, list):
        for inner in value:
            called = isinstance(inner, dict) and "name" in inner
            yield from _texts(inner, f"{place}{inner['name']}: " if called else place, later)


def _unknown(place: str, found: Mapping[str, Any], known: frozenset[str], then: str = "ignore it") -> Iterator[str]:
    for key in found:
        if key not in known:
            yield f"{place}: Prefect knows no key {key!r} there and would {then}"


def _keys(model: Any) -> frozenset[str]:
    return frozenset(model.model_fields)


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
