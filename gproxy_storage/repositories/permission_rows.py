"""The rows of permissions to use models: unique by a lock, and read as one where they are not.

NULLs are distinct in a unique index, and GPROXY does not start beside one that is not its own. So
whoever grants locks the user's row, looks, and inserts what is missing. GPROXY takes no lock: where
it wrote a permission for every provider several times, the row with the lowest id stands for all of
them, and they are deleted together.
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
    """Lock users until the transaction ends: nobody else grants them a permission, or deletes them.

    That there are such users is checked here, too: MySQL 9.6 and later leave out the foreign key's
    check where the provider is NULL, for it is in the index that they choose for that.

    In the order of their ids, so that of two who do so one waits for the other.

    Raises:
        MissingReference: when there is no such user, or no more.
        WriteError: when the transaction would not see what was granted since it began.
    """
    for part in parts(sorted(set(user_ids)), _IDS_A_STATEMENT):
        users = User.select(User.id, SQL(database.isolation)).where(User.id.in_(part))
        query = database.lock_rows(users.order_by(User.id)).tuples()
        locked = list(query)
        if len(locked) < len(part):
            # PostgreSQL waits for a row that is being deleted and does not see the one after it.
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
    """Return the ids of all rows of the permissions that these ids belong to, by the first one."""
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
