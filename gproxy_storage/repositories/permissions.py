"""Permissions: which models and which providers' files a user may use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import peewee

from ..fields import CharField
from ..models import Provider, Table, User, UserFilePermission, UserModelPermission
from .arguments import require_ids, require_reference
from .base import ANY, Filter, Repository, condition, now
from .patterns import require_pattern
from .permission_rows import is_first, lock_users, rows_of

M = TypeVar("M", bound=Table)


class _Permissions(Repository[M]):
    """Rows that say no more than that they exist: granted once, then left as they are.

    Attributes:
        key: the fields that make two rows the same permission.
    """

    key: ClassVar[Sequence[peewee.Field[Any]]]

    def _revoke(self, **values: Any) -> bool:
        query = self.model.delete().where(*self._same(values))
        return bool(self._write(query.execute))

    def _same(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the conditions that rows of this permission fit."""
        same_text = self._database.same_text
        return [
            (same_text if isinstance(field, CharField) else condition)(field, values[field.name])
            for field in self.key
        ]


class ModelPermissions(_Permissions[UserModelPermission]):
    """Which models a user may use: patterns, each for one provider or for every provider."""

    model = UserModelPermission
    key = (
        UserModelPermission.user,
        UserModelPermission.provider,
        UserModelPermission.model_pattern,
    )

    def _select(self, **filters: Any) -> peewee.ModelSelect[UserModelPermission]:
        return super()._select(**filters).where(is_first(self._database))

    def _upsert(
        self,
        key: Sequence[peewee.Field[Any]],  # noqa: ARG002 - no index covers it
        values: Mapping[str, Any],
        *,
        keep: Collection[str] = (),  # noqa: ARG002 - all is kept
    ) -> UserModelPermission:
        user = values["user"]
        user_id = user if isinstance(user, int) else user.id

        def find() -> UserModelPermission | None:
            lock_users(self._database, [user_id])
            rows = self.model.select().where(*self._same(values)).order_by(self.model.id)
            row: UserModelPermission | None = rows.first()
            return row

        # A conflict all the same is with GPROXY, which takes no lock.
        return self._insert_or_update(find, values, {})

    def _delete(self, ids: int | Iterable[int]) -> int:
        wanted = require_ids("ids", ids)

        def write() -> int:
            rows = rows_of(self._database, wanted)
            deleted = self._write_all(self.model.delete(), list(rows))
            self._write_all(self.model.delete(), list(set().union(*rows.values()) - rows.keys()))
            return deleted

        return self._write(write) if wanted else 0

    def _delete_all(self) -> int:
        def write() -> int:
            permissions = self._select().count()
            self.model.delete().execute()
            return int(permissions)

        return self._write(write)

    def grant(
        self, user: User | int, model_pattern: str, *, provider: Provider | int | None = None
    ) -> UserModelPermission:
        """Let a user use the models that a pattern fits; one that stands already is left as it is.

        Whoever grants at the same time, each permission is stored once.

        Args:
            model_pattern: a model, ``x*``, ``*x`` or ``*``; case counts.
            provider: None is every provider, and a permission of its own: it neither replaces nor
                contains those for one provider.
        Raises:
            MissingReference: when there is no such user or provider.
            InvalidValue: when the pattern is blank, too long, or has a ``*`` inside.
            WriteError: inside a transaction that was begun under another isolation than READ
                COMMITTED.
        """
        values = {
            "user": require_reference("user", user, User),
            "provider": _provider(provider),
            "model_pattern": require_pattern("model_pattern", model_pattern),
            "created_at": now(),
        }
        return self._upsert(self.key, values)

    def revoke(
        self, user: User | int, model_pattern: str, *, provider: Provider | int | None = None
    ) -> bool:
        """Take back exactly what `grant` with these arguments gave; False when that was nothing.

        Other patterns may still let the user use the same models.
        """
        return self._revoke(
            user=require_reference("user", user, User),
            provider=_provider(provider),
            model_pattern=model_pattern,
        )

    def list(
        self,
        *,
        user_id: Filter[int] = ANY,
        provider_id: Filter[int | None] = ANY,
        model_pattern: Filter[str] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[UserModelPermission]:
        """Return the permissions that fit, by id: the first `limit` after `after_id`.

        Args:
            provider_id: None finds those for every provider.
            model_pattern: the pattern as it was granted, not a model that it fits.
        """
        return self._list(
            after_id=after_id,
            limit=limit,
            user_id=user_id,
            provider_id=provider_id,
            model_pattern=model_pattern,
        )

    def iter(
        self,
        *,
        user_id: Filter[int] = ANY,
        provider_id: Filter[int | None] = ANY,
        model_pattern: Filter[str] = ANY,
    ) -> Iterator[UserModelPermission]:
        """Return the permissions that fit, by id, read as they are asked for."""
        return self._iter(user_id=user_id, provider_id=provider_id, model_pattern=model_pattern)

    def count(
        self,
        *,
        user_id: Filter[int] = ANY,
        provider_id: Filter[int | None] = ANY,
        model_pattern: Filter[str] = ANY,
    ) -> int:
        """Return how many permissions fit."""
        return self._count(user_id=user_id, provider_id=provider_id, model_pattern=model_pattern)

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete permissions; return how many. An empty list deletes nothing."""
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete every permission to use models; return how many there were."""
        return self._delete_all()


class FilePermissions(_Permissions[UserFilePermission]):
    """Which providers' files a user may use."""

    model = UserFilePermission
    key = (UserFilePermission.user, UserFilePermission.provider)

    def _upsert(
        self,
        key: Sequence[peewee.Field[Any]],
        values: Mapping[str, Any],
        *,
        keep: Collection[str] = (),  # noqa: ARG002 - all is kept
    ) -> UserFilePermission:
        # Nothing changes, but DO NOTHING of MySQL, INSERT IGNORE, would swallow other errors.
        return super()._upsert(key, values, keep=values.keys())

    def grant(self, user: User | int, provider: Provider | int) -> UserFilePermission:
        """Let a user use a provider's files; a permission that stands already is left as it is.

        Raises:
            MissingReference: when there is no such user or provider.
        """
        values = {
            "user": require_reference("user", user, User),
            "provider": require_reference("provider", provider, Provider),
            "created_at": now(),
        }
        return self._upsert(self.key, values)

    def revoke(self, user: User | int, provider: Provider | int) -> bool:
        """Take back what `grant` gave; False when that was nothing."""
        return self._revoke(
            user=require_reference("user", user, User),
            provider=require_reference("provider", provider, Provider),
        )

    def list(
        self,
        *,
        user_id: Filter[int] = ANY,
        provider_id: Filter[int] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[UserFilePermission]:
        """Return the permissions that fit, by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, user_id=user_id, provider_id=provider_id)

    def iter(
        self, *, user_id: Filter[int] = ANY, provider_id: Filter[int] = ANY
    ) -> Iterator[UserFilePermission]:
        """Return the permissions that fit, by id, read as they are asked for."""
        return self._iter(user_id=user_id, provider_id=provider_id)

    def count(self, *, user_id: Filter[int] = ANY, provider_id: Filter[int] = ANY) -> int:
        """Return how many permissions fit."""
        return self._count(user_id=user_id, provider_id=provider_id)

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete permissions; return how many. An empty list deletes nothing."""
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete every permission to use files; return how many there were."""
        return self._delete_all()


def _provider(provider: Provider | int | None) -> Provider | int | None:
    return None if provider is None else require_reference("provider", provider, Provider)
