"""What the environment file says about watching: where metrics come from, and when they speak against a release."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.release.secrets import Secret
from tasks.release.section import FilePath, Section


class LogFile(Section):
    """A log with a line per request."""

    path: FilePath
    format: Literal["json", "nginx"] = Field("json", description="json: an object per line; nginx: combined")
    time_key: str = "ts"
    status_key: str = "status"
    duration_key: str = "duration_ms"
    duration_unit: Literal["s", "ms", "us"] = "ms"
    route_key: str = Field("route", description="what requests are told apart by; the path where it is missing")
    path_key: str = "path"


class Query(Section):
    """A range query of Prometheus."""

    name: str = Field(pattern="^[a-z][a-z0-9_]*$")
    expression: str
    worse: Literal["higher", "lower"] = "higher"


class Prometheus(Section):
    """A Prometheus server that is asked too."""

    url: str = Field(pattern="^https?://")
    secret_headers: dict[str, Secret] = Field({})
    queries: list[Query] = Field(min_length=1)


class Monitor(Section):
    """How a release is watched (§3.5, §4.7)."""

    watch_s: float = Field(0, ge=0, description="0: not watched; staging: a day, production: two hours")
    least_s: float = Field(1800, ge=0, description="a watch that finds all well does not end before")
    interval_s: float = Field(60, ge=0.2)
    false_alarm_rate: float = Field(0.01, gt=0, lt=0.5, description="of a whole watch, however often it looks")
    automatic_rollback: Literal["calibrated", "always", "never"] = "calibrated"
    error_tolerance: float = Field(2, gt=1, description="errors may become so many times as frequent")
    error_floor: float = Field(0.0005, gt=0, lt=1, description="a share of errors below this is never too much")
    latency_tolerance: float = Field(1.15, gt=1, description="requests may take so many times as long")
    breaker_share: float = Field(
        0.5, gt=0, le=1, description="a share of failures that needs no history, in two intervals running"
    )
    history_days: int = Field(28, ge=1, le=400)
    logs: list[LogFile] = Field([])
    prometheus: Prometheus | None = None

    @model_validator(mode="after")
    def _at_least_one_interval(self) -> Monitor:
        if 0 < self.watch_s < self.interval_s:
            raise ValueError("watch_s must be 0 or at least interval_s")
        return self
