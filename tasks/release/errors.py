"""The exception tree.

RunbookError
 ├── ConfigurationError        an environment file, a secret or prefect.yaml is wrong
 ├── RefusedError              a rule of the runbook forbids to go on
 │    ├── WrongDatabaseError   the application reaches another database than the one configured or backed up
 │    ├── ReleaseInProgressError  another release holds the database
 │    └── StaleBackupError     the backup is too old to migrate on
 ├── CommandError              an external program failed
 ├── AppError                  the Django application could not be asked or did not answer
 │    └── AppEndedError        it ended by itself in the middle of a command
 ├── DatabaseError             PostgreSQL refused or was lost
 ├── MigrationError            `migrate` failed
 ├── BackupError               a backup could not be made
 ├── VerificationError         a backup is not what its manifest says
 ├── StoreError                the bucket refused or was lost
 │    └── ConflictError        somebody else wrote the object first
 ├── CodeError                 git, the checkout or the service's reload
 ├── MaintenanceError          maintenance mode could not be switched, or the application does not show it
 ├── NoticeError               a notice could not be delivered
 ├── SmokeError                the deployed application does not answer as it should
 ├── MonitorError              the watch of a release convicts it
 └── ServiceError              an embedded service could not be started or stopped
"""

from __future__ import annotations

RETRY_DELAYS_S = [2.0, 10.0, 30.0]  # between the tries of a stage, for errors that say they may pass


class RunbookError(Exception):
    """Something a person has to know: what happened, to what, and what to do next.

    Args:
        message: What happened, to which environment, migration or object.
        hint: What to type or change.
        retryable: Whether the same call may succeed later without anybody changing anything.
    """

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message}\n  what to do: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect pickles a task's exception; keyword-only arguments need a rebuild by hand.
        return _rebuild, (type(self), self.message, self.hint, self.retryable, self.__dict__)


def _rebuild(
    kind: type[RunbookError], message: str, hint: str, retryable: bool, fields: dict[str, object]
) -> RunbookError:
    error = kind.__new__(kind)
    RunbookError.__init__(error, message, hint=hint, retryable=retryable)
    error.__dict__.update(fields)
    return error


class ConfigurationError(RunbookError):
    """An environment file, a secret or prefect.yaml is wrong."""


class RefusedError(RunbookError):
    """A rule of the runbook forbids to go on; nothing was changed."""


class WrongDatabaseError(RefusedError):
    """The application reaches another database than the one configured or backed up."""


class ReleaseInProgressError(RefusedError):
    """Another release holds the database."""


class StaleBackupError(RefusedError):
    """The backup is too old to migrate on."""


class CommandError(RunbookError):
    """An external program failed.

    Args:
        program: Its name, without arguments (they may be long, and are in the log).
        exit_code: Its exit code; negative is the signal that ended it; None when it ran out of time.
        output: The end of what it printed, at most 4,000 characters.
    """

    def __init__(
        self, program: str, exit_code: int | None, output: str, *, hint: str = "", retryable: bool = False
    ) -> None:
        ended = "ran out of time" if exit_code is None else f"ended with exit code {exit_code}"
        if exit_code is not None and exit_code < 0:
            ended = f"was ended by signal {-exit_code}"
        tail = output[-4000:].strip()
        super().__init__(f"{program} {ended}" + (f":\n{tail}" if tail else ""), hint=hint, retryable=retryable)
        self.program = program
        self.exit_code = exit_code
        self.output = tail


class AppError(RunbookError):
    """The Django application could not be asked or did not answer."""


class AppEndedError(AppError):
    """The Django application ended by itself in the middle of a command: nobody killed it."""


class DatabaseError(RunbookError):
    """PostgreSQL refused or was lost.

    Args:
        sqlstate: The five-character code of the SQL standard where the server gave one.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.sqlstate = sqlstate


class MigrationError(RunbookError):
    """`migrate` failed.

    Args:
        applied: The migrations of this release that stand applied nevertheless, as `app.name`.
        failed: The migration that failed, where it is known.
    """

    def __init__(
        self,
        message: str,
        *,
        applied: tuple[str, ...] = (),
        failed: str | None = None,
        hint: str = "",
        retryable: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.applied = applied
        self.failed = failed


class BackupError(RunbookError):
    """A backup could not be made; what was uploaded of it has no manifest and counts for nothing."""


class VerificationError(RunbookError):
    """A backup is not what its manifest says.

    Args:
        subject: The object or table that differs.
    """

    def __init__(self, message: str, *, subject: str, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.subject = subject


class StoreError(RunbookError):
    """The bucket refused or was lost.

    Args:
        key: The object.
    """

    def __init__(self, message: str, *, key: str = "", hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.key = key


class ConflictError(StoreError):
    """Somebody else wrote the object first."""


class CodeError(RunbookError):
    """Git, the checkout or the service's reload."""


class MaintenanceError(RunbookError):
    """Maintenance mode could not be switched, or the application does not show it."""


class NoticeError(RunbookError):
    """A notice could not be delivered."""


class SmokeError(RunbookError):
    """The deployed application does not answer as it should."""


class MonitorError(RunbookError):
    """The watch of a release convicts it: the verdict's sentence is the message."""


class ServiceError(RunbookError):
    """An embedded service could not be started or stopped."""


def may_retry(_task: object, _task_run: object, state: object) -> bool:
    """Prefect's `retry_condition_fn`: the error itself says whether another try may help.

    An error that is not ours (a bug, a lost Prefect API) is not retried by the task: the run fails and is run again.
    """
    error = getattr(state, "data", None)
    return isinstance(error, RunbookError) and error.retryable
