"""Users: who may use the proxy, and their passwords."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, TypedDict, Unpack

from ..backends.base import Backend
from ..crypto.passwords import hash_password, hash_problem, is_hash, verify_password
from ..errors import CryptoError, InvalidValue
from ..models import User
from .arguments import KEEP, require_str, require_text
from .base import Change, Repository
from .reading import Filter

_log = logging.getLogger(__name__)


class UserFilters(TypedDict, total=False):
    """The filters of users."""

    id: Filter[int]
    name: Filter[str]
    enabled: Filter[bool]
    is_admin: Filter[bool]


class Users(Repository[User]):
    """The users of the proxy.

    A password is stored as an Argon2id hash; one that is already an Argon2 hash is stored as it is,
    or refused with InvalidValue if it needs over 256 MiB, 10 passes or 8 lanes. The hash can be
    read as an attribute of a row, but not filtered by.

    Deleting a user deletes their keys, quotas, limits, permissions and files. Usages and requests
    are kept, without the user.
    """

    model = User
    filters = UserFilters
    not_blank = ("name",)

    def __init__(self, database: Backend) -> None:
        super().__init__(database)
        self._reported: set[int] = set()

    def create(
        self,
        name: str,
        *,
        password: str | None = None,
        enabled: bool = True,
        is_admin: bool = False,
    ) -> User:
        """Create a user; without a password they cannot log in, only use API keys.

        Args:
            name: unique, case-sensitive.
        Raises:
            ConflictError: when a user with that name exists.
            InvalidValue: when the name is blank or too long, or the password blank.
        """
        require_text("name", name)
        return self._create(name=name, password=_hash(password), enabled=enabled, is_admin=is_admin)

    def upsert(
        self,
        name: str,
        *,
        password: Change[str | None] = KEEP,
        enabled: bool = True,
        is_admin: bool = False,
    ) -> User:
        """Create the user with that name, or replace its values; `created_at` is kept.

        Args:
            password: as in `update`; a user created without one has none. By default, an existing
                user keeps their hash.
        Raises:
            InvalidValue: when the name is blank or too long, or the password blank.
        """
        require_text("name", name)
        # Read only if its hash is needed: a batch of a thousand users would read each.
        user = self.find(name=name) if isinstance(password, str) else None
        changed = _changed_hash(user, password)
        changes: dict[str, Any] = {"enabled": enabled, "is_admin": is_admin}
        if changed is not KEEP:
            changes["password"] = changed
        # Also for a new row: the user may be deleted before this is written.
        kept = user.password if changed is KEEP and user is not None and password else None
        return self._insert_or_update(
            lambda: self._first(name=name),
            self._prepared({"name": name, "password": kept, **changes}),
            changes,
        )

    def update(
        self,
        user_id: int,
        *,
        name: Change[str] = KEEP,
        password: Change[str | None] = KEEP,
        enabled: Change[bool] = KEEP,
        is_admin: Change[bool] = KEEP,
    ) -> User:
        """Change the given values of a user and return it.

        Args:
            password: None removes it. An empty one, the current one, or its hash as stored leaves
                the hash unchanged.
        Raises:
            NotFoundError: when there is no such user.
            ConflictError: when another user has that name.
            InvalidValue: when the name is blank or too long, or the password blank.
        """
        changes: dict[str, Any] = {"name": name, "enabled": enabled, "is_admin": is_admin}
        if password is not KEEP:
            # Before the transaction, which would hold its locks while hashing.
            changes["password"] = _changed_hash(self.get(user_id), password)
        return self._update(user_id, changes)

    def authenticate(self, name: str, password: str) -> User | None:
        """Return the user if the name exists, the password is right and the user is enabled.

        An unknown name takes as long as a wrong password, whatever is stored. If another program
        stored a hash with parameters that are not accepted, it is logged once and never matches.

        Raises:
            InvalidValue: when the name or the password is not a str.
        """
        require_str("name", name)
        require_str("password", password)
        try:
            user = self.find(name=name)
        except InvalidValue:  # no user has such a name
            user = None
        stored = user.password if user else None
        fits = verify_password(stored, password)
        if user is not None and stored is not None:
            self._report(user, stored)
        return user if user is not None and fits and user.enabled else None

    def _report(self, user: User, stored: str) -> None:
        problem = hash_problem(stored)
        if problem and user.id not in self._reported:
            self._reported.add(user.id)
            _log.warning(
                "the password of user %r (id %d) is a hash %s: it never matches; set a password",
                user.name,
                user.id,
                problem,
            )

    def find(self, *, name: str) -> User | None:
        """Return the user with that name, or None."""
        return self._find(name=name)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[UserFilters],
    ) -> list[User]:
        """Return the matching users by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[UserFilters]) -> Iterator[User]:
        """Iterate over the matching users by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[UserFilters]) -> int:
        """Return the number of matching users."""
        return self._count(**filters)


def _hash(password: str | None) -> str | None:
    return None if password is None else hash_password(require_text("password", password))


def _changed_hash(user: User | None, password: Change[str | None]) -> Change[str | None]:
    """Return the new hash of a user's password, or KEEP."""
    if password is KEEP or password is None:
        return password
    if user is None:
        return _hash(password)
    if password == "":
        return KEEP
    require_text("password", password)
    if is_hash(password):
        hash_password(password)  # refuse an unacceptable one before computing any
    try:
        stored = user.password
    except CryptoError:  # it cannot be opened, but it can be replaced
        stored = None
    # A given hash is stored as it is, so giving the stored one changes nothing.
    return KEEP if verify_password(stored, password) else hash_password(password)
