"""Fixtures of all tests, one plugin per resource."""

from hypothesis import settings

pytest_plugins = ["tests.fix_postgres", "tests.fix_s3", "tests.fix_app", "tests.fix_prefect"]

# No deadline per example: the machine may be busy with something else.
settings.register_profile("runbook", deadline=None, max_examples=50, database=None)
settings.load_profile("runbook")
