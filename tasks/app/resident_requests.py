# mypy: ignore-errors
# Runs inside the application's interpreter: Python >= 3.6, which has no lazy annotations, and Django without stubs.
"""Send requests through Django's handler, middleware included, without a server."""

import contextlib
import itertools
import re
import time

from django.db import connections
from django.test import Client

HEAD = 300  # characters of an answer
PARTS = 10  # of a streamed answer, which may have no end
NAMED = re.compile(r'\b(?:from|join|into|update)\s+(?:only\s+)?(?:"?\w+"?\.)?"?(\w+)"?', re.IGNORECASE)


def answers(request, problem):
    """How each (method, path) was answered."""
    client = Client(raise_request_exception=False, HTTP_HOST=request["host"])
    return [one(client, method, path, request["secure"], problem) for method, path in request["endpoints"]]


def one(client, method, path, secure, problem):
    """How one request was answered."""
    began, status, head, error, route, relations = time.monotonic(), None, "", None, "", set()
    try:
        with relations_noted(relations):
            response = client.generic(method, path, secure=secure)
            parts = response.streaming_content if response.streaming else [response.content]
            head = b"".join(itertools.islice(parts, PARTS)).decode("utf-8", "replace")[:HEAD]
        status = response.status_code
        route = getattr(getattr(response, "resolver_match", None), "route", None) or ""
        caught = getattr(response, "exc_info", None)
        error = problem(caught[1]) if caught else None
        response.close()
    except Exception as caught:  # noqa: BLE001 - it is the answer
        error = problem(caught)
    told = error and "{}: {}".format(error["type"].rpartition(".")[2], error["message"])
    return {
        "what": f"{method} {path}",
        "status": status,
        "head": head,
        "error": told,
        "seconds": time.monotonic() - began,
        "route": route,
        "relations": sorted(relations),
    }


@contextlib.contextmanager
def relations_noted(relations):
    """Add the relations that statements name to a set."""

    def note(execute, sql, params, many, context):
        relations.update(NAMED.findall(str(sql)))
        return execute(sql, params, many, context)

    with contextlib.ExitStack() as wrapped:
        for connection in connections.all():
            wrapped.enter_context(connection.execute_wrapper(note))
        yield
