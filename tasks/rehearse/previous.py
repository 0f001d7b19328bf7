"""The previous release on the migrated copy: which of its queries and requests fail there that worked before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from tasks.app.residence import Requested, Residence, Used
from tasks.release.environment import Endpoint, Environment
from tasks.release.rehearsal import Broken


class Verdict(NamedTuple):
    """What the previous release says about a migration."""

    broken: tuple[Broken, ...]
    unsure: tuple[str, ...]  # worked before, and can no longer be tried: a sentence each

    @property
    def compatible(self) -> bool | None:
        """Whether it can go on as before; None: not all could be found out."""
        if self.broken:
            return False
        return None if self.unsure else True


class Previous:
    """Its queries, of which those that failed before the first migration, or after an earlier one, do not count again.

    Args:
        app: Its resident.
    """

    def __init__(self, app: Residence) -> None:
        self.app = app
        # What a migration breaks is told once, with that migration.
        self._known = {used.what for used in app.use() if used.error is not None}

    def after(self, tables: Collection[str] | None) -> Verdict:
        """What cannot be done any more since it was last asked.

        Args:
            tables: Only queries of models on these tables, or related to them; none: all.
        """
        failing = [used for used in self.app.use(_sorted(tables)) if used.error is not None and self._is_new(used)]
        self._known |= {used.what for used in failing}
        return Verdict(
            tuple(_broken(used.what, used.query, used.error) for used in failing if not used.inconclusive),
            tuple(f"{used.what} worked before: {used.error}" for used in failing if used.inconclusive),
        )

    def _is_new(self, used: Used) -> bool:
        return used.what not in self._known


class Answers(NamedTuple):
    """What the smoke test's requests came to."""

    unexpected: dict[str, Requested]  # not answered with the status they should have, by what they ask
    routes: dict[str, tuple[str, ...]]  # path, and route, of each other one: the relations that it named


def answers(environment: Environment, app: Residence, endpoints: Sequence[Endpoint]) -> Answers:
    """Send requests of the smoke test to a release."""
    place = urlsplit(environment.smoke.base_url)
    found = app.requests(endpoints, place.netloc, secure=place.scheme == "https")
    unexpected: dict[str, Requested] = {}
    routes: dict[str, tuple[str, ...]] = {}
    for endpoint, answer in zip(endpoints, found, strict=True):
        if answer.status != endpoint.status:
            unexpected[answer.what] = answer
            continue
        for name in (urlsplit(endpoint.path).path, f"/{answer.route.lstrip('/')}" if answer.route else ""):
            if name:
                routes[name] = tuple(sorted({*routes.get(name, ()), *answer.relations}))
    return Answers(unexpected, routes)


def broken_requests(before: dict[str, Requested], after: dict[str, Requested]) -> tuple[Broken, ...]:
    """Requests that are answered otherwise on the migrated copy than on one that was not migrated."""
    return tuple(
        _broken(what, what, answer.error or f"status {answer.status}")  # not its body, which may hold rows
        for what, answer in after.items()
        if what not in before or before[what].status != answer.status
    )


def needed(before: Sequence[Used], after: Sequence[Used]) -> tuple[Broken, ...] | None:
    """What a release cannot do before its migrations, and can do after them; None: not all could be found out."""
    fails_anyway = {used.what for used in after if used.error is not None}
    failing = [used for used in before if used.error is not None and used.what not in fails_anyway]
    if any(used.inconclusive for used in failing):
        return None
    return tuple(_broken(used.what, used.query, used.error) for used in failing)


def _broken(what: str, query: str, error: str | None) -> Broken:
    return Broken(what=what, query=query, error=error or "")


def _sorted(tables: Collection[str] | None) -> list[str] | None:
    return None if tables is None else sorted(tables)
