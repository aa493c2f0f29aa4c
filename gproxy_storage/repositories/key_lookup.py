"""KeyLookup: the query of every request that a proxy serves, rendered once.

Building it anew costs Peewee some 300 us, many times what SQLite takes to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import peewee

from ..backends.base import Backend
from ..models import Table, User, UserKey

M = TypeVar("M", bound=Table)

# Without the secrets: who only asks whether a key may pass needs none of them in memory.
_KEY_FIELDS = tuple(
    field for field in UserKey._meta.sorted_fields if field is not UserKey.api_key_ciphertext
)
_USER_FIELDS = tuple(field for field in User._meta.sorted_fields if field is not User.password)


class KeyLookup:
    """The enabled key of an enabled user by its digest, in one statement.

    Args:
        database: the one that the models are bound to; it has answered once, for SQL differs.
        digests: how many digests a lookup asks for; they are the statement's parameters.
    """

    def __init__(self, database: Backend, digests: int) -> None:
        self._database = database
        query = (
            UserKey.select(*_KEY_FIELDS, *_USER_FIELDS)
            .join(User)
            .where(UserKey.api_key_digest.in_(["digest"] * digests), UserKey.enabled, User.enabled)
        )
        self.sql, self.parameters = query.sql()

    def first(self, digests: Sequence[str]) -> UserKey | None:
        """Return the key with its user, or None. Needs a session."""
        rows = self._database.query(self.sql, digests)
        if not rows:
            return None
        own = len(_KEY_FIELDS)
        user = _row(User, _USER_FIELDS, rows[0][own:])
        return _row(UserKey, _KEY_FIELDS, rows[0][:own], user=user)


def _row(
    model: type[M], fields: Sequence[peewee.Field[Any]], values: Sequence[Any], **related: Table
) -> M:
    """Return a row as Peewee reads one, with its related rows; nothing of it is dirty."""
    columns = {
        field.name: field.python_value(value) for field, value in zip(fields, values, strict=True)
    }
    row = model(__no_default__=1, **{**columns, **related})
    row._dirty.clear()  # type: ignore[attr-defined]  # as Peewee's cursors do; not in its stubs
    return row
