"""The rows of permissions to use models: kept unique by a lock; duplicates are read as one.

NULLs are distinct in a unique index, and GPROXY does not start if a table has another unique index
than its own. So granting locks the user's row, checks, and inserts what is missing. GPROXY takes no
lock: if it wrote a permission for every provider several times, only the row with the lowest id is
read, and all of them are deleted together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from peewee import SQL, fn

from ..backends.base import Backend
from ..backends.bulk import parts
from ..errors import MissingReference, WriteError
from ..models import User, UserModelPermission

_IDS_A_STATEMENT = 500


def lock_users(database: Backend, user_ids: Iterable[int]) -> None:
    """Lock users until the transaction ends, against other grants and deletion.

    Also checks that they exist: MySQL 9.6 and later skip the foreign key's check if the provider is
    NULL, because the index that they choose for the check contains it.

    In the order of their ids, so that one of two callers waits and they do not deadlock.

    Raises:
        MissingReference: when a user does not exist.
        WriteError: when the transaction would not see permissions granted since it began.
    """
    for part in parts(sorted(set(user_ids)), _IDS_A_STATEMENT):
        users = User.select(User.id, SQL(database.isolation)).where(User.id.in_(part))
        query = database.lock_rows(users.order_by(User.id)).tuples()
        locked = list(query)
        if len(locked) < len(part):
            # PostgreSQL waits for a row that is being deleted, and does not see its replacement.
            locked = list(query.clone())
        if len(locked) < len(part):
            raise MissingReference(
                "user points to a row of users that does not exist", argument="user"
            )
        for _, isolation in locked[:1]:
            _require_read_committed(isolation.replace("-", " ").upper())


def _require_read_committed(isolation: str) -> None:
    if isolation != "READ COMMITTED":
        raise WriteError(
            f"permissions are granted under READ COMMITTED, and this transaction is {isolation}: "
            "it does not see what others granted since it began; grant outside of it, or begin it "
            "without an isolation level"
        )


def is_first(database: Backend) -> Any:
    """Return the condition that no row with a lower id is the same permission."""
    permission, earlier = UserModelPermission, UserModelPermission.alias()
    same = earlier.select(SQL("1")).where(
        earlier.user == permission.user,
        earlier.provider.is_null(),
        database.same_text(earlier.model_pattern, permission.model_pattern),
        earlier.id < permission.id,
    )
    return permission.provider.is_null(False) | ~fn.EXISTS(same)


def rows_of(database: Backend, ids: Sequence[int]) -> dict[int, set[int]]:
    """Return the ids of all rows of the permissions with these ids, by the lowest one."""
    permission, named = UserModelPermission, UserModelPermission.alias()
    for_every_provider = (
        permission.provider.is_null()
        & named.provider.is_null()
        & database.same_text(permission.model_pattern, named.model_pattern)
    )
    same = (permission.user == named.user) & ((permission.id == named.id) | for_every_provider)
    found: dict[int, set[int]] = {}
    for part in parts(ids, _IDS_A_STATEMENT):
        query = named.select(named.id, permission.id).join(permission, on=same)
        pairs: Any = query.where(named.id.in_(part)).tuples()
        for named_id, row_id in pairs:
            found.setdefault(named_id, set()).add(row_id)
    return {min(rows): rows for rows in found.values()}
