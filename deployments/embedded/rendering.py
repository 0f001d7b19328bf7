"""Environment files for the embedded services: each preset, with the addresses and secrets of what really runs."""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel

from deployments.embedded.catalogue import BUCKET
from deployments.embedded.ports import LOOPBACK
from deployments.embedded.roles import APPLICATION, OPERATOR, database_name
from deployments.embedded.state import Entry, State, write_whole
from tasks.release.environment import Environment
from tasks.release.section import FilePath

_HOME = ".runbook"  # the state directory of a checkout, which presets name
_APPLICATION_VARIABLES = ("DATABASE_HOST", "DATABASE_PORT", "DATABASE_NAME", "DATABASE_USER")


def write_environments(presets_dir: Path, services: Mapping[str, Entry], state_dir: Path) -> list[Path]:
    """Write `<state_dir>/environments/<name>.toml` for every preset whose cluster and storage are known.

    A preset's relative paths are kept relative to the preset, which is what they mean there; those that lead into the
    checkout's `.runbook` lead into this state directory instead. Its other values stay, except what the services
    decide: where database and storage are and how to log in.

    Args:
        presets_dir: directory of `<name>.toml` files.
        services: what is remembered of the services, by name.
        state_dir: the state directory.

    Returns:
        The files written.

    Raises:
        OSError: a preset cannot be read or a file not written.
        tomllib.TOMLDecodeError: a preset is not TOML.
    """
    state = State(state_dir)
    target = state.root / "environments"
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for preset in sorted(presets_dir.glob("*.toml")):
        cluster, storage = services.get(f"postgres-{preset.stem}"), services.get("s3")
        if cluster is None or cluster.port is None or storage is None or storage.port is None:
            continue
        content = tomllib.loads(preset.read_text(encoding="utf-8"))
        content = _rebased(content, Environment, presets_dir.resolve(), state.root)
        content = _merged(content, _facts(state, preset.stem, cluster.port, storage.port))
        _point_application(content, cluster.port, preset.stem)
        app = services.get(f"app-{preset.stem}")
        if app is not None and app.url:
            content = _merged(content, {"smoke": {"base_url": app.url}})
        path = target / preset.name
        write_whole(path, tomli_w.dumps(content), mode=0o644)
        written.append(path)
    return written


def _facts(state: State, environment: str, database_port: int, storage_port: int) -> dict[str, Any]:
    def secret(name: str) -> dict[str, str]:
        return {"file": str(state.secret_file(name))}

    return {
        "database": {
            "host": LOOPBACK,
            "port": database_port,
            "name": database_name(environment),
            "user": OPERATOR,
            "password": secret(f"postgres-{environment}.{OPERATOR}"),
        },
        "storage": {
            "endpoint": f"http://{LOOPBACK}:{storage_port}",
            "bucket": BUCKET,
            "access_key": secret("s3.access-key"),
            "secret_key": secret("s3.secret-key"),
        },
    }


def _point_application(content: dict[str, Any], port: int, environment: str) -> None:
    """Correct the connection variables that a preset gives to its application; those it does not give stay absent."""
    variables = content.get("app", {}).get("variables", {})
    values = (LOOPBACK, str(port), database_name(environment), APPLICATION)
    for name, value in zip(_APPLICATION_VARIABLES, values, strict=True):
        if name in variables:
            variables[name] = value


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        # A table with one key is a reference to a secret: it is replaced, not mixed.
        if isinstance(old, Mapping) and isinstance(value, Mapping) and "file" not in value:
            merged[key] = _merged(old, value)
        else:
            merged[key] = value
    return merged


def _rebased(value: Any, kind: Any, directory: Path, home: Path) -> Any:
    """Make absolute the paths in a value that the environment's model reads as relative to its file."""
    kinds = list(_alternatives(kind))
    if isinstance(value, str):
        return _absolute(value, directory, home) if FilePath in kinds else value
    if isinstance(value, list):
        return [_rebased(item, _argument(kinds, list, 0), directory, home) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"file"}:  # a secret
        return {"file": _absolute(str(value["file"]), directory, home)}
    model = next((option for option in kinds if isinstance(option, type) and issubclass(option, BaseModel)), None)
    hints = {} if model is None else typing.get_type_hints(model, include_extras=True)
    inner = _argument(kinds, dict, 1)
    return {key: _rebased(item, hints.get(key, inner), directory, home) for key, item in value.items()}


def _absolute(value: str, directory: Path, home: Path) -> str:
    path = Path(value).expanduser()
    below = list(path.parts)
    while below and below[0] == "..":
        below.pop(0)
    if below and below[0] == _HOME:  # our own part of a preset: the checkout's .runbook is only the usual place for it
        return str(home.joinpath(*below[1:]))
    return str(directory / path)


def _alternatives(kind: Any) -> Iterable[Any]:
    yield kind
    if typing.get_origin(kind) not in (list, dict):
        for option in typing.get_args(kind):
            yield from _alternatives(option)


def _argument(kinds: list[Any], container: type, position: int) -> Any:
    return next((typing.get_args(kind)[position] for kind in kinds if typing.get_origin(kind) is container), None)
