"""What a call sends, on a connection of the driver alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import peewee

from gproxy_storage.backends import Backend


class BareQueries:
    """The statements of a call, recorded once: calling it sends them without Peewee or us.

    Args:
        in_transaction: send BEGIN and COMMIT around them, which are not recorded.
        fetch_rows: fetch so many rows at a time; None fetches all at once.
    """

    def __init__(
        self,
        database: Backend,
        call: Callable[[], object],
        *,
        in_transaction: bool = False,
        fetch_rows: int | None = None,
    ) -> None:
        self._statements: list[tuple[str, Any]] = []
        self._fetch_rows = fetch_rows

        def hook(event: peewee.QueryEvent) -> None:
            self._statements.append((event.sql, event.params))

        database.query_hooks.append(hook)
        try:
            call()
        finally:
            database.query_hooks.remove(hook)
        if in_transaction:
            begin = "BEGIN IMMEDIATE" if database.name == "sqlite" else "BEGIN"
            self._statements = [(begin, ()), *self._statements, ("COMMIT", ())]
        self._connection = database.open_connection()

    def __call__(self) -> None:
        for sql, parameters in self._statements:
            cursor = self._connection.cursor()
            cursor.execute(sql, parameters)
            if cursor.description is None:
                pass
            elif self._fetch_rows is None:
                cursor.fetchall()
            else:
                while cursor.fetchmany(self._fetch_rows):
                    pass
            cursor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._connection.close()
