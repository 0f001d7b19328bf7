"""Settings from the environment, and from the env file that CHATBOT_ENV_FILE names."""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def read_env_file(path: Path) -> dict[str, str]:
    """KEY=value lines, comments skipped, quotes around a value dropped; of two lines with one key the last wins."""
    values: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, equals, value = line.strip().removeprefix("export ").partition("=")
        if not equals or key.startswith("#"):
            continue
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[key.strip()] = value
    return values


_env_file = os.environ.get("CHATBOT_ENV_FILE")
_file_values = read_env_file(Path(_env_file)) if _env_file else {}


def setting(name: str, default: str | None = None) -> str:
    """The value of the environment, else of the env file, else the default; required when there is none."""
    value = os.environ.get(name, _file_values.get(name, default))
    if value is None:
        raise ImproperlyConfigured(f"{name} is not set, neither in the environment nor in CHATBOT_ENV_FILE.")
    return value


def secret(name: str, default: str | None = None) -> str:
    """Like `setting`, but NAME_FILE may name a file that holds the value."""
    path = setting(f"{name}_FILE", "")
    if path:
        return Path(path).read_text(encoding="utf-8").strip()
    return setting(name, default)
