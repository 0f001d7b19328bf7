"""Fixtures of the application's tests: Django of several versions, and throw-away projects."""

from tests.tasks.app.django_projects import django_python, project

__all__ = ["django_python", "project"]
