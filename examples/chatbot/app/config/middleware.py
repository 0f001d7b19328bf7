import logging
import os
import time
import uuid
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from config.environment import read_env_file
from config.logs import request_fields

ALWAYS_OPEN = ("/health", "/api/health")
LEVELS = {500: logging.ERROR, 503: logging.WARNING}  # 503 is an answer that was meant
log = logging.getLogger("chatbot.request")


class RequestLogMiddleware:
    """One line per request in the log; the id comes from the proxy, or is made here, and goes back to the client."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        request.request_id = request.headers.get("X-Request-ID") or uuid.uuid4().hex
        response = self.get_response(request)
        response["X-Request-ID"] = request.request_id
        duration_ms = round((time.perf_counter() - started) * 1000, 2)
        log.log(
            LEVELS.get(response.status_code, logging.INFO),
            "%s %s %s",
            request.method,
            request.path,
            response.status_code,
            extra=request_fields(request) | {"status": response.status_code, "duration_ms": duration_ms},
        )
        return response


class MaintenanceMiddleware:
    """503 for all but the health endpoints while the file says MAINTENANCE_MODE=true.

    The file is read again only when its stat changed, so that a request costs one system call.
    """

    def __init__(self, get_response):
        self.get_response = get_response
        self.stamp: tuple[int, ...] | None = None
        self.closed = False

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path not in ALWAYS_OPEN and self.is_closed(settings.MAINTENANCE_FILE):
            return JsonResponse(
                {"error": "down for maintenance"},
                status=503,
                headers={"Retry-After": str(settings.MAINTENANCE_RETRY_AFTER_S)},
            )
        return self.get_response(request)

    def is_closed(self, path: str) -> bool:
        try:
            stat = os.stat(path)  # noqa: PTH116 - an empty path must not mean the current directory
        except FileNotFoundError:
            return False
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self.stamp:
            self.closed = read_env_file(Path(path)).get("MAINTENANCE_MODE", "").lower() in ("true", "1", "yes", "on")
            self.stamp = stamp
        return self.closed
