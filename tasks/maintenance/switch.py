"""Maintenance mode: switched in the environment's way, and believed only when the application itself shows it."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from tasks.app.candidate import serving
from tasks.app.command import program
from tasks.maintenance.flag import add_flag, remove_flag
from tasks.release.environment import Environment
from tasks.release.errors import MaintenanceError, RefusedError, RunbookError
from tasks.release.prefect_api import is_loopback, may_pass
from tasks.release.production import HttpSwitch, Maintenance

ASK_TIMEOUT_S = 5.0  # of one question to the application
SWITCH_TIMEOUT_S = 15.0  # of a request that switches
POLL_S = 0.2
STEADY = 3  # equal answers running: with old and new processes at work, one may be luck
# A proxy's own words: they say nothing about the application behind it.
OF_A_PROXY = (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.GATEWAY_TIMEOUT)


def refuse_without_switch(environment: Environment, needed: bool) -> None:
    """Refuse a release that needs maintenance mode where nobody has said how it is switched.

    Raises:
        RefusedError: It is needed, and the environment has no [maintenance] section.
    """
    if needed and environment.maintenance is None:
        raise RefusedError(
            f"the release needs maintenance mode, and {environment.name} has no way to switch it; nothing was changed",
            hint=f"add a [maintenance] section to {environment.name}.toml (docs/maintenance.md shows the three ways),"
            " or change the migration so that it needs no window",
        )


def is_on(environment: Environment) -> bool | None:
    """Whether the application shows maintenance mode; None: it does not answer, or no switch is configured."""
    switch = environment.maintenance
    if switch is None:
        return None
    with _client(environment) as client:
        return _shown(client, switch)


def switch_on(environment: Environment, report: Callable[[str], None]) -> str:
    """Switch maintenance mode on and see it; safe to repeat.

    Args:
        environment: Has a [maintenance] section.
        report: Takes a line for the log.

    Returns:
        How it was switched, for the record.

    Raises:
        RefusedError: The environment has no switch.
        MaintenanceError: It could not be switched, or the application does not show it; it was switched off again.
    """
    refuse_without_switch(environment, needed=True)
    switch = _switch(environment)
    try:
        how = _turn(environment, switch, True, report)
        _see(environment, switch, True)
    except RunbookError as error:
        raise _taken_back(environment, switch, error, report) from None
    report(f"maintenance mode is on, by {how}")
    return how


def switch_off(environment: Environment, report: Callable[[str], None]) -> None:
    """Switch maintenance mode off and see it; safe to repeat. Without a switch nothing is done.

    Raises:
        MaintenanceError: It could not be switched, or the application still shows it.
    """
    if environment.maintenance is None:
        return
    how = _turn(environment, environment.maintenance, False, report)
    _see(environment, environment.maintenance, False)
    report(f"maintenance mode is off, by {how}")


def described(switch: Maintenance) -> str:
    """How an environment switches, in a few words."""
    if switch.flag_file is not None:
        return f"flag in {switch.flag_file}"
    return "command" if switch.on_command else "request"


def _switch(environment: Environment) -> Maintenance:
    assert environment.maintenance is not None  # noqa: S101 - refused before
    return environment.maintenance


def _turn(environment: Environment, switch: Maintenance, on: bool, report: Callable[[str], None]) -> str:
    """Do what switches, each time anew: that the flag is there does not say that the service was told of it."""
    if switch.flag_file is not None:
        (add_flag if on else remove_flag)(switch.flag_file, switch.flag)
        _command(environment, switch.reload, on, report)
    elif switch.on_command:
        _command(environment, switch.on_command if on else switch.off_command, on, report)
    else:
        request = switch.on_request if on else switch.off_request
        assert request is not None  # noqa: S101 - Maintenance itself sees to it
        _request(environment, request, on)
    return described(switch)


def _command(environment: Environment, command: list[str], on: bool, report: Callable[[str], None]) -> None:
    if not command:
        return
    try:
        program(environment, serving(environment), command, line=report)
    except RunbookError as error:
        raise MaintenanceError(
            f"the command that switches maintenance mode {_word(on)} failed: {error.message}",
            hint=f"run it by hand as the worker's user: {' '.join(command)}",
            retryable=not on,
        ) from None


def _request(environment: Environment, request: HttpSwitch, on: bool) -> None:
    headers = {name: secret.get_secret_value() for name, secret in request.secret_headers.items()}
    try:
        httpx.request(
            request.method,
            request.url,
            headers=headers,
            json=request.json_body or None,
            timeout=SWITCH_TIMEOUT_S,
            trust_env=not is_loopback(request.url),
        ).raise_for_status()
    except httpx.HTTPError as error:
        answer = f"status {error.response.status_code}" if isinstance(error, httpx.HTTPStatusError) else "no answer"
        where = environment.redacted(str(httpx.URL(request.url).copy_with(query=None, userinfo=b"")))
        raise MaintenanceError(
            f"the request that switches maintenance mode {_word(on)} failed: {answer} from {where}",
            hint="[maintenance] on_request and off_request say what is sent; are address and secret_headers right?",
            retryable=may_pass(error),
        ) from None


def _client(environment: Environment) -> httpx.Client:
    # A connection for each question: one that is kept would always ask the same process of the service.
    return httpx.Client(
        base_url=environment.smoke.base_url,
        timeout=ASK_TIMEOUT_S,
        follow_redirects=False,
        trust_env=not is_loopback(environment.smoke.base_url),
        limits=httpx.Limits(max_keepalive_connections=0),
    )


def _shown(client: httpx.Client, switch: Maintenance) -> bool | None:
    try:
        status = client.get(switch.check_path).status_code
    except httpx.HTTPError:
        return None
    if status == switch.check_status:
        return True
    return None if status in OF_A_PROXY else False


def _see(environment: Environment, switch: Maintenance, on: bool) -> None:
    deadline = time.monotonic() + switch.within_s
    seen = 0
    with _client(environment) as client:
        while True:
            shown = _shown(client, switch)
            seen = seen + 1 if shown is on else 0
            if seen == STEADY:
                return
            if not seen and time.monotonic() > deadline:
                break
            time.sleep(POLL_S / STEADY if seen else POLL_S)
    found = {True: f"status {switch.check_status}", False: f"another status than {switch.check_status}"}
    raise MaintenanceError(
        f"maintenance mode was switched {_word(on)} by {described(switch)}, but {environment.name} answers"
        f" {switch.check_path} with {found[shown] if shown is not None else 'nothing'} after {switch.within_s:g} s",
        hint="does the application read what is switched, does it have to be reloaded ([maintenance] reload), and are"
        " check_path and check_status right?",
        retryable=not on,
    )


def _taken_back(
    environment: Environment, switch: Maintenance, error: RunbookError, report: Callable[[str], None]
) -> MaintenanceError:
    """Switch off what could not be switched on; the error to raise, with the second one where that failed too."""
    try:
        _turn(environment, switch, False, report)
    except RunbookError as second:
        return MaintenanceError(
            f"{error.message}\nit could not be switched off again either: {second.message}",
            hint=f"switch it off by hand; then: {error.hint}",
        )
    return MaintenanceError(f"{error.message}; it was switched off again", hint=error.hint, retryable=error.retryable)


def _word(on: bool) -> str:
    return "on" if on else "off"
