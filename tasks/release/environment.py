"""Environment: everything about one place that a release is deployed to, read from `<name>.toml`."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import (
    BaseModel,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from tasks.release.errors import ConfigurationError
from tasks.release.monitoring import Monitor
from tasks.release.people import Contact, Notify
from tasks.release.production import Approval, Gate, Maintenance
from tasks.release.secrets import Secret
from tasks.release.section import FilePath, Section

SHORT = 3  # characters; a line of a secret that is no longer, such as a brace, gives nothing away
DIRECTORY_VARIABLE = "RUNBOOK_ENVIRONMENTS"


Demand = Literal["nothing", "low-traffic window", "maintenance window", "approval"]
# What a kind of environment asks for where its file says nothing.
DEFAULTS: dict[str, dict[str, dict[str, Any]]] = {
    "staging": {"monitor": {"watch_s": 24 * 3600}},  # §3.5
    "production": {
        "risk": {"medium": "low-traffic window", "high": "approval"},
        "gate": {"evidence_from": "staging"},
        "approval": {"ask": "always"},
        "monitor": {"watch_s": 2 * 3600},  # §4.7
    },
}


class App(Section):
    """The Django application: where it lies and how it is driven, through its own interpreter."""

    directory: FilePath = Field(description="the git checkout that serves")
    python: str = Field(".venv/bin/python", description="its interpreter, relative to the directory")
    manage: list[str] = Field(
        ["{python}", "manage.py"],
        min_length=1,
        description="the management command; leading NAME=value entries are environment variables",
    )
    settings: str | None = Field(None, description="settings module; none when the command knows it by itself")
    variables: dict[str, str] = Field({}, description="environment variables of every command of the application")
    secrets: dict[str, Secret] = Field({}, description="environment variables whose values are secrets")
    database_alias: str = "default"
    remote: str = "origin"
    branch: str = Field(description="a ref is deployed only when this branch of the remote contains it")
    requirements: list[str] = Field(["requirements.txt"], description="files whose change calls for `install`")
    install: list[str] = Field(["{python}", "-m", "pip", "install", "-q", "-r", "requirements.txt"])
    venv: list[str] = Field(
        ["python3", "-m", "venv", "{directory}"],
        description="makes an interpreter for a candidate whose requirements differ from the serving ones",
    )
    reload: list[str] = Field(description="makes the service run the checked-out code; [] when nothing is to be done")
    untracked: list[str] = Field([], description="files outside git that the application needs, such as .env")
    start_timeout_s: float = Field(120, gt=0, description="the longest that a short management command may take")


class Database(Section):
    """A PostgreSQL database and the role the runbook works as."""

    host: str
    port: int = Field(5432, ge=1, le=65535)
    name: str
    user: str
    password: Secret | None = None
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    maintenance_database: str = Field("postgres", description="holds the release lock; scratch is made from here")
    system_identifier: str | None = Field(
        None, description="pg_control_system()'s; when given, any other server is refused"
    )
    connect_timeout_s: int = Field(10, ge=1)


class Storage(Section):
    """The bucket that holds backups and release records."""

    endpoint: str | None = Field(None, pattern="^https?://", description="none for AWS itself")
    region: str = "us-east-1"
    bucket: str
    prefix: str = Field("", pattern=r"^([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]*$")
    access_key: Secret | None = Field(None, description="none: boto3's own chain of credentials")
    secret_key: Secret | None = None
    encryption: Literal["none", "AES256", "aws:kms"] = "none"
    kms_key: str | None = None

    def key(self, *parts: str) -> str:
        """The object key of something below this environment's prefix."""
        return "/".join(part.strip("/") for part in (self.prefix, *parts) if part.strip("/"))


class Backup(Section):
    """How backups are made and proved."""

    client: FilePath | None = Field(None, description="directory of pg_dump and pg_restore; none: found by itself")
    table_groups: int = Field(1, ge=1, le=16, description="dumps of one snapshot that run side by side")
    part_bytes: int = Field(8 * 2**20, ge=5 * 2**20, le=256 * 2**20, description="size of an S3 multipart part")
    max_age_s: float = Field(3600, gt=0, description="a migration does not begin on an older backup")
    timeout_s: float = Field(
        6 * 3600, gt=0, allow_inf_nan=False, description="the longest that a dump or a restore may take"
    )
    verify: Literal["stored", "read", "restored"] = "restored"
    scratch_server: Database | None = Field(None, description="restores are made there; none: the environment's own")
    restore_jobs: int = Field(2, ge=1, le=32)


class Migrate(Section):
    """Limits that every statement of a migration runs under."""

    # Whoever waits for a lock keeps everybody behind it waiting: better to give up soon and to come back often.
    lock_timeout_s: float = Field(0.5, ge=0.001)  # PostgreSQL counts milliseconds, and takes 0 for no limit
    statement_timeout_s: float = Field(900, ge=0.001)
    timeout_s: float = Field(4 * 3600, gt=0, description="the longest that `migrate` may take as a whole")
    patience_s: float = Field(1800, ge=0, description="the longest that a lock which others hold is tried for again")
    end_holders: list[Literal["idle in transaction", "autovacuum to prevent wraparound"]] = Field(
        [], description="sessions that may be ended when they hold what the migration needs"
    )
    idle_holder_s: float = Field(60, gt=0, description="how long a session must have been idle in its transaction")

    @model_validator(mode="after")
    def _lock_timeout_is_the_shorter(self) -> Migrate:
        # Equal timeouts end as 57014 (statement), which hides that it was a lock: FACTS measured it.
        if self.lock_timeout_s >= self.statement_timeout_s:
            raise ValueError("lock_timeout_s must be below statement_timeout_s, or a lost lock race cannot be told")
        return self


class Risk(Section):
    """What a migration may cost (§4.1), and what each level of risk demands here."""

    execution_s: float = Field(5, gt=0, description="a longer migration that also blocks wants a maintenance window")
    blocking_s: float = Field(2, gt=0, description="the longest that readers or writers of a table may be kept waiting")
    facts_s: float = Field(60, gt=0, description="the longest that all questions to the database may take together")
    question_s: float = Field(5, gt=0, description="the longest that one of them may take")
    medium: Demand = Field("nothing", description="what a medium risk demands; in production a low-traffic window")
    high: Demand = Field("nothing", description="what a high risk demands; in production an approval")


class Endpoint(Section):
    """One request of the smoke test and what a healthy answer looks like."""

    path: str = Field(pattern="^/")
    method: Literal["GET", "HEAD"] = "GET"
    status: int = Field(200, ge=100, le=599)
    within_s: float = Field(2, gt=0)
    json_has: list[str] = Field([], description="keys that the JSON object must have; a dot goes one level down")
    json_equals: dict[str, str | int | float | bool] = Field(
        {}, description="keys and the values they must have; {commit} is the one deployed"
    )


class Smoke(Section):
    """The smoke test: endpoints of the deployed application."""

    base_url: str = Field(pattern="^https?://")
    endpoints: list[Endpoint] = Field(min_length=1)
    ready_within_s: float = Field(
        30, gt=0, description="how long a reload may take until the first endpoint answers as it should"
    )


class Environment(Section):
    """One place that releases are deployed to."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    kind: Literal["local", "test", "staging", "production"] = Field(
        description="the chapter of the runbook it is deployed by; the flow of another chapter refuses it"
    )
    app: App
    database: Database
    storage: Storage
    backup: Backup = Backup()
    migrate: Migrate = Migrate()
    risk: Risk = Risk()
    smoke: Smoke
    gate: Gate = Gate()
    approval: Approval = Approval()
    maintenance: Maintenance | None = None
    monitor: Monitor = Monitor()
    notify: Notify = Notify()
    contacts: list[Contact] = Field([], description="who is told, in the order of escalation (§8)")

    @model_validator(mode="before")
    @classmethod
    def _kind_decides_what_is_not_said(cls, data: Any) -> Any:
        """Production is careful, unless its file says otherwise."""
        if not isinstance(data, dict):
            return data
        of_kind = DEFAULTS.get(str(data.get("kind")), {})
        careful = {
            section: {**values, **data.get(section, {})}
            for section, values in of_kind.items()
            if isinstance(data.get(section, {}), dict)
        }
        return {**data, **careful}

    @model_validator(mode="after")
    def _names_are_known(self) -> Environment:
        channels = [channel.name for channel in self.notify.channels]
        for contact in self.contacts:
            if contact.channel and contact.channel not in channels:
                raise ValueError(
                    f"contacts: {contact.name} is told through {contact.channel!r}, which is none of notify.channels:"
                    f" {', '.join(channels) or 'there are none'}"
                )
        return self

    def redacted(self, text: str) -> str:
        """A text from an external program with every secret of this environment blotted out."""
        # The output comes line by line, so a secret of several lines (a key) is known by each of them; and the longest
        # goes first, or what a shorter one is the beginning of would keep its end.
        secrets = set(_secrets_in(self))
        secrets |= {line for secret in secrets for line in secret.splitlines() if len(line.strip()) > SHORT}
        forms = sorted(
            {form for secret in secrets for form in (secret, quote(secret, safe=""), quote(secret))}, key=len
        )
        return re.sub("|".join(map(re.escape, reversed(forms))), "******", text) if forms else text


def _secrets_in(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for _, inner in value:
            yield from _secrets_in(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _secrets_in(inner)


def directory() -> Path:
    """Where the environment files lie: `RUNBOOK_ENVIRONMENTS`, or `deployments/environments` of this project."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    return Path(named) if named else Path(__file__).parents[2] / "deployments" / "environments"


def load(name: str) -> Environment:
    """Read an environment and every secret it refers to.

    Raises:
        ConfigurationError: There is no such file, or a key, a type or a secret in it is wrong; the message names each.
    """
    path = directory() / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not directory().is_dir():
            raise ConfigurationError(
                f"there is no environment {name!r}: the directory {directory()} does not exist",
                hint=f"{DIRECTORY_VARIABLE} names it; `runbook up` or `runbook demo` makes the example's",
            ) from None
        known = ", ".join(sorted(file.stem for file in directory().glob("*.toml"))) or "none"
        raise ConfigurationError(
            f"there is no environment {name!r}: {path} does not exist",
            hint=f"environments found there: {known}; {DIRECTORY_VARIABLE} names another directory",
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", hint="who may read it?") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not TOML: {error}", hint="mend that line") from None
    return parse(content, path)


def parse(content: dict[str, Any], path: Path) -> Environment:
    """Validate the content of an environment file; `path` is its place, for messages and relative paths.

    Raises:
        ConfigurationError: A key, a type or a secret is wrong; the message names file and key of each.
    """
    try:
        environment = Environment.model_validate(content, context={"directory": path.parent.resolve()})
    except ValidationError as error:
        problems = [_problem(dict(detail)) for detail in error.errors(include_input=False, include_url=False)]
        raise ConfigurationError(
            f"{path} has {len(problems)} mistake{'s' * (len(problems) > 1)}:\n"
            + "\n".join(f"  {problem}" for problem in problems),
            hint=f"mend {path.name}; docs/environments.md explains every key",
        ) from None
    if environment.name != path.stem:
        raise ConfigurationError(
            f'{path} says name = "{environment.name}"', hint=f'rename the file, or write name = "{path.stem}"'
        )
    return environment


def _problem(detail: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(detail["loc"][-1]), _known_keys(detail["loc"][:-1]), n=1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    if detail["type"] == "missing":
        return f"{key}: missing"
    return f"{key}: {re.sub('^Value error, ', '', detail['msg'])}"


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys of the section at a place of the file, lists and optional sections looked through."""
    section: type[BaseModel] = Environment
    for part in location:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        inner = [annotation, *getattr(annotation, "__args__", ())]
        section = next(kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel))
    return list(section.model_fields)
