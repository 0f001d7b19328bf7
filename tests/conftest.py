"""Fixtures of all tests, one plugin per resource."""

import pytest
from hypothesis import settings

pytest_plugins = ["tests.fix_postgres", "tests.fix_s3", "tests.fix_app", "tests.fix_prefect"]

# No deadline per example: the machine may be busy with something else.
settings.register_profile("runbook", deadline=None, max_examples=50, database=None)
settings.load_profile("runbook")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share servers, so they run in one process; those with a Prefect server share it, and go first."""

    def needs_prefect(item: pytest.Item) -> bool:
        return "prefect_server" in getattr(item, "fixturenames", ())

    items.sort(key=lambda item: not needs_prefect(item))
    for item in items:
        item.add_marker(pytest.mark.xdist_group("prefect" if needs_prefect(item) else item.location[0]))
