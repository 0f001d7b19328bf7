"""What the environment file says about people: channels of notification, and contacts in the order of escalation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tasks.release.secrets import Secret
from tasks.release.section import Section

Occasion = Literal["before", "approval", "after", "alarm", "trouble"]


class Email(Section):
    """A mail server and who is written to."""

    host: str
    port: int = Field(587, ge=1, le=65535)
    security: Literal["none", "starttls", "tls"] = "starttls"
    user: str | None = None
    password: Secret | None = None
    sender: str = Field(pattern="@")
    to: list[str] = Field(min_length=1)


class Channel(Section):
    """One way to tell people: a notification block of Prefect, or email."""

    name: str = Field(pattern="^[a-z][a-z0-9-]*$")
    block: str | None = Field(
        None, pattern="^[a-z0-9-]+/[a-z0-9-]+$", description="of Prefect, such as slack-webhook/releases"
    )
    email: Email | None = None
    occasions: list[Occasion] = Field(
        ["before", "approval", "after", "alarm", "trouble"], description="what is told through it"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Channel:
        if (self.block is None) == (self.email is None):
            raise ValueError("give one of block and email")
        return self


class Notify(Section):
    """Who is told about releases."""

    channels: list[Channel] = Field([])
    timeout_s: float = Field(20, gt=0, description="of one delivery's try")


class Contact(Section):
    """A person to be told when something needs one; unanswered, the next one is told."""

    name: str
    role: str = ""
    email: str | None = Field(None, pattern="@", description="written to through the first email channel's server")
    channel: str | None = Field(None, description="a channel of notify.channels that is this person's")
    answer_within_s: float = Field(900, gt=0)

    @model_validator(mode="after")
    def _reachable(self) -> Contact:
        if self.email is None and self.channel is None:
            raise ValueError("give email or channel: this contact cannot be reached")
        return self
