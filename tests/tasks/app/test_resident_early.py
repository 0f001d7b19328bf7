"""The resident's guard stands before any code of the application runs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.release.errors import AppError
from tests.tasks.app.scratch import Scratch, scratch_of
from tests.tasks.app.test_resident_guard import VERSIONS, driver, shop

__all__ = ["scratch_of", "shop"]

READY = """
from django.apps import AppConfig
import {driver} as driver

KEPT = []
dsn = {dsn!r}

class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        from django.db import connection
"""
INSERT = "INSERT INTO shop_order (number) VALUES (77)"
BY_HAND = f"""
try:
    by_hand = driver.connect(dsn)
    by_hand.cursor().execute({INSERT!r})
    by_hand.commit()
except Exception:
    pass
"""
INTERPRETER = """
import json, subprocess
show = "import os; print(os.environ.get('PYTHONPATH', ''))"
with open("interpreter.json", "w") as file:
    json.dump({
        "PYTHONPATH": os.environ.get("PYTHONPATH"),
        "child": subprocess.check_output([sys.executable, "-c", show]).decode().strip() or None,
        "own": getattr(sys, "own_sitecustomize", False),
        "path": sys.path,
    }, file)
"""


def ready(scratch: Scratch, version: str, code: str) -> None:
    """Have AppConfig.ready() run code; `driver`, `dsn` (the live database) and `connection` are at hand."""
    scratch.project.write(
        "shop/apps.py",
        READY.format(driver=driver(version), dsn=scratch.server.dsn(scratch.project.database))
        + textwrap.indent(code, " " * 8),
    )
    scratch.project.apps[:] = ["shop.apps.ShopConfig"]
    scratch.project.settings()


@pytest.mark.parametrize("version", [*VERSIONS, "newest"])
def test_the_guard_stands_before_the_application_is_ready(shop: Callable[..., Scratch], version: str) -> None:
    scratch = shop(version)
    ready(scratch, version, f"connection.cursor().execute({INSERT!r})\n" + BY_HAND)
    with scratch.resident() as app:
        assert app.hello.early
        assert ["was closed: only" in sentence for sentence in app.hello.refused] == [True]
        assert app.migrate().error is None
    assert scratch.ask("select number from shop_order", scratch.project.database) == [(1,)]
    assert scratch.ask("select number from shop_order order by number") == [(1,), (77,)]


@pytest.mark.parametrize("place", ["manage.py", "site_settings.py", "shop/models.py", "lib/sitecustomize.py"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_guard_stands_before_any_file_of_the_application(
    shop: Callable[..., Scratch], version: str, place: str
) -> None:
    scratch = shop(version)
    file = scratch.project.home / place
    file.parent.mkdir(exist_ok=True)
    head = f"import {driver(version)} as driver\ndsn = {scratch.server.dsn(scratch.project.database)!r}\n"
    file.write_text(head + BY_HAND + (file.read_text() if file.exists() else ""))
    with scratch.resident(variables={"PYTHONPATH": "lib"}) as app:
        assert app.hello.early
        assert len(app.hello.refused) == 1
    assert scratch.ask("select number from shop_order", scratch.project.database) == [(1,)]


def test_an_application_that_must_reach_the_live_database_to_start_is_told(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    ready(scratch, "5.2", "driver.connect(dsn)")
    with pytest.raises(AppError, match="was closed: only") as caught, scratch.resident():
        pass
    assert caught.value.hint
    assert "no other" in caught.value.hint
    assert scratch.server.password not in str(caught.value)


def test_the_application_is_ready_where_its_own_role_is_not_let_in(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    ready(scratch, "5.2", f"connection.cursor().execute({INSERT!r})")
    settings = scratch.project.home / "site_settings.py"
    settings.write_text(settings.read_text() + 'DATABASES["default"].update(USER="nobody_there", PASSWORD="wrong")\n')
    with scratch.resident(scratch.target(own_role=True)) as app:
        assert app.hello.user == scratch.server.superuser
    assert scratch.ask("select number from shop_order order by number") == [(1,), (77,)]


@pytest.mark.parametrize("given", ["variables", "manage", None])
def test_the_interpreter_starts_as_it_would_without_us(shop: Callable[..., Scratch], given: str | None) -> None:
    """Its own sitecustomize is loaded, and neither it nor its children have our directory on their path."""
    scratch = shop()
    home = scratch.project.home
    scratch.project.write("lib/sitecustomize.py", "import sys\nsys.own_sitecustomize = True\n")
    settings = home / "site_settings.py"
    settings.write_text(settings.read_text() + INTERPRETER)
    lib = str(home / "lib")
    app: dict[str | None, dict[str, Any]] = {
        None: {},
        "variables": {"variables": {"PYTHONPATH": lib}},
        "manage": {
            "variables": {"PYTHONPATH": "elsewhere"},
            "manage": ["OTHER=1", f"PYTHONPATH={lib}", "{python}", "manage.py"],
        },
    }
    with scratch.resident(**app[given]) as opened:
        assert opened.hello.early
    told = json.loads((home / "interpreter.json").read_text())
    assert told["PYTHONPATH"] == (lib if given else None)
    assert told["child"] == told["PYTHONPATH"]
    assert told["own"] == bool(given)
    assert not any(Path(entry).name == "early" for entry in told["path"])


def test_an_interpreter_that_does_not_look_at_pythonpath_is_told(
    shop: Callable[..., Scratch], capsys: pytest.CaptureFixture[str]
) -> None:
    """What AppConfig.ready() opened is closed then."""
    scratch = shop()
    ready(scratch, "5.2", "connection.ensure_connection()\nKEPT.append(driver.connect(dsn))")
    with scratch.resident(manage=["{python}", "-E", "manage.py"]) as app:
        assert not app.hello.early
        assert "was not kept from the live database" in capsys.readouterr().out
        assert scratch.sessions() == 0
        assert app.hello.database == scratch.name
        assert [entry.error for entry in app.use() if entry.what == "select shop.Order"] == [None]


def test_settings_that_the_guard_does_not_understand_end_the_application(shop: Callable[..., Scratch]) -> None:
    scratch = shop()
    ready(scratch, "5.2", "try:\n    connection.ensure_connection()\nexcept Exception:\n    pass")
    settings = scratch.project.home / "site_settings.py"
    settings.write_text(settings.read_text() + 'DATABASES["other"]["OPTIONS"] = ["not", "a dictionary"]\n')
    with pytest.raises(AppError, match="AttributeError inside the application while starting"), scratch.resident():
        pass
