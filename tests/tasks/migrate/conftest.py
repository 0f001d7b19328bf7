"""A site whose release is ready to be migrated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks.app.probing import plan
from tasks.database.connection import connect
from tasks.database.identity import identify
from tasks.release.plan import Plan
from tasks.release.release import Release
from tests.builders import backup, release, verification
from tests.fix_app import Site
from tests.tasks.migrate.manifest import stored_manifest

Ready = Callable[..., Release]


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    """What was planned for a commit: the same for every fresh site."""
    return {}


@pytest.fixture
def ready(staging_site: Site, plans: dict[str, Plan]) -> Ready:
    """Check a ref out and return its release as it is before the migration: planned, backed up, proved."""

    def made(ref: str = "v1.1", **changes: Any) -> Release:
        commit = staging_site.check_out(ref)
        environment = staging_site.environment
        if commit not in plans:
            plans[commit] = plan(environment, staging_site.checkout)
        with connect(environment.database, "test") as connection:
            source = identify(connection)
        fields = {
            "commit": commit,
            "plan": plans[commit],
            "backup": backup(source=source, **stored_manifest(environment)),
            "verification": verification(),
        }
        return release(**fields | changes)

    return made
