"""What a call sends, on a connection of the driver alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import peewee

from gproxy_storage.backends import Backend


class BareQueries:
    """The statements of a call, recorded once: calling it sends them without Peewee or us."""

    def __init__(self, database: Backend, call: Callable[[], object]) -> None:
        self._statements: list[tuple[str, Any]] = []

        def hook(event: peewee.QueryEvent) -> None:
            self._statements.append((event.sql, event.params))

        database.query_hooks.append(hook)
        try:
            call()
        finally:
            database.query_hooks.remove(hook)
        self._connection = database.open_connection()

    def __call__(self) -> None:
        for sql, parameters in self._statements:
            cursor = self._connection.cursor()
            cursor.execute(sql, parameters)
            cursor.fetchall()
            cursor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._connection.close()
