"""Asking the application: runs the probe inside its own interpreter and reads the answer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.app.command import Checkout, manage
from tasks.app.problems import problems_of
from tasks.app.process import leading_variables
from tasks.database.connection import is_passing
from tasks.release.environment import Environment
from tasks.release.errors import AppError, CodeError, CommandError, WrongDatabaseError
from tasks.release.plan import Listed, Migration, Plan, Reached

PROBE = Path(__file__).with_name("probe.py")
TIMEOUT_S = 900  # a large application takes a minute to start; its plan a few more
# Left as they are: they are looked up, and compared with what `migrate` prints; a weak password may be part of them.
NAMES = {"identity", "code", "app", "name", "table", "column"}


def plan(environment: Environment, checkout: Checkout, variables: Mapping[str, str] | None = None) -> Plan:
    """The migrations that are pending for a checkout's code, rendered, and what is wrong with them.

    Args:
        environment: Whose application.
        checkout: Whose code and settings.
        variables: The environment variables of the command that is about to run, so that the session is the same.

    Raises:
        AppError: The application cannot be asked.
        WrongDatabaseError: Its database is no PostgreSQL.
        CodeError: The checkout's interpreter imports the serving code instead of the checkout's.
    """
    answer = _ask(environment, checkout, ["identity", "plan"], variables)
    _refuse_other_engine(environment, answer)
    made = understood(answer)
    _refuse_serving_code(environment, checkout, answer.get("code") or {})
    return made


def understood(answer: Mapping[str, Any]) -> Plan:
    """The plan that an answer of the probe tells.

    Raises:
        AppError: The answer has another form; it is not shown, since anything may be in it.
    """
    try:
        return Plan(
            django=answer["django"],
            python=answer["python"],
            settings=answer["settings"],
            database=Reached.model_validate(answer["identity"]),
            pending=tuple(Migration.model_validate(migration) for migration in answer["plan"]),
            listed=tuple(Listed.model_validate(entry) for entry in answer["showmigrations"]),
            problems=problems_of(answer),
            planned_at=datetime.now(UTC),
        )
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        told = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in problems)
        raise AppError(f"the probe's answer is not understood: {told}") from None
    except (LookupError, TypeError, AttributeError) as error:
        raise AppError(f"the probe's answer is not understood: {type(error).__name__} {error}") from None


def _refuse_other_engine(environment: Environment, answer: Mapping[str, Any]) -> None:
    """Refuse an application that reaches no PostgreSQL: of another engine there is nothing that could be compared."""
    identity = answer.get("identity")
    vendor = identity.get("vendor") if isinstance(identity, dict) else None
    if vendor is not None and vendor != "postgresql":
        raise WrongDatabaseError(
            f"the application's {environment.app.database_alias!r} database is {vendor}, not PostgreSQL",
            hint=f"does [app] settings = {environment.app.settings!r} name the right settings?",
        )


def _refuse_serving_code(environment: Environment, checkout: Checkout, code: Mapping[str, str]) -> None:
    """Refuse an answer that is about the code that serves, where another checkout was to be asked."""
    serving = environment.app.directory
    if checkout.directory.resolve() == serving.resolve():
        return
    for module, place in code.items():
        inside = [top for top in (serving, serving.resolve()) if Path(place).is_relative_to(top)]
        own = checkout.directory / Path(place).relative_to(inside[0]) if inside else None
        # What the checkout has not (an installed package), or has by a link, is meant to be shared.
        if own and own.exists() and not own.samefile(place):
            raise CodeError(
                f"asked in {checkout.directory}, the application imported {module} from {place}: that is the code which"
                " serves, and its plan is not the candidate's",
                hint="its interpreter has the application installed in editable form: begin [app] manage with"
                ' "PYTHONPATH={directory}" (or "PYTHONPATH={directory}/src")',
            )


def _ask(
    environment: Environment, checkout: Checkout, what: list[str], variables: Mapping[str, str] | None
) -> dict[str, Any]:
    request = json.dumps({"database": environment.app.database_alias, "what": what})
    with tempfile.TemporaryDirectory(prefix="runbook-probe-") as scratch:
        answer_file = Path(scratch) / "answer.json"
        channel = {"RUNBOOK_PROBE_REQUEST": request, "RUNBOOK_PROBE_ANSWER": str(answer_file)}
        code = f"import runpy; runpy.run_path({str(PROBE)!r}, run_name='__main__')"
        try:
            output = manage(
                environment,
                checkout,
                ["shell", "-c", code],
                variables={**(variables or {}), **channel},
                timeout_s=TIMEOUT_S,
            )
        except CommandError as error:
            output = error.output
            if not answer_file.exists():
                raise AppError(
                    f"the application could not be asked in {checkout.directory}: {error.message}",
                    hint="does this work there? " + " ".join([*_without_variables(environment.app.manage), "check"]),
                ) from None
        if not answer_file.exists():
            raise AppError(
                f"the application's `shell -c` ran and left no answer in {checkout.directory}:\n{output[-2000:]}",
                hint="[app] manage must name a command that runs Django's own `shell`",
            )
        answer: dict[str, Any] = _redacted(environment, json.loads(answer_file.read_text(encoding="utf-8")))
    if inside := answer.get("error"):
        lost = inside.get("type") == "OperationalError" and is_passing(str(inside.get("message")))
        raise AppError(
            f"{inside.get('type')} inside the application: {inside.get('message')} ({inside.get('where')})",
            hint="is the database up, and do the application's settings name it?" if lost else "",
            retryable=lost,
        )
    return answer


def _without_variables(command: list[str]) -> list[str]:
    """A command without its leading NAME=value entries, which may be secrets."""
    return command[len(leading_variables(command)) :]


def _redacted(environment: Environment, answer: Any) -> Any:
    """An answer with the environment's secrets blotted out of every text in it."""
    if isinstance(answer, str):
        return environment.redacted(answer)
    if isinstance(answer, list):
        return [_redacted(environment, entry) for entry in answer]
    if isinstance(answer, dict):
        return {key: value if key in NAMES else _redacted(environment, value) for key, value in answer.items()}
    return answer
