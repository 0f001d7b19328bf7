"""External programs: an end in every case, and no secret in what they leave behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks.app.process import HEAD_LIMIT, LINE_LIMIT, OUTPUT_LIMIT, run
from tasks.release.errors import CommandError
from tests.builders import environment

SECRETIVE = environment(app={"secrets": {"TOKEN": SecretStr("hunter2-token")}})


def python(code: str, **options: object) -> str:
    settings: dict[str, object] = {"directory": Path("/"), "variables": {}, "timeout_s": 30.0} | options
    return run(SECRETIVE, [sys.executable, "-u", "-c", code], **settings)  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_lines_are_told_as_they_come() -> None:
    told: list[str] = []
    first = threading.Event()

    def line(text: str) -> None:
        told.append(text)
        first.set()

    go_on, wait = os.pipe()
    code = f"import os; print('one'); os.read({go_on}, 1); print('two')"
    os.set_inheritable(go_on, True)
    # The program waits until its first line was told.
    releaser = threading.Thread(target=lambda: (first.wait(20), os.write(wait, b"x")))
    releaser.start()
    # Popen closes what is inherited; so the pipe is reached by its name.
    code = code.replace(f"os.read({go_on}, 1)", f"open('/proc/{os.getpid()}/fd/{go_on}', 'rb').read(1)")
    assert python(code, line=line) == "one\ntwo"
    releaser.join(5)
    assert told == ["one", "two"]
    os.close(go_on)
    os.close(wait)


def test_a_line_that_has_begun_is_told() -> None:
    begun: list[str] = []
    python("print('Applying x...', end='', flush=True); import time; time.sleep(0.2); print(' OK')", begun=begun.append)
    assert begun[0] == "Applying x..."


def test_time_that_runs_out_ends_the_children_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "print('both are up'); child.wait()\n"
    )
    began = time.monotonic()
    with pytest.raises(CommandError, match="ran out of time") as caught:
        python(code, timeout_s=2.0)
    assert time.monotonic() - began < 15
    assert caught.value.exit_code is None
    assert "both are up" in caught.value.output
    for pid in pids.read_text().split():
        eventually(lambda pid=int(pid): not lives(pid))  # type: ignore[misc]


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("code", [0, 3])
def test_a_daemon_that_keeps_the_pipe_open_is_left_alone_and_does_not_hold_us(
    tmp_path: Path, session: bool, code: int
) -> None:
    pid = tmp_path / "pid"
    program = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"child = subprocess.Popen(command, start_new_session={session})\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        f"print('started'); sys.exit({code})\n"
    )
    began = time.monotonic()
    try:
        if code:
            with pytest.raises(CommandError, match="ended with exit code 3:\nstarted"):
                python(program)
        else:
            assert python(program) == "started"
        assert time.monotonic() - began < 15
        assert lives(int(pid.read_text()))
    finally:
        os.kill(int(pid.read_text()), 9)


def test_a_daemon_that_prints_without_end_does_not_hold_us_either() -> None:
    assert run(SECRETIVE, ["sh", "-c", "yes & exit 0"], directory=Path("/"), variables={}, timeout_s=30).startswith(
        "y\n"
    )


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from tasks.app import process
from tasks.release.errors import CommandError
from tests.builders import environment

process.ENDED_WITHIN_S = 0.3
try:
    process.run(environment(), sys.argv[1:], directory=Path("/"), variables={}, timeout_s=0.5)
except CommandError as error:
    print(error)
try:
    os.wait()  # it ends by itself
except ChildProcessError:
    pass
"""


@pytest.mark.parametrize("below", [[], ["sh", "-c", '"$@"; :', "sh"]])
def test_what_became_another_user_cannot_be_ended_and_does_not_hold_us(below: list[str]) -> None:
    if os.geteuid() == 0:  # root without its right to kill, and a child that is nobody
        mine, other = ["setpriv", "--bounding-set=-kill"], ["setpriv", "--reuid=65534", "--clear-groups"]
    else:
        mine, other = [], ["sudo", "-n"]
    if (
        not shutil.which(other[0])
        or subprocess.run([*mine, *other, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs to be root, or sudo without a password")
    done = subprocess.run(
        [*mine, sys.executable, "-c", AS_ANOTHER_USER, *below, *other, "sleep", "2"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "ran out of time" in done.stdout, done.stderr
    assert "could not be ended" in done.stdout


def test_a_program_that_closed_its_output_runs_out_of_time_too() -> None:
    with pytest.raises(CommandError, match="ran out of time"):
        python("import os, time; os.close(1); os.close(2); time.sleep(60)", timeout_s=1.5)


def test_an_error_of_the_listener_ends_the_program(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); print('x'); time.sleep(60)"

    def line(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        python(code, line=line)
    eventually(lambda: not lives(int(pid.read_text())))


@pytest.mark.parametrize("apart", [False, True])
def test_no_secret_is_in_what_is_left_behind(apart: bool) -> None:
    told: list[str] = []
    code = "import sys; print('token hunter2-token'); print('bad hunter2-token', file=sys.stderr)"
    assert "hunter2" not in python(code, line=told.append, errors_apart=apart)
    assert "token ******" in told
    with pytest.raises(CommandError) as caught:
        python(code + "; raise SystemExit(3)", errors_apart=apart)
    assert caught.value.exit_code == 3
    assert "hunter2" not in str(caught.value)
    assert "bad ******" in caught.value.output.splitlines()


def test_standard_error_is_kept_out_of_an_answer() -> None:
    assert python("import sys; print('answer'); print('noise', file=sys.stderr)", errors_apart=True) == "answer"


def test_leading_assignments_are_variables() -> None:
    code = "import os; print(os.environ['COLOUR'], os.environ['SHAPE'])"
    command = ["COLOUR=blue", "SHAPE=a=b", sys.executable, "-c", code]
    assert run(SECRETIVE, command, directory=Path("/"), variables={"COLOUR": "red"}, timeout_s=30) == "blue a=b"


def test_variables_of_this_process_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_KEY", "RUNBOOK_X", "PGPASSWORD", "PYTHONPATH", "GIT_DIR", "DJANGO_SETTINGS_MODULE"):
        monkeypatch.setenv(name, "of the worker")
    monkeypatch.setenv("COLOUR", "blue")
    left = python("import os; print(*os.environ.items())")
    assert "of the worker" not in left
    assert "'COLOUR', 'blue'" in left


@pytest.mark.parametrize(("program", "directory"), [("no-such-program", "/"), (sys.executable, "/nowhere")])
def test_a_program_that_cannot_be_started_is_named(program: str, directory: str) -> None:
    with pytest.raises(CommandError, match=f"No such file or directory .in {directory}.") as caught:
        run(SECRETIVE, [program], directory=Path(directory), variables={}, timeout_s=5, hint="install it")
    assert caught.value.exit_code == 127
    assert program in caught.value.message
    assert caught.value.hint == "install it"
    assert not caught.value.retryable


def test_of_much_output_the_end_is_kept() -> None:
    code = "for n in range(40000): print(n, 'x' * 60)"
    output = python(code)
    assert len(output) < OUTPUT_LIMIT * 1.1
    assert output.splitlines()[-1].startswith("39999 ")
    with pytest.raises(CommandError) as caught:
        python(f"import sys; sys.stdout = sys.stderr\n{code}\nsys.exit('why it failed')", errors_apart=True)
    assert caught.value.output.endswith("why it failed")


def test_bytes_that_are_no_text_do_not_matter() -> None:
    assert python(r"import os; os.write(1, b'\xff\xfe\r\nnext')").endswith("\nnext")


def test_a_progress_bar_is_many_lines() -> None:
    told: list[str] = []
    assert python(r"import os; os.write(1, b'10%\r20%\r'); os.write(1, b'\n30%\r\n')", line=told.append)
    assert told == ["10%", "20%", "30%"]


def test_a_line_without_end_is_bounded_and_no_secret_in_it_is_cut_in_two() -> None:
    told: list[str] = []
    heads: list[str] = []
    code = "import sys\nfor n in range(20000): sys.stdout.write('x' * (n % 100) + 'hunter2-token')"
    output = python(code, line=told.append, begun=heads.append)
    assert len(output) <= OUTPUT_LIMIT
    assert max(map(len, told)) <= LINE_LIMIT * 2
    assert max(map(len, heads)) <= HEAD_LIMIT
    left = "".join(told)
    assert left.count("******") == 20000
    assert set(left) == {"x", "*"}


def test_the_secrets_of_the_worker_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the worker")
    monkeypatch.setenv("WORKERS_TOKEN", "hunter2-token")
    monkeypatch.setenv("RUNBOOK_STATE", "/state")
    monkeypatch.setenv("RUNBOOK_SERVICE", "worker")
    code = "import os; print(*(f'{n}={len(v)}' for n, v in os.environ.items()))"
    left = python(code)
    assert "AWS_SECRET_ACCESS_KEY" not in left
    assert "WORKERS_TOKEN" not in left
    assert {"RUNBOOK_STATE=6", "RUNBOOK_SERVICE=6"} <= set(left.split()), "a worker's children are known by them"
    given = {"WORKERS_TOKEN": "hunter2-token", "AWS_PROFILE": "shop"}
    assert {"WORKERS_TOKEN=13", "AWS_PROFILE=4"} <= set(python(code, variables=given).split())
