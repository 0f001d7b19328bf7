"""Embedded services from packages: PostgreSQL, S3, Prefect and its workers, without Docker.

`up`, `status`, `down` and `delete` are all that a command needs; `write_environments` turns presets into environment
files for what runs.
"""

from deployments.embedded.catalogue import SERVICES
from deployments.embedded.lifecycle import Status, delete, down, services, status, up
from deployments.embedded.rendering import write_environments

__all__ = ["SERVICES", "Status", "delete", "down", "services", "status", "up", "write_environments"]
