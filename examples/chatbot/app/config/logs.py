"""django.log: one JSON object per line."""

import json
import logging
from datetime import UTC, datetime

REQUEST_FIELDS = ("method", "path", "route", "status", "duration_ms", "request_id")


def request_fields(request) -> dict[str, object]:
    """What a log line tells of a request; the route is its URL pattern, null where none matched."""
    match = request.resolver_match
    return {
        "method": request.method,
        "path": request.path,
        "route": f"/{match.route}" if match else None,
        "request_id": getattr(request, "request_id", None),
    }


class OnlyRaised(logging.Filter):
    """Django also reports answers of 4xx and 5xx that nothing raised: the request's own line has told those."""

    def filter(self, record: logging.LogRecord) -> bool:
        return bool(record.exc_info)


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request = getattr(record, "request", None)
        if hasattr(request, "resolver_match"):  # django.request's own records carry the request itself
            line |= request_fields(request) | {"status": getattr(record, "status_code", None)}
        line |= {name: getattr(record, name) for name in REQUEST_FIELDS if hasattr(record, name)}
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
