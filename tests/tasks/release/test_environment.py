"""An environment file says exactly what is wrong with it, and never a secret."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tasks.release.environment import DIRECTORY_VARIABLE, Environment, load, parse
from tasks.release.errors import ConfigurationError
from tests.builders import content, environment

PASSWORD = "hunter2-and-more"


def refused(what: dict[str, Any], path: Path = Path("/somewhere/staging.toml")) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse(what, path)
    return caught.value


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ({"databse": {"host": "x"}}, "databse", "database"),
        ({"app": {"setings": "x"}}, "app.setings", "settings"),
        ({"backup": {"scratch_server": {"hots": "x"}}}, "backup.scratch_server.hots", "host"),
        ({"smoke": {"endpoints": [{"path": "/", "json_equal": {}}]}}, "smoke.endpoints.0.json_equal", "json_equals"),
        ({"migrate": {"lock_timeout": 3}}, "migrate.lock_timeout", "lock_timeout_s"),
    ],
)
def test_an_unknown_key_is_named_with_what_was_meant(section: dict[str, Any], key: str, meant: str) -> None:
    error = refused(content(**section))
    assert "/somewhere/staging.toml" in error.message
    assert f"{key}: unknown key; did you mean {meant}?" in error.message
    assert "staging.toml" in error.hint


def test_every_mistake_is_told_at_once() -> None:
    wrong = content(database={"port": "many", "host": 5}, colour="red")
    del wrong["storage"]
    error = refused(wrong)
    assert "4 mistakes" in error.message
    for place in ("database.port: ", "database.host: ", "colour: unknown key", "storage: missing"):
        assert place in error.message


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"migrate": {"lock_timeout_s": 5, "statement_timeout_s": 5}}, "must be below statement_timeout_s"),
        ({"migrate": {"lock_timeout_s": 0.0004}}, "migrate.lock_timeout_s"),  # rounded to 0, which is no limit
        ({"migrate": {"statement_timeout_s": float("inf")}}, "migrate.statement_timeout_s"),
        ({"database": {"port": 70000}}, "database.port"),
        ({"database": {"sslmode": "maybe"}}, "database.sslmode"),
        ({"storage": {"endpoint": "s3.example.com"}}, "storage.endpoint"),
        ({"storage": {"prefix": "/absolute"}}, "storage.prefix"),
        ({"smoke": {"endpoints": []}}, "smoke.endpoints"),
        ({"name": "Staging!"}, "name: "),
    ],
)
def test_a_wrong_value_is_named(section: dict[str, Any], told: str) -> None:
    assert told in refused(content(**section)).message


def test_the_name_is_that_of_the_file() -> None:
    error = refused(content(name="production"))
    assert 'says name = "production"' in error.message
    assert 'name = "staging"' in error.hint


def test_an_environment_that_is_not_there_names_those_that_are(files: Path) -> None:
    (files / "test.toml").write_text("")
    with pytest.raises(ConfigurationError, match="no environment 'staging'") as caught:
        load("staging")
    assert "found there: test;" in caught.value.hint
    assert DIRECTORY_VARIABLE in caught.value.hint


@pytest.mark.parametrize("text", [b"name = ", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_named(files: Path, text: bytes) -> None:
    (files / "staging.toml").write_bytes(text)
    with pytest.raises(ConfigurationError, match=r"staging\.toml is not TOML"):
        load("staging")


def test_a_directory_of_that_name_is_not_a_traceback(files: Path) -> None:
    (files / "staging.toml").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load("staging")


def test_paths_are_relative_to_the_file(files: Path) -> None:
    (files / "staging.toml").write_text(tomli_w.dumps(content(app={"directory": "../app"})))
    assert load("staging").app.directory == files.parent / "app"


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ({"env": "RUNBOOK_TEST_MISSING"}, "the environment variable RUNBOOK_TEST_MISSING is not set"),
        ({"env": "RUNBOOK_TEST_EMPTY"}, "the secret in env 'RUNBOOK_TEST_EMPTY' is empty"),
        ({"file": "nothing"}, "/nothing cannot be read: No such file"),
        ({"file": "empty"}, "the secret in file 'empty' is empty"),
        ({"file": "binary"}, "/binary is not UTF-8 text"),
        ({"block": "password"}, "needs PREFECT_API_URL"),
        (PASSWORD, "a secret is given by reference"),
        ({"plain": PASSWORD}, "a secret is given by reference"),
        ({"env": "A", "password": PASSWORD}, "a secret is given by reference"),
        ([PASSWORD], "a secret is given by reference"),
    ],
)
def test_a_secret_that_cannot_be_had_is_named_and_not_told(
    reference: object, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_TEST_EMPTY", "")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    error = refused(content(database={"password": reference}), tmp_path / "staging.toml")
    assert "database.password: " in error.message
    assert told in error.message
    whole = "".join(traceback.format_exception(error))
    assert PASSWORD not in whole
    assert PASSWORD not in str(pickle.loads(pickle.dumps(error)))


def test_secrets_are_read_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_TEST_TOKEN", "token-in-a-variable")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    made = parse(
        content(
            database={"password": {"file": "password"}},
            app={"secrets": {"API_TOKEN": {"env": "RUNBOOK_TEST_TOKEN"}}},
            storage={"access_key": {"env": "RUNBOOK_TEST_TOKEN"}},
        ),
        tmp_path / "staging.toml",
    )
    assert made.database.password is not None
    assert made.database.password.get_secret_value() == PASSWORD
    for shown in (repr(made), str(made), str(made.model_dump()), made.model_dump_json(), f"{made.app.secrets}"):
        assert PASSWORD not in shown
        assert "token-in-a-variable" not in shown
    assert made.redacted(f"at {PASSWORD}, token-in-a-variable.") == "at ******, ******."


def secretive(*secrets: str) -> Environment:
    return environment(app={"secrets": {f"SECRET_{number}": SecretStr(one) for number, one in enumerate(secrets)}})


# A star can be in a secret; then what stands for it can look like one.
_secret = st.text(st.characters(exclude_characters="*", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.lists(_secret, min_size=1, max_size=4), st.lists(st.text(max_size=20)))
def test_no_secret_is_left_in_a_text(secrets: list[str], around: list[str]) -> None:
    text = "".join(part + secret for part in (*around, "") for secret in secrets)
    left = secretive(*secrets).redacted(text)
    assert not [secret for secret in secrets if secret in left]


def test_redaction_knows_prefixes_urls_and_lines() -> None:
    key = "-----BEGIN KEY-----\nbWFueSBsaW5lcw==\n}\n-----END KEY-----"
    made = secretive("abc", "abcdef", "p@ss/word", key)
    assert made.redacted("abcdef abc") == "****** ******", "the longer one does not keep its end"
    assert made.redacted(f"postgresql://u:{quote('p@ss/word', safe='')}@h") == "postgresql://u:******@h"
    assert made.redacted(f"postgresql://u:{quote('p@ss/word')}@h") == "postgresql://u:******@h"
    assert made.redacted("bWFueSBsaW5lcw==") == "******", "output comes line by line"
    assert made.redacted("{}") == "{}"
    assert environment().redacted("nothing to hide") == "nothing to hide"


def test_production_demands_more_unless_its_file_says_otherwise() -> None:
    assert environment(kind="staging").risk.high == "nothing"
    assert environment(kind="production").risk.high == "approval"
    relaxed = environment(kind="production", risk={"high": "maintenance window"}).risk
    assert (relaxed.medium, relaxed.high) == ("low-traffic window", "maintenance window")
