"""What all environments have in common."""

from pathlib import Path

from config.environment import secret, setting

BASE_DIR = Path(__file__).resolve().parents[2]
ENVIRONMENT = "base"
DEBUG = False
ALLOWED_HOSTS = setting("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1").split(",")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "apps.documents",
    "apps.conversations",
]
MIDDLEWARE = [
    "config.middleware.RequestLogMiddleware",
    "config.middleware.MaintenanceMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
APPEND_SLASH = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

# The file whose line MAINTENANCE_MODE=true closes the API.
MAINTENANCE_FILE = setting("MAINTENANCE_FILE", setting("CHATBOT_ENV_FILE", ""))
MAINTENANCE_RETRY_AFTER_S = 60


def database(
    *, port: str | None = None, name: str | None = None, user: str | None = None, host: str | None = None
) -> dict:
    """The connection; arguments are the defaults of an environment, and what has none must be set."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": setting("DATABASE_HOST", host),
        "PORT": setting("DATABASE_PORT", port),
        "NAME": setting("DATABASE_NAME", name),
        "USER": setting("DATABASE_USER", user),
        "PASSWORD": secret("DATABASE_PASSWORD", ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # Fallback: PGAPPNAME still wins, so that an operator can tell a migration's session from the application's.
        "OPTIONS": {"connect_timeout": 5, "fallback_application_name": "chatbot"},
    }


def logging_to(log_file: str, level: str = "INFO") -> dict:
    """JSON lines to the file (reopened after rotation), or to standard error when there is none."""
    handler = (
        {"class": "logging.handlers.WatchedFileHandler", "filename": log_file, "delay": True, "encoding": "utf-8"}
        if log_file
        else {"class": "logging.StreamHandler"}
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "config.logs.JsonFormatter"}},
        "filters": {"raised": {"()": "config.logs.OnlyRaised"}},
        "handlers": {"log": handler | {"formatter": "json"}},
        "root": {"handlers": ["log"], "level": level},
        "loggers": {
            "django": {"handlers": ["log"], "level": "INFO", "propagate": False},
            "django.request": {"handlers": ["log"], "filters": ["raised"], "propagate": False},
            "django.server": {"handlers": [], "propagate": False},
        },
    }


LOGGING = logging_to(setting("DJANGO_LOG_FILE", ""))
