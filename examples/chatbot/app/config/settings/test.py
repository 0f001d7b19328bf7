from config.settings.base import *  # noqa: F403
from config.settings.base import database, secret

ENVIRONMENT = "test"
SECRET_KEY = secret("DJANGO_SECRET_KEY", "for-tests-only")
DATABASES = {"default": database(host="localhost", port="5433", name="chatbot_test", user="postgres")}
