"""What the environment file says about the care that production takes: gate, approval, maintenance mode."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from tasks.release.secrets import Secret
from tasks.release.section import FilePath, Section


class CiStatus(Section):
    """A request that says whether continuous integration passed for a commit."""

    url: str = Field(pattern="^https?://", description="{commit} and {ref} are put in")
    headers: dict[str, str] = Field({})
    secret_headers: dict[str, Secret] = Field({}, description="such as Authorization")
    json_equals: dict[str, str | int | bool] = Field(
        {"state": "success"}, description="keys and the values they must have; a dot goes one level down"
    )
    timeout_s: float = Field(15, gt=0)


class Freeze(Section):
    """A time in which nothing is released."""

    begins: AwareDatetime
    ends: AwareDatetime
    reason: str = Field(min_length=1)

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Freeze:
        if self.ends <= self.begins:
            raise ValueError("a freeze must end after it begins")
        return self

    def holds(self, at: datetime) -> bool:
        """Whether nothing is released at a moment."""
        return self.begins <= at.astimezone(UTC) < self.ends


class Gate(Section):
    """What must be so before a release is begun (the prerequisites of §4)."""

    evidence_from: str | None = Field(
        None, description="the environment that must have rehearsed the same migration set; production: staging"
    )
    evidence_max_age_s: float = Field(14 * 86400, gt=0)
    ci: CiStatus | None = None
    freezes: list[Freeze] = Field([])
    replication_lag_s: float = Field(30, gt=0, description="a replica that is further behind stops a release")
    longest_transaction_s: float = Field(
        900, gt=0, description="a transaction that is open for longer stops a release: it holds what a migration needs"
    )


class Approval(Section):
    """When a person is asked, and for how long the question stands."""

    ask: Literal["never", "when demanded", "always"] = Field(
        "when demanded", description="production: always, since somebody must be on standby"
    )
    expires_s: float = Field(4 * 3600, ge=60)


class HttpSwitch(Section):
    """A request that switches maintenance mode."""

    url: str = Field(pattern="^https?://")
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    json_body: dict[str, str | int | bool] = Field({})
    secret_headers: dict[str, Secret] = Field({})


class Maintenance(Section):
    """How maintenance mode is switched: a flag in a file, two commands, or two requests; and how it is seen."""

    flag_file: FilePath | None = Field(None, description="§4.4: such as /app/.env")
    flag: str = Field("MAINTENANCE_MODE=true", pattern=r"^[A-Za-z_][A-Za-z0-9_]*=\S+$")
    reload: list[str] = Field([], description="a command after the flag was changed; [] when nothing is to be done")
    on_command: list[str] = Field([])
    off_command: list[str] = Field([])
    on_request: HttpSwitch | None = None
    off_request: HttpSwitch | None = None
    check_path: str = Field(pattern="^/", description="of smoke.base_url: what answers otherwise during maintenance")
    check_status: int = Field(503, ge=100, le=599)
    within_s: float = Field(30, gt=0, description="how long the application may take to notice")

    @model_validator(mode="after")
    def _one_way(self) -> Maintenance:
        ways = [
            self.flag_file is not None,
            bool(self.on_command and self.off_command),
            self.on_request is not None and self.off_request is not None,
        ]
        begun = [self.flag_file is not None, bool(self.on_command or self.off_command)]
        begun.append(self.on_request is not None or self.off_request is not None)
        if sum(ways) != 1 or ways != begun:
            raise ValueError("give one way: flag_file, on_command with off_command, or on_request with off_request")
        return self
