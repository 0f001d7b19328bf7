"""The talk with a resident: the process, the socket to it, and the certainty that it ends."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tasks.app.command import Checkout, manage, variables_of
from tasks.app.probing import NAMES
from tasks.app.process import leading_variables
from tasks.release.environment import Environment
from tasks.release.errors import AppEndedError, AppError, CommandError

EARLY = Path(__file__).resolve().with_name("early")  # its sitecustomize runs before any code of the application
RESIDENT = Path(__file__).with_name("resident.py")
LOOK_S = 0.2  # between two looks whether a silent resident is still alive
ENDS_WITHIN_S = 10.0  # from the end of the talk to that of the process
LONGEST_S = 24 * 3600.0  # of the process as a whole; each command has a limit of its own
CHUNK_BYTES = 1 << 20
HIDDEN = "******"
CUT_OFF = "resident_guard.CutOff"  # in the traceback of what the guard has refused
REFUSED_HINT = "while it starts, the application may use Django's connection to the database to migrate and no other"
SHELL_HINT = "[app] manage must name a command that runs Django's own `shell`"
# Not blotted out: they are looked up and compared, and a weak password may be part of them.
PLAIN = NAMES | {"migration", "what", "relation"}


class Dialogue:
    """One resident process, from its start to its end, and what is said to it.

    `doing` says what it is at, for messages; "" when it waits for a command.

    Args:
        environment: Whose application.
        checkout: Whose code.
        secret: The password that is told to it; it is blotted out of all answers, as the environment's secrets are.
    """

    def __init__(self, environment: Environment, checkout: Checkout, secret: str) -> None:
        self.doing = "starting"
        self._environment, self._checkout, self._secret = environment, checkout, secret
        self._variables: dict[str, str] = {}
        self._stop = threading.Event()
        self._ended: CommandError | None = None  # how the process ended, when it did not end well
        self._rest = b""
        self._own, self._childs = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="resident", daemon=True)

    def start(self, variables: Mapping[str, str], target: Mapping[str, Any]) -> None:
        """Start the process and tell it its target.

        Raises:
            AppError: It does not start, or refuses.
        """
        self._variables = {**variables, "RUNBOOK_RESIDENT_FD": str(self._childs.fileno())}
        self._send({"target": dict(target)})  # which it looks for with its first breath
        self._thread.start()
        self._answer(self._environment.app.start_timeout_s)
        self._childs.close()  # from now on, the socket ends with the process
        self.doing = ""

    def ask(
        self,
        command: str,
        timeout_s: float,
        told: Callable[[dict[str, Any]], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Have a command carried out.

        Args:
            command: Its name.
            timeout_s: The longest that it may be silent.
            told: Takes the events on the way; the resident waits meanwhile.
            arguments: Of the command.

        Raises:
            AppError: It fails, hangs (it is then ended) or dies.
        """
        self.doing = self.doing or command
        self._send({"command": command, **arguments})
        answer = self._answer(timeout_s)
        while "event" in answer:
            if told:
                told(answer)
            self._send({"go": True})
            answer = self._answer(timeout_s)
        self.doing = ""
        return answer["ok"]

    def end(self) -> None:
        """End the process and its children, by force: what they hold is dropped with the scratch database."""
        self._childs.close()
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._own.close()

    def _run(self) -> None:
        """The process, from its start to its end; in a thread of its own."""
        code = f"import runpy; runpy.run_path({str(RESIDENT)!r}, run_name='__main__')"
        try:
            manage(
                guarded(self._environment, self._variables),
                self._checkout,
                ["shell", "-c", code],
                variables=self._variables,
                timeout_s=LONGEST_S,
                inherits=(self._childs.fileno(),),
                stop=self._stop,
            )
        except CommandError as error:
            self._ended = error

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        answer = self._blotted(json.loads(self._line(timeout_s)))
        if error := answer.get("error"):
            doing, self.doing = self.doing, ""
            where = f" ({error['where']})" if error.get("where") else ""
            kind = str(error.get("type")).rpartition(".")[2]
            raise AppError(f"{kind} inside the application while {doing}: {error.get('message')}{where}")
        return dict(answer)

    def _line(self, timeout_s: float) -> bytes:
        """The next line from the resident."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._own, select.POLLIN)
        chunks = [self._rest]
        while b"\n" not in chunks[-1]:
            alive = self._thread.is_alive()
            if poll.poll(LOOK_S * 1000):
                chunks.append(self._own.recv(CHUNK_BYTES))
                if chunks[-1]:
                    continue
                self._thread.join(ENDS_WITHIN_S)
                alive = False
            if not alive:
                raise self._died()
            if time.monotonic() > deadline:
                self._stop.set()
                raise AppError(
                    f"the application did not answer within {timeout_s:g} s while {self.doing}; it was ended",
                    hint="does it wait for a lock, for input, or for a service that cannot be reached from here?",
                )
        line, _, self._rest = b"".join(chunks).partition(b"\n")
        return line

    def _died(self) -> AppError:
        said = self._ended.message if self._ended else "its `shell -c` ran to its end"
        hint = (REFUSED_HINT if CUT_OFF in said else SHELL_HINT) if self.doing == "starting" else ""
        killed = self._ended is not None and (self._ended.exit_code is None or self._ended.exit_code < 0)
        kind = AppError if killed or self.doing == "starting" else AppEndedError
        return kind(f"the application ended while {self.doing or 'waiting'}: {said}", hint=hint)

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._own.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise self._died() from None

    def _blotted(self, answer: Any) -> Any:
        if isinstance(answer, str):
            return self._environment.redacted(answer.replace(self._secret, HIDDEN) if self._secret else answer)
        if isinstance(answer, list):
            return [self._blotted(entry) for entry in answer]
        if isinstance(answer, dict):
            return {key: value if key in PLAIN else self._blotted(value) for key, value in answer.items()}
        return answer


def guarded(environment: Environment, variables: Mapping[str, str]) -> Environment:
    """The environment with a management command whose PYTHONPATH begins with our directory."""
    command = environment.app.manage
    leading = leading_variables(command)
    given = {**variables_of(environment), **variables, **leading}.get("PYTHONPATH")
    path = f"{EARLY}{os.pathsep}{given}" if given else str(EARLY)
    entries = [f"{name}={value}" for name, value in {**leading, "PYTHONPATH": path}.items()]
    manage = [*entries, *command[len(leading) :]]
    return environment.model_copy(update={"app": environment.app.model_copy(update={"manage": manage})})
