"""A project on a branch, and `runbook check` run on it as a person or a job would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fix_app import git
from tests.tasks.app.django_projects import Project

MODELS = """
class Customer(models.Model):
    email = models.CharField(max_length=100)


class Order(models.Model):
    number = models.CharField(max_length=20)
    note = models.TextField(null=True)
"""
FIRST = """
migrations.CreateModel("Customer", [
    ("id", models.BigAutoField(primary_key=True)), ("email", models.CharField(max_length=100)),
]),
migrations.CreateModel("Order", [
    ("id", models.BigAutoField(primary_key=True)), ("number", models.CharField(max_length=20)),
    ("note", models.TextField(null=True)),
]),
"""
INDEX = 'migrations.AddIndex("order", models.Index(fields=["number"], name="order_number_idx")),'
HARMLESS = 'migrations.AddField("order", "memo", models.TextField(null=True)),'
UNIQUE = 'migrations.AlterField("customer", "email", models.CharField(max_length=100, unique=True)),'


@pytest.fixture
def shop(project: Callable[[str], Project]) -> Project:
    """A project in git: its first migration is on main, and a branch is checked out."""
    made = project("5.2")
    made.app("shop", MODELS)
    made.migration("shop", "0001_initial", FIRST)
    made.write(".gitignore", "*.pyc\n__pycache__/\n/local.py\n")
    git(made.home, "init", "--quiet", "--initial-branch=main")
    commit(made, "the shop")
    git(made.home, "checkout", "--quiet", "-b", "feature")
    return made


def commit(project: Project, message: str) -> None:
    git(project.home, "add", "--all")
    git(project.home, "commit", "--quiet", "--message", message)


def command(project: Project, *options: str) -> list[str]:
    """The command line of a check; options that come later count."""
    begin = [str(Path(sys.executable).with_name("runbook")), "check", str(project.home)]
    return [*begin, "--python", str(project.python), "--settings", "site_settings", *options]


def check(project: Project, *options: str, code: int, **variables: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(project, *options),
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert project.server.password not in done.stdout + done.stderr
    return done


def judged(project: Project, *options: str, code: int, **variables: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(check(project, "--json", *options, code=code, **variables).stdout)
    return answer


def rules(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding["migration"], finding["rule"]) for finding in answer["findings"]]
