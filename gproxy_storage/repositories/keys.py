"""API keys: what users present to the proxy instead of a password."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from functools import partial
from typing import TypedDict, Unpack

from ..encrypted_fields import EncryptedField
from ..models import User, UserKey
from .arguments import KEEP, require_str, require_text
from .base import Change, Repository
from .reading import Filter
from .statements import Select, Slot

PREFIX = "sk-api01-"
"""The prefix of keys that `Keys.create` generates; 32 hex digits follow."""

_KEY_AND_USER = (*UserKey._meta.sorted_fields, *User._meta.sorted_fields)


class KeyFilters(TypedDict, total=False):
    """The filters of API keys."""

    id: Filter[int]
    user_id: Filter[int]
    label: Filter[str | None]
    enabled: Filter[bool]


class Keys(Repository[UserKey]):
    """The API keys of users.

    A key is looked up by its digest; the key itself is a secret column, which can be read only as
    an attribute of a row.

    Deleting a key deletes the rows of files uploaded with it. Usages and requests are kept, without
    the key; after `revoke` they still refer to it.
    """

    model = UserKey
    filters = KeyFilters

    def create(
        self,
        user: User | int,
        *,
        label: str | None = None,
        enabled: bool = True,
        api_key: str | None = None,
    ) -> tuple[UserKey, str]:
        """Create an API key for a user.

        Args:
            api_key: a key to import; by default one is generated.
        Returns:
            The row, and the key in plaintext. Show it now; it is not shown again.
        Raises:
            ConflictError: when the given key exists already.
            MissingReference: when there is no such user.
            InvalidValue: when the given key is blank.
        """
        if api_key is None:
            api_key = f"{PREFIX}{secrets.token_hex(16)}"
        require_text("api_key", api_key)
        key = self._create(user=user, api_key_ciphertext=api_key, label=label, enabled=enabled)
        return key, api_key

    def authenticate(self, api_key: str) -> UserKey | None:
        """Return the key's row with its user, in one query, when both are enabled; else None.

        The rows are read without their secrets, the key itself and the user's password: reading
        these attributes raises ReadError.

        Raises:
            InvalidValue: when the key is not a str.
        """
        return self._look_up(api_key, enabled=True)

    def find(self, api_key: str) -> UserKey | None:
        """Return the key's row with its user, enabled or not; None when there is no such key."""
        return self._look_up(api_key, enabled=False)

    def update(
        self, key_id: int, *, label: Change[str | None] = KEEP, enabled: Change[bool] = KEEP
    ) -> UserKey:
        """Change the given values of a key and return it.

        Raises:
            NotFoundError: when there is no such key.
        """
        return self._update(key_id, {"label": label, "enabled": enabled})

    def enable(self, key_id: int) -> UserKey:
        """Enable a key and return it.

        Raises:
            NotFoundError: when there is no such key.
        """
        return self._update(key_id, {"enabled": True})

    def revoke(self, key_id: int) -> UserKey:
        """Disable a key and return it; its usages still refer to it.

        Raises:
            NotFoundError: when there is no such key.
        """
        return self._update(key_id, {"enabled": False})

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[KeyFilters],
    ) -> list[UserKey]:
        """Return the matching keys by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[KeyFilters]) -> Iterator[UserKey]:
        """Iterate over the matching keys by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[KeyFilters]) -> int:
        """Return the number of matching keys."""
        return self._count(**filters)

    def _look_up(self, api_key: str, *, enabled: bool) -> UserKey | None:
        """Find a key by its possible digests; on a miss, retry once if the keyring has changed."""
        require_str("api_key", api_key)
        manager = self._database.keyring_manager
        keyring = manager.keyring
        found = self._of_digests(keyring.lookup_digests(api_key), enabled)
        if found is None:
            manager.refresh()
            if manager.keyring is not keyring:
                return self._of_digests(manager.keyring.lookup_digests(api_key), enabled)
        return found

    def _of_digests(self, digests: tuple[str, ...], enabled: bool) -> UserKey | None:
        make = partial(key_select, len(digests), enabled=enabled)
        statement = self._statements.get(("digests", len(digests), enabled), make)
        return self._read(partial(statement.first, self._database, digests))


def key_select(digests: int, *, enabled: bool) -> Select[UserKey]:
    """Return the statement that finds a key with its user by one of its possible digests.

    Args:
        digests: their number; they are the parameters.
        enabled: find only an enabled key of an enabled user, without secrets, which authenticating
            does not need in memory.
    """
    slots = [Slot(position) for position in range(digests)]
    fields = [
        field for field in _KEY_AND_USER if not (enabled and isinstance(field, EncryptedField))
    ]
    query = UserKey.select(*fields).join(User).where(UserKey.api_key_digest.in_(slots))
    return Select(query.where(UserKey.enabled, User.enabled) if enabled else query)
