from config.settings.base import *  # noqa: F403
from config.settings.base import database, secret, setting

ENVIRONMENT = "production"
SECRET_KEY = secret("DJANGO_SECRET_KEY")
ALLOWED_HOSTS = setting("DJANGO_ALLOWED_HOSTS").split(",")
DATABASES = {"default": database(port="5432")}
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
