"""The common form of everything that is written down about a release."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Something that is written once and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
