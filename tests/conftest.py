"""Fixtures of all tests, one plugin per resource."""

import os

import pytest
from hypothesis import settings

pytest_plugins = ["tests.fix_postgres", "tests.fix_s3", "tests.fix_app", "tests.fix_prefect"]

# The programs that tests start import the same modules again and again: they are compiled once.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# No deadline per example: the machine may be busy with something else.
settings.register_profile("runbook", deadline=None, max_examples=50, database=None)
settings.load_profile("runbook")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share servers, so they run in one process.

    Those with a Prefect server take the longest and go first, in two halves that share one each.
    """

    def group(item: pytest.Item) -> str:
        path = item.location[0]
        if "prefect_server" not in getattr(item, "fixturenames", ()):
            return path
        return "prefect-production" if "production" in path or "tests/tasks/" in path else "prefect"

    items.sort(key=lambda item: not group(item).startswith("prefect"))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
