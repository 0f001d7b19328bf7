"""The browser's tests use the flow that the approval's own tests run."""

from tests.tasks.approve.conftest import asking, production

__all__ = ["asking", "production"]
