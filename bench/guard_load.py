"""Requests of the shop while it is migrated: short statements of a few threads, each timed."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import psycopg

THREADS = 4
PAUSE_S = 0.005
GIVES_UP_S = 5  # as a web application's request does
BUSY_ROWS = 20_000  # the orders that requests are about
_REQUESTS = (
    "SELECT id, status, total FROM shop_order WHERE id = %(id)s",
    "SELECT i.label, o.status FROM shop_item i JOIN shop_order o ON o.id = i.order_id WHERE i.id = %(id)s",
    "UPDATE shop_order SET status = 'busy' WHERE id = %(id)s",
    "INSERT INTO shop_item (order_id, product_id, quantity, label) VALUES (%(id)s, %(id)s, 1, 'load')",
)


class Load:
    """Requests from the start to the end of its block.

    Args:
        connect: Opens a connection in autocommit.
        rows: How many orders there are.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[tuple[Any, ...]]], rows: int) -> None:
        self.connect, self.rows = connect, min(rows, BUSY_ROWS)
        self.failed = 0
        self._took = [0.0] * THREADS
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(THREADS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask no more, and wait for the answers."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def worst_s(self) -> float:
        """The slowest request until now."""
        return max(self._took)

    def _ask(self, number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - the same requests in every way
        with self.connect() as connection:
            connection.execute(f"SET statement_timeout = '{GIVES_UP_S}s'".encode())
            while not self._ended.is_set():
                began = time.monotonic()
                try:
                    connection.execute(chance.choice(_REQUESTS).encode(), {"id": chance.randint(1, self.rows)})
                except psycopg.Error:
                    self.failed += 1
                self._took[number] = max(self._took[number], time.monotonic() - began)
                self._ended.wait(PAUSE_S)
