"""Users and their API keys."""

from __future__ import annotations

import secrets

from ..crypto.digests import api_key_digest
from ..crypto.passwords import hash_password, verify_password
from ..models import User, UserKey
from .arguments import require_text
from .base import ANY, Filter, Repository, now


class Users(Repository[User]):
    """The users of the proxy."""

    model = User

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
            name: unique, case counts.
            password: kept as an Argon2id hash; one that is such a hash already is kept as it is.
        Raises:
            ConflictError: when a user with that name exists.
            InvalidValue: when the name is blank or too long, or the password empty.
        """
        hashed = None if password is None else hash_password(require_text("password", password))
        at = now()
        return self._insert(
            name=require_text("name", name),
            password=hashed,
            enabled=enabled,
            is_admin=is_admin,
            created_at=at,
            updated_at=at,
        )

    def get(self, user_id: int) -> User:
        """Return the user with that id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=user_id)

    def find(self, *, name: str) -> User | None:
        """Return the user with that name, or None."""
        return self._find(name=name)

    def list(
        self, *, name: Filter[str] = ANY, enabled: Filter[bool] = ANY, is_admin: Filter[bool] = ANY
    ) -> list[User]:
        """Return the users that fit, by id."""
        return self._list(name=name, enabled=enabled, is_admin=is_admin)

    def count(
        self, *, name: Filter[str] = ANY, enabled: Filter[bool] = ANY, is_admin: Filter[bool] = ANY
    ) -> int:
        """Return how many users fit."""
        return self._count(name=name, enabled=enabled, is_admin=is_admin)

    def authenticate(self, name: str, password: str) -> User | None:
        """Return the user when the name exists, the password fits and the user is enabled.

        An unknown name takes as long as a wrong password.
        """
        user = self.find(name=name)
        fits = verify_password(user.password if user else None, password)
        return user if user is not None and fits and user.enabled else None


class Keys(Repository[UserKey]):
    """The API keys of users."""

    model = UserKey

    def create(self, user: User | int, *, label: str | None = None) -> tuple[UserKey, str]:
        """Create an API key for a user.

        Returns:
            The row, and the key in plaintext: show it now, it is not shown again.
        Raises:
            MissingReference: when there is no such user.
        """
        plaintext = f"sk-api01-{secrets.token_hex(16)}"
        at = now()
        key = self._insert(
            user=user,
            api_key_ciphertext=plaintext,
            api_key_digest=api_key_digest(plaintext),
            label=label,
            enabled=True,
            created_at=at,
            updated_at=at,
        )
        return key, plaintext

    def authenticate(self, api_key: str) -> UserKey | None:
        """Return the key's row with its user, in one query, when both are enabled; else None."""
        digest = api_key_digest(api_key)
        query = (
            UserKey.select(UserKey, User)
            .join(User)
            .where(UserKey.api_key_digest == digest, UserKey.enabled, User.enabled)
        )
        return self._read(query.get_or_none)

    def list(
        self,
        *,
        user_id: Filter[int] = ANY,
        label: Filter[str | None] = ANY,
        enabled: Filter[bool] = ANY,
    ) -> list[UserKey]:
        """Return the keys that fit, by id."""
        return self._list(user_id=user_id, label=label, enabled=enabled)
