from config.settings.base import *  # noqa: F403
from config.settings.base import database, secret

ENVIRONMENT = "local"
DEBUG = True
SECRET_KEY = secret("DJANGO_SECRET_KEY", "for-local-development-only")
DATABASES = {"default": database(host="localhost", port="5432", name="chatbot_dev", user="postgres")}
