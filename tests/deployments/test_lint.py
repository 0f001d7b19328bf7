"""The lint of prefect.yaml: one test for each thing that Prefect takes without a word."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deployments.lint import check, problems_in
from deployments.register import FILE, VERSION_VARIABLE
from tasks.release.errors import ConfigurationError

Lint = Callable[..., list[str]]

FLOWS = '''
from prefect import flow

@flow
def release(ref: str, environment: str = "staging"):
    """Release something."""

@flow(name="release")
def again(ref: str):
    """Another function of the same name on the server."""

@flow
def silent():
    pass

def ordinary():
    """Not a flow."""
'''

GOOD = """
deployments:
  - name: one
    entrypoint: lint_chapters.release
    work_pool: {name: pool}
    parameters: {ref: main, environment: test}
    triggers:
      - {name: failed, expect: [prefect.flow-run.Failed], match: {prefect.resource.id: "prefect.flow-run.*"}}
"""


@pytest.fixture
def lint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lint:
    """Lint a text; what it finds."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lint_chapters.py").write_text(FLOWS)
    (tmp_path / "lint_broken.py").write_text("1 / 0\n")
    (tmp_path / "lint_half.py").write_text("def (\n")
    file = tmp_path / "prefect.yaml"

    def found(text: str, **variables: str) -> list[str]:
        file.write_text(textwrap.dedent(text))
        return list(problems_in(file, variables))

    return found


def test_a_sound_file_is_sound(lint: Lint) -> None:
    assert lint(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("parameters:", "parametres:", "one: Prefect knows no key 'parametres' there"),
        ("{name: pool}", "{name: pool, queue: high}", "one: work_pool: Prefect knows no key 'queue' there"),
        ("parameters: {", "job_variables: {", "one: Prefect knows no key 'job_variables' there"),
        ("deployments:", "automations: []\ndeployments:", "the file: Prefect knows no key 'automations' there"),
        ("expect:", "expects:", "one: trigger failed: Prefect knows no key 'expects' there"),
        ("expect:", "expects:", "one: trigger failed: no expect; it would fire on every event"),
        ("match:", "match_relatd:", "one: trigger failed: Prefect knows no key 'match_relatd' there"),
        ("match:", "match_relatd:", "one: trigger failed: neither match nor match_related"),
        (
            "name: failed,",
            "name: failed, parameter: {},",
            "one: trigger failed: Prefect knows no key 'parameter' there",
        ),
        ("expect: [prefect.flow-run.Failed]", "expect: []", "one: trigger failed: no expect"),
        ('match: {prefect.resource.id: "prefect.flow-run.*"}', "match: {}", "one: trigger failed: neither match"),
        ("name: failed,", "type: compound, triggers: [{match: {a: b}}],", "one: trigger 1.1: no expect"),
        ("- {name: failed,", "- surprise\n      - {name: failed,", "one: trigger 1 is not a mapping"),
        ("    triggers:", "    triggers: {}\n    definitions:", "one: triggers is not a list"),
        ("    triggers:", "    triggers: 7\n    definitions:", "one: triggers is not a list"),
        ("- {name: failed,", "- {name: failed, type: compound,", "one: trigger failed: no triggers inside"),
        ("name: failed,", "type: sequence, triggers: [],", "one: trigger 1: no triggers inside"),
        ("name: failed,", "type: sequence, triggers: [x],", "one: trigger 1.1 is not a mapping"),
        ("name: failed,", "type: sequence, triggers: 7,", "one: trigger 1: triggers is not a list"),
        (
            "name: failed,",
            "name: failed, parameters: {rev: x},",
            "one: trigger failed: parameters: rev is no parameter",
        ),
        ("[prefect.flow-run.Failed]", "''", "one: trigger failed: no expect"),
        ("[prefect.flow-run.Failed]", "[a, '']", "one: trigger failed: expect holds an empty text"),
        (
            '[prefect.flow-run.Failed], match: {prefect.resource.id: "prefect.flow-run.*"}',
            "['*'], match: {prefect.resource.id: ['*']}",
            "one: trigger failed: expect and match are only '*'",
        ),
        ("[prefect.flow-run.Failed]", '["{{ nope }}"]', "triggers: failed: expect: nothing fills {{ nope }}"),
        ('"prefect.flow-run.*"', '"{{ $MISSING }}"', "prefect.resource.id: the variable MISSING is not set"),
        ("test}", '"{{ $MISSING }}"}', "the variable MISSING is not set; it would become an empty string"),
        ("test}", '"{{ $EMPTY }}"}', "the variable EMPTY is not set; it would become an empty string"),
        ("test}", '"{{ image }}"}', "nothing fills {{ image }}; it would become an empty string"),
        ("environment: test", "enviroment: test", "one: parameters: enviroment is no parameter of release"),
        ("chapters.release", "chapters.silent", "one: silent has no docstring; the UI would show the word None"),
        ("chapters.release", "chapters.ordinary", "one: entrypoint lint_chapters.ordinary is not a flow"),
        ("chapters.release", "chapters.nothing", "one: entrypoint lint_chapters.nothing cannot be loaded"),
        ("lint_chapters", "lint_nowhere", "one: entrypoint lint_nowhere.release cannot be loaded: ModuleNotFound"),
        ("lint_chapters", "lint_broken", "cannot be loaded: ZeroDivisionError"),
        ("lint_chapters", "lint_half", "cannot be loaded: SyntaxError"),
        ("lint_chapters.release", "flows/staging.py:staging", "one: entrypoint must be a module path"),
        ("entrypoint: lint_chapters.release", "tags: []", "one: entrypoint must be a module path"),
        ("work_pool: {name: pool}", "tags: []", "one: no work_pool: name; a run of it would never start"),
        ("work_pool: {name: pool}", "work_pool: pool", "one: no work_pool: name"),
        ("work_pool: {name: pool}", "tags: []\n    tags: [x]", "it cannot be read: the key 'tags' is there twice"),
        ("name: one", "description: x", "deployment 1 has no name"),
    ],
)
def test_what_prefect_would_take_without_a_word_is_told(lint: Lint, old: str, new: str, found: str) -> None:
    assert GOOD.count(old) >= 1
    problems = lint(GOOD.replace(old, new, 1), EMPTY="")
    assert [problem for problem in problems if found in problem], problems


def test_one_flow_and_name_twice(lint: Lint) -> None:
    one = GOOD.partition("deployments:\n")[2]
    assert lint(GOOD + one) == ["one: 2 deployments of release have this name; the last one would win"]
    assert lint(GOOD + one.replace("name: one", "name: two")) == []


def test_two_functions_of_one_flow_name(lint: Lint) -> None:
    again = (
        GOOD.partition("deployments:\n")[2]
        .replace("chapters.release", "chapters.again")
        .replace("environment: test", "")
    )
    assert lint(GOOD + again) == ["one: 2 deployments of release have this name; the last one would win"]


def test_two_of_an_entrypoint_that_cannot_be_loaded(lint: Lint) -> None:
    nowhere = GOOD.replace("chapters.release", "chapters.nothing")
    problems = lint(nowhere + nowhere.partition("deployments:\n")[2])
    assert problems[-1] == "one: 2 deployments of lint_chapters.nothing have this name; the last one would win"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        (
            "concurrency_limit: {limit: 1, strategy: CANCEL_NEW}",
            "one: concurrency_limit: Prefect knows no key 'strategy'",
        ),
        ("schedules: [{cron: 0 3 * * *, time_zone: UTC}]", "one: schedule 1: Prefect knows no key 'time_zone'"),
        ("schedules: [{cron: 0 3 * * *}, daily]", "one: schedule 2 is not a mapping"),
        ("schedules: {cron: 0 3 * * *}", "one: schedules is not a list"),
        ("schedules: [{timezone: UTC}]", "one: schedule 1: it must have exactly one of cron, interval, rrule"),
        ("schedules: [{cron: 0 3 * * *, interval: 60}]", "one: schedule 1: it must have exactly one of cron, interval"),
        ("schedules: [{cron: 0 3 * * *, parameters: {rev: x}}]", "one: schedule 1: parameters: rev is no parameter"),
        ("schedules: [{cron: 0 3 * * *, parameters: x}]", "one: schedule 1: parameters is not a mapping"),
        ("schedule: {crn: 0 3 * * *}", "one: schedule: Prefect knows no key 'crn' there"),
    ],
)
def test_limits_and_schedules(lint: Lint, key: str, found: str) -> None:
    problems = lint(f"{GOOD}    {key}\n")
    assert [problem for problem in problems if found in problem], problems


@pytest.mark.parametrize(
    "key",
    [
        "concurrency_limit: 1",
        "concurrency_limit: {limit: 1, collision_strategy: CANCEL_NEW}",
        "schedules: [{cron: 0 3 * * *, timezone: UTC, parameters: {ref: main}}, {interval: 60}]",
        "schedules:",
    ],
)
def test_sound_limits_and_schedules_are_left_alone(lint: Lint, key: str) -> None:
    assert lint(f"{GOOD}    {key}\n") == []


def test_a_run_without_a_person_needs_every_parameter(lint: Lint) -> None:
    schedules = "    schedules: [{cron: 0 3 * * *}, {interval: 60, parameters: {ref: main}}]\n"
    assert lint(GOOD.replace("ref: main, ", "") + schedules) == [
        "one: schedule 1: nothing gives release its parameter ref; every run of it would fail",
        "one: trigger failed: nothing gives release its parameter ref; every run of it would fail",
    ]


@pytest.mark.parametrize(
    "trigger",
    [
        "{expect: ['*'], match: {prefect.resource.id: app}}",
        "{expect: [a], match: {prefect.resource.id: '*'}}",
        "{expect: ['*'], match: {prefect.resource.id: '*'}, match_related: {prefect.resource.role: flow}}",
        "{triggers: [{expect: [a], match: {a: b}}], require: any}",
        "{type: sequence, triggers: [{expect: [a], match: {a: b}}, {expect: [b], match: {a: b}}]}",
    ],
)
def test_sound_triggers_are_left_alone(lint: Lint, trigger: str) -> None:
    assert lint(f"{GOOD}      - {trigger}\n") == []


def test_what_is_filled_later_is_left_alone(lint: Lint) -> None:
    filled = GOOD.replace("test}", '"{{ $COLOUR }}-{{ prefect.variables.x }}"}')
    event = filled.replace("name: failed,", 'name: failed, parameters: {ref: "{{ event.id }}"},')
    assert lint(event, COLOUR="blue") == []


def test_anchors_are_yaml_and_may_be_overridden(lint: Lint) -> None:
    assert (
        lint("""
            definitions:
              usual: &usual
                entrypoint: lint_chapters.release
                work_pool: {name: pool}
                tags: [usual]
            deployments:
              - <<: *usual
                name: one
                tags: [other]
              - {<<: *usual, name: two}
            """)
        == []
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: [", "it cannot be read"),
        ("- 1", "it is not a mapping"),
        ("name: x", "it has no deployments"),
        ("deployments: {}", "it has no deployments"),
        ("deployments: [x]", "deployment 1 has no name"),
    ],
)
def test_what_is_no_list_of_deployments_is_told(lint: Lint, text: str, found: str) -> None:
    assert found in lint(text)[0]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        check(tmp_path / "prefect.yaml", {})


def test_every_mistake_is_told_at_once(lint: Lint, tmp_path: Path) -> None:
    lint(GOOD.replace("parameters:", "parametres:").replace("expect:", "expects:"))
    with pytest.raises(ConfigurationError, match=r"prefect\.yaml has 4 mistakes that Prefect would not tell") as caught:
        check(tmp_path / "prefect.yaml", {})
    assert "nothing was deployed" in caught.value.hint


def test_the_projects_own_file_is_sound() -> None:
    assert list(problems_in(FILE, {VERSION_VARIABLE: "1"})) == []
    assert list(problems_in(FILE, {})), "its version is given by `runbook register`"


def test_each_deployment_is_named_after_its_environment() -> None:
    for deployment in yaml.safe_load(FILE.read_text())["deployments"]:
        assert "runbook" in deployment["tags"], "by this tag `runbook register` finds them again"
        if "environment" in deployment.get("parameters", {}):
            assert (
                FILE.parent / "deployments" / "environments" / f"{deployment['parameters']['environment']}.toml"
            ).exists()
