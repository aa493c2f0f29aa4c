"""API keys: what users present to the proxy instead of a password."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from ..backends.base import Backend
from ..models import User, UserKey
from ..vault import Vault
from .arguments import require_reference, require_str, require_text
from .base import ANY, KEEP, Change, Filter, Repository, now
from .key_lookup import KeyLookup

PREFIX = "sk-api01-"
"""How the keys begin that `Keys.create` makes; 32 hex digits follow."""


class Keys(Repository[UserKey]):
    """The API keys of users.

    A key is looked up by its digest; the key itself is a secret column, read only as an attribute
    of a row.
    """

    model = UserKey

    def __init__(self, database: Backend) -> None:
        super().__init__(database)
        self._lookups: dict[int, KeyLookup] = {}

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
            api_key: a key made elsewhere, to be imported; where absent one is made.
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
        at = now()
        key = self._insert(
            user=require_reference("user", user, User),
            api_key_ciphertext=api_key,
            label=label,
            enabled=enabled,
            created_at=at,
            updated_at=at,
        )
        return key, api_key

    def authenticate(self, api_key: str) -> UserKey | None:
        """Return the key's row with its user, in one query, when both are enabled; else None.

        The rows come without their secrets, the key itself and the user's password: asking for
        them here is a ReadError.

        Raises:
            InvalidValue: when the key is no str.
        """
        return self._look_up(api_key, self._find_enabled)

    def find(self, api_key: str) -> UserKey | None:
        """Return the key's row with its user, enabled or not; None when there is no such key."""

        def find(digests: tuple[str, ...]) -> UserKey | None:
            query = (
                UserKey.select(UserKey, User).join(User).where(UserKey.api_key_digest.in_(digests))
            )
            return self._read(query.get_or_none)

        return self._look_up(api_key, find)

    def update(
        self, key_id: int, *, label: Change[str | None] = KEEP, enabled: Change[bool] = KEEP
    ) -> UserKey:
        """Change what is given of a key and return it.

        Raises:
            NotFoundError: when there is no such key.
        """
        return self._update(key_id, {"label": label, "enabled": enabled})

    def enable(self, key_id: int) -> UserKey:
        """Let a key be used, and return it.

        Raises:
            NotFoundError: when there is no such key.
        """
        return self._update(key_id, {"enabled": True})

    def revoke(self, key_id: int) -> UserKey:
        """Disable a key, and return it; its usages go on to name it.

        Raises:
            NotFoundError: when there is no such key.
        """
        return self._update(key_id, {"enabled": False})

    def get(self, key_id: int) -> UserKey:
        """Return the key with that id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=key_id)

    def list(
        self,
        *,
        id: Filter[int] = ANY,
        user_id: Filter[int] = ANY,
        label: Filter[str | None] = ANY,
        enabled: Filter[bool] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[UserKey]:
        """Return the keys that fit, by id: the first `limit` after `after_id`."""
        return self._list(
            after_id=after_id, limit=limit, id=id, user_id=user_id, label=label, enabled=enabled
        )

    def iter(
        self,
        *,
        id: Filter[int] = ANY,
        user_id: Filter[int] = ANY,
        label: Filter[str | None] = ANY,
        enabled: Filter[bool] = ANY,
    ) -> Iterator[UserKey]:
        """Return the keys that fit, by id, read as they are asked for."""
        return self._iter(id=id, user_id=user_id, label=label, enabled=enabled)

    def count(
        self,
        *,
        id: Filter[int] = ANY,
        user_id: Filter[int] = ANY,
        label: Filter[str | None] = ANY,
        enabled: Filter[bool] = ANY,
    ) -> int:
        """Return how many keys fit."""
        return self._count(id=id, user_id=user_id, label=label, enabled=enabled)

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete keys with the files uploaded by them; return how many.

        Usages and requests stay, without the key: `revoke` keeps whose they were. An empty list
        deletes nothing.
        """
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete every key, as `delete` does; return how many there were."""
        return self._delete_all()

    def _find_enabled(self, digests: tuple[str, ...]) -> UserKey | None:
        lookup = self._lookups.get(len(digests))
        if lookup is None:
            lookup = self._lookups[len(digests)] = KeyLookup(self._database, len(digests))
        return self._read(partial(lookup.first, digests))

    def _look_up(
        self, api_key: str, find: Callable[[tuple[str, ...]], UserKey | None]
    ) -> UserKey | None:
        """Find by the digests that a key may have; again on a miss, if the keyring had changed."""
        require_str("api_key", api_key)
        vault: Vault = self._database.vault
        keyring = vault.keyring
        found = find(keyring.lookup_digests(api_key))
        if found is None:
            vault.refresh()
            if vault.keyring is not keyring:
                return find(vault.keyring.lookup_digests(api_key))
        return found
