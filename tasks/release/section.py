"""The common form of a table of the environment file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo


def _below_the_file(value: object, info: ValidationInfo) -> object:
    """Paths in an environment file are relative to that file."""
    if isinstance(value, str):
        directory: Path = (info.context or {}).get("directory", Path())
        return Path(os.path.normpath(directory / Path(value).expanduser()))
    return value


FilePath = Annotated[Path, BeforeValidator(_below_the_file)]


class Section(BaseModel):
    """A table of the environment file: an unknown key is an error, a value never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
