"""Secrets by reference: an environment file names where a secret lies, never the secret."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import BeforeValidator, SecretStr, ValidationInfo

from tasks.release import prefect_api
from tasks.release.errors import ConfigurationError

FORMS = '{ env = "NAME" }, { file = "path" } or { block = "name of a Prefect Secret block" }'
BLOCK_TIMEOUT_S = 10  # a secret is read at every load of its file


def resolve(reference: object, info: ValidationInfo) -> SecretStr:
    """Read the secret that a reference names.

    Args:
        reference: One of `{env: NAME}`, `{file: PATH}` (relative to the environment file) and `{block: NAME}`.
        info: Carries the environment file's directory in its context.

    Raises:
        ValueError: The reference has another form, or what it names is missing or empty.
    """
    if isinstance(reference, SecretStr):
        return reference
    if not isinstance(reference, dict) or len(reference) != 1:
        raise ValueError(f"a secret is given by reference: {FORMS}")
    [(kind, name)] = reference.items()
    if not isinstance(name, str) or kind not in _SOURCES:
        raise ValueError(f"a secret is given by reference: {FORMS}")
    directory = (info.context or {}).get("directory", Path())
    value = _SOURCES[kind](name, directory)
    if not value:
        raise ValueError(f"the secret in {kind} {name!r} is empty")
    return SecretStr(value)


def _from_variable(name: str, _directory: Path) -> str:
    if name not in os.environ:
        raise ValueError(f"the environment variable {name} is not set; set it for this process and for the worker")
    return os.environ[name]


def _from_file(name: str, directory: Path) -> str:
    path = directory / Path(name).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8 text") from None


def _from_block(name: str, _directory: Path) -> str:
    """Ask the Prefect API, so that this layer needs no Prefect."""
    try:
        with prefect_api.client(timeout_s=BLOCK_TIMEOUT_S) as api:
            answer = api.get(
                f"/block_types/slug/secret/block_documents/name/{name}", params={"include_secrets": "true"}
            )
    except ConfigurationError:
        raise ValueError(f"the Secret block {name!r} needs PREFECT_API_URL to be set") from None
    except httpx.HTTPError as error:
        raise ValueError(
            f"the Secret block {name!r} cannot be read: {type(error).__name__} at {api.base_url}"
        ) from None
    if answer.status_code != httpx.codes.OK:
        raise ValueError(f"the Secret block {name!r} cannot be read: {api.base_url} answered {answer.status_code}")
    try:
        return str(answer.json()["data"]["value"])
    except ValueError:
        raise ValueError(
            f"the Secret block {name!r} cannot be read: {api.base_url} does not answer as a Prefect API;"
            " PREFECT_API_URL ends with /api"
        ) from None
    except (KeyError, TypeError, IndexError):
        raise ValueError(f"the Secret block {name!r} cannot be read: {api.base_url} answered without a value") from None


_SOURCES = {"env": _from_variable, "file": _from_file, "block": _from_block}

Secret = Annotated[SecretStr, BeforeValidator(resolve)]
"""A field that holds a secret: read when the environment is loaded, masked wherever it is printed."""
