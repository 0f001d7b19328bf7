"""Fixtures of the application's tests: a PostgreSQL server, Django of several versions, and throw-away projects."""

from tests.fix_postgres import postgres
from tests.tasks.app.django_projects import django_python, project

__all__ = ["django_python", "postgres", "project"]
