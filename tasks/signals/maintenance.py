"""Maintenance: whether the application is shut on purpose, which is no failure of what it serves."""

from __future__ import annotations

import httpx

from tasks.release.environment import Environment
from tasks.release.prefect_api import is_loopback

TIMEOUT_S = 5.0


def is_shut(environment: Environment) -> bool:
    """Whether the application shows maintenance mode; where a flag switches it, the flag must be set too.

    A proxy whose application is down may answer as maintenance does: the flag tells the two apart.
    """
    switch = environment.maintenance
    if switch is None:
        return False
    if switch.flag_file is not None:
        try:
            lines = switch.flag_file.read_bytes().split(b"\n")
        except OSError:
            return False
        if switch.flag.encode() not in (line.strip() for line in lines):
            return False
    base_url = environment.smoke.base_url
    try:
        with httpx.Client(base_url=base_url, timeout=TIMEOUT_S, trust_env=not is_loopback(base_url)) as client:
            return client.get(switch.check_path).status_code == switch.check_status
    except httpx.HTTPError:
        return False
