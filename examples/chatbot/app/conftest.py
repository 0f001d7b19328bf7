import pytest
from django.test import Client


@pytest.fixture
def client() -> Client:
    """Requests carry one id, so that what depends on it is the same in each run."""
    return Client(headers={"X-Request-ID": "test"})
