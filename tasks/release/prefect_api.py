"""The client of Prefect's REST API. Nothing here imports Prefect, which takes seconds."""

from __future__ import annotations

import ipaddress
import os

import httpx

from tasks.release.errors import ConfigurationError

CONNECT_RETRIES = 3  # of a connection that could not be made; nothing was sent yet


def client(address: str | None = None, *, timeout_s: float = 30) -> httpx.Client:
    """Make a client of a Prefect API, with the password or key of this process's environment.

    The environment variables are Prefect's own: PREFECT_API_URL, and PREFECT_API_AUTH_STRING (a server's password) or
    PREFECT_API_KEY (Prefect Cloud).

    Args:
        address: The API's address; None: the one that PREFECT_API_URL names.
        timeout_s: The longest wait for a connection, and for each part of an answer.

    Raises:
        ConfigurationError: No address is known.
    """
    address = address or os.environ.get("PREFECT_API_URL")
    if not address:
        raise ConfigurationError(
            "no Prefect server is known", hint="`runbook up` starts one; PREFECT_API_URL names another"
        )
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    key = os.environ.get("PREFECT_API_KEY")
    return httpx.Client(
        base_url=address,
        auth=(user, password) if user else None,
        headers={"authorization": f"Bearer {key}"} if key else None,
        timeout=timeout_s,
        trust_env=not is_loopback(address),
        transport=httpx.HTTPTransport(retries=CONNECT_RETRIES),
    )


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own, which no proxy of the environment reaches."""
    host = httpx.URL(address).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def may_pass(error: httpx.HTTPError) -> bool:
    """Tell whether the same request may succeed later: the server was not reached, or is itself in trouble."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error or error.response.status_code == httpx.codes.TOO_MANY_REQUESTS
    return isinstance(error, httpx.TransportError)
