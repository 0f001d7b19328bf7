"""The throw-away Django projects of the application's tests serve here too."""

from tests.deployments.check.shop import shop
from tests.tasks.app.django_projects import django_python, project

__all__ = ["django_python", "project", "shop"]
