"""The shop as files: a release's code in a directory, and an interpreter with Django and the linters in it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import uv

PACKAGES = ("Django~=5.2.0", "psycopg[binary]~=3.2", "django-migration-linter==6.0.0", "django-safe-migrations==0.7.1")
DEFERRED = ("django-deferred-migrations==1.0.0",)  # wants Python 3.12
ENVIRONMENT = ("SHOP_HOST", "SHOP_PORT", "SHOP_USER", "SHOP_PASSWORD", "SHOP_DATABASE")
INSTALL_S = 300

SETTINGS = """
import os

SECRET_KEY = "not a secret"
INSTALLED_APPS = ["shop", *os.environ.get("SHOP_MORE_APPS", "").split()]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": os.environ["SHOP_HOST"], "PORT": os.environ["SHOP_PORT"], "USER": os.environ["SHOP_USER"],
    "PASSWORD": os.environ["SHOP_PASSWORD"], "NAME": os.environ["SHOP_DATABASE"],
    "OPTIONS": {"application_name": "shop", "connect_timeout": 10,
                "options": "-c lock_timeout=5s -c statement_timeout=120s"},
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""
MANAGE = """
import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_settings")
execute_from_command_line(sys.argv)
"""


def interpreter(home: Path) -> tuple[Path, bool]:
    """Make an interpreter with Django and the other linters; tells whether django-deferred-migrations is among them.

    Raises:
        subprocess.CalledProcessError: A package cannot be had.
    """
    program = uv.find_uv_bin()
    newer = sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python3"))
    for python, more in [*((str(one), DEFERRED) for one in ("3.12", *newer)), (sys.executable, ())]:
        make = [program, "venv", "-q", "--clear", "--offline", "--python", python, str(home)]
        if subprocess.run(make, capture_output=True, check=False, timeout=INSTALL_S).returncode:
            continue
        install = [
            program,
            "pip",
            "install",
            "-q",
            "--compile-bytecode",
            "--python",
            str(home / "bin" / "python"),
            *PACKAGES,
            *more,
        ]
        subprocess.run(install, check=True, timeout=INSTALL_S)
        return home / "bin" / "python", bool(more)
    raise FileNotFoundError("no Python for the shop")


def write_release(directory: Path, models: str, migrations: Mapping[str, str]) -> Path:
    """Write a release of the shop: its models and its migrations by name."""
    files = {
        "manage.py": MANAGE,
        "shop_settings.py": SETTINGS,
        "shop/__init__.py": "",
        "shop/models.py": models,
        "shop/migrations/__init__.py": "",
        **{f"shop/migrations/{name}.py": text for name, text in migrations.items()},
    }
    for path, text in files.items():
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory


def variables(place: Mapping[str, str], dbname: str, *more_apps: str) -> dict[str, str]:
    """The environment of a process of the shop; `place` has what ENVIRONMENT names, but the database."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTHON", "PG"))}
    return {
        **kept,
        **place,
        "SHOP_DATABASE": dbname,
        "SHOP_MORE_APPS": " ".join(more_apps),
        "DJANGO_SETTINGS_MODULE": "shop_settings",
        "PYTHONPATH": ".",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
