"""Environment files for what runs, and the compose file for people with Docker."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml

from deployments.embedded import SERVICES, write_environments
from deployments.embedded.application import directory_of
from deployments.embedded.state import Entry
from deployments.embedded.together import together
from tasks.release.environment import parse
from tests.deployments.embedded.conftest import REPOSITORY

PRESET = """
name = "test"
kind = "test"
[app]
directory = "../app"
branch = "main"
reload = []
settings = "config.settings.test"
[app.variables]
DATABASE_PORT = "5433"
DATABASE_SSLMODE = "prefer"
[app.secrets]
DATABASE_PASSWORD = { file = "password" }
[database]
host = "localhost"
port = 5433
name = "chatbot_test"
user = "runbook"
password = { env = "NOT_SET_ANYWHERE" }
connect_timeout_s = 7
[storage]
bucket = "other"
prefix = "test"
[backup]
client = "../bin"
[smoke]
base_url = "http://127.0.0.1:8001"
endpoints = [{ path = "/health/" }]
"""


def test_preset_gets_the_facts_and_keeps_the_rest(tmp_path: Path) -> None:
    presets, state_dir = tmp_path / "presets", tmp_path / ".runbook"
    presets.mkdir()
    (presets / "test.toml").write_text(PRESET)
    (presets / "password").write_text("application's")
    (presets / "elsewhere.toml").write_text('name = "elsewhere"\n')
    secrets = state_dir / "secrets"
    secrets.mkdir(parents=True)
    for name in ("postgres-test.runbook", "s3.access-key", "s3.secret-key"):
        (secrets / name).write_text(f"content of {name}")
    services = {"postgres-test": Entry("postgres-test", port=6001), "s3": Entry("s3", port=6002)}

    assert write_environments(presets, services, state_dir) == [state_dir / "environments" / "test.toml"]

    written = state_dir / "environments" / "test.toml"
    environment = parse(tomllib.loads(written.read_text()), written)
    database, storage, app = environment.database, environment.storage, environment.app
    assert (database.host, database.port, database.user, database.connect_timeout_s) == (
        "127.0.0.1",
        6001,
        "runbook",
        7,
    )
    assert database.password is not None
    assert database.password.get_secret_value() == "content of postgres-test.runbook"
    assert (storage.endpoint, storage.bucket, storage.prefix) == ("http://127.0.0.1:6002", "runbook", "test")
    assert storage.secret_key is not None
    assert storage.secret_key.get_secret_value() == "content of s3.secret-key"
    assert app.variables == {"DATABASE_PORT": "6001", "DATABASE_SSLMODE": "prefer"}
    assert app.secrets["DATABASE_PASSWORD"].get_secret_value() == "application's"
    assert app.directory.resolve() == tmp_path / "app"
    assert environment.backup.client is not None
    assert environment.backup.client.resolve() == tmp_path / "bin"
    assert app.python == ".venv/bin/python"  # relative to the application, not to the file


def test_what_the_preset_has_below_runbook_is_in_the_state_directory(tmp_path: Path) -> None:
    """A demo with RUNBOOK_STATE elsewhere must not release into the checkout's own `.runbook`."""
    state_dir = tmp_path / "elsewhere"
    services = {"postgres-staging": Entry("postgres-staging", port=6001), "s3": Entry("s3", port=6002)}
    (written,) = write_environments(REPOSITORY / "deployments" / "environments", services, state_dir)
    content = tomllib.loads(written.read_text())
    assert content["app"]["directory"] == str(directory_of(state_dir, "staging"))
    assert "/.runbook/" not in written.read_text()


def test_a_secret_below_runbook_is_the_state_directorys(tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    preset = PRESET.replace('file = "password"', 'file = "../.runbook/secrets/postgres-test.chatbot"')
    (tmp_path / "presets" / "test.toml").write_text(preset)
    services = {"postgres-test": Entry("postgres-test", port=6001), "s3": Entry("s3", port=6002)}
    (written,) = write_environments(tmp_path / "presets", services, tmp_path / "state")
    content = tomllib.loads(written.read_text())
    secret = tmp_path / "state" / "secrets" / "postgres-test.chatbot"
    assert content["app"]["secrets"]["DATABASE_PASSWORD"] == {"file": str(secret)}
    assert Path(content["app"]["directory"]).resolve() == tmp_path / "app"  # not below .runbook: the preset's own


def test_compose_file_has_our_services_on_our_ports() -> None:
    compose = yaml.safe_load((REPOSITORY / "deployments" / "compose.yaml").read_text())
    published = {}
    for name, service in compose["services"].items():
        ports = service.get("ports", [])
        assert all(port.startswith("127.0.0.1:") for port in ports)
        published[name] = int(ports[0].split(":")[1]) if ports else None
    packaged = [service for service in SERVICES.values() if service.kind != "app"]  # the example is no package
    assert published == {service.name: service.port for service in packaged}
    for service in packaged:
        definition = compose["services"][service.name]
        assert set(service.needs) <= set(definition.get("depends_on", ()))
        if service.kind == "worker":
            assert definition["command"][4] == service.subject


def test_what_needs_a_failed_service_is_not_started() -> None:
    tried = []

    def work(service: object) -> None:
        name = getattr(service, "name", "")
        tried.append(name)
        if name == "postgres-prefect":
            raise OSError("no")

    wanted = [SERVICES[name] for name in ("postgres-prefect", "s3", "prefect", "worker-local")]
    errors = together(wanted, {service.name: service.needs for service in wanted}, work)
    assert sorted(tried) == ["postgres-prefect", "s3"]
    assert set(errors) == {"postgres-prefect", "prefect", "worker-local"}
    with pytest.raises(OSError, match="no"):
        raise errors["postgres-prefect"]
