import logging

from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

log = logging.getLogger("chatbot.health")


def release() -> str:
    """The commit that is checked out; empty outside of a checkout of its own, as on a developer's branch."""
    try:
        head = (settings.BASE_DIR / ".git" / "HEAD").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return "" if head.startswith("ref:") else head


RELEASE = release()  # when this process started: what serves, not what lies in the directory by now


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@require_safe
def api_health(request: HttpRequest) -> JsonResponse:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error as error:
        log.error("the database does not answer: %s", type(error).__name__)
        return JsonResponse({"status": "error", "database": "unreachable"}, status=503)
    return JsonResponse({"status": "ok", "database": "ok", "release": RELEASE})


def not_found(request: HttpRequest, exception: Exception) -> JsonResponse:
    return JsonResponse({"error": "not found"}, status=404)


def server_error(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"error": "internal server error", "request_id": request.request_id}, status=500)
