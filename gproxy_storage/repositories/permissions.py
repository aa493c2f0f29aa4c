"""Permissions: which models and which providers' files a user may use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, Unpack

import peewee

from ..fields import CharField
from ..models import Provider, Table, User, UserFilePermission, UserModelPermission
from .arguments import require_ids
from .base import Repository
from .patterns import require_pattern
from .permission_rows import is_first, lock_users, rows_of
from .reading import Filter, condition

M = TypeVar("M", bound=Table)


class _Permissions(Repository[M]):
    """A repository of rows that are granted once and never updated."""

    def _revoke(self, **values: Any) -> bool:
        self._check_references(values)
        query = self.model.delete().where(*self._same(values))
        return bool(self._write(query.execute))

    def _same(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the conditions that select the rows of this permission."""
        same_text = self._database.same_text
        return [
            (same_text if isinstance(field, CharField) else condition)(field, values[field.name])
            for field in self._natural_key
        ]


class ModelPermissionFilters(TypedDict, total=False):
    """The filters of permissions to use models.

    Attributes:
        provider_id: None finds those for every provider.
        model_pattern: the pattern as it was granted, not a model that it matches.
    """

    user_id: Filter[int]
    provider_id: Filter[int | None]
    model_pattern: Filter[str]


class ModelPermissions(_Permissions[UserModelPermission]):
    """Which models a user may use: patterns, each for one provider or for every provider."""

    model = UserModelPermission
    filters = ModelPermissionFilters

    def _matching(self, filters: Mapping[str, Any]) -> peewee.ModelSelect[UserModelPermission]:
        return super()._matching(filters).where(is_first(self._database))

    def _upsert(
        self,
        key: Sequence[peewee.Field[Any]],  # noqa: ARG002 - no index covers it
        values: Mapping[str, Any],
        *,
        keep: Collection[str],  # noqa: ARG002 - all is kept
    ) -> UserModelPermission:
        user = values["user"]
        user_id = user if isinstance(user, int) else user.id

        def find() -> UserModelPermission | None:
            lock_users(self._database, [user_id])
            rows = self.model.select().where(*self._same(values)).order_by(self.model.id)
            row: UserModelPermission | None = rows.first()
            return row

        # A conflict is still possible with GPROXY, which takes no lock.
        return self._insert_or_update(find, values, {})

    def _delete(self, ids: int | Iterable[int]) -> int:
        wanted = require_ids("ids", ids)

        def write() -> int:
            rows = rows_of(self._database, wanted)
            deleted = self._write_all(self.model.delete(), list(rows))
            self._write_all(self.model.delete(), list(set().union(*rows.values()) - rows.keys()))
            return deleted

        return self._write(write) if wanted else 0

    def delete_all(self) -> int:
        """Delete all permissions to use models; return how many there were."""

        def write() -> int:
            permissions = self._select().count()
            self.model.delete().execute()
            return int(permissions)

        return self._write(write)

    def grant(
        self, user: User | int, model_pattern: str, *, provider: Provider | int | None = None
    ) -> UserModelPermission:
        """Let a user use the models that a pattern matches; an existing permission is kept.

        Each permission is stored once, even if it is granted several times concurrently.

        Args:
            model_pattern: a model, ``x*``, ``*x`` or ``*``; case-sensitive.
            provider: None means every provider, which is a separate permission: it neither
                replaces nor includes those for one provider.
        Raises:
            MissingReference: when there is no such user or provider.
            InvalidValue: when the pattern is blank, too long, or has a ``*`` inside.
            WriteError: inside a transaction that was begun with an isolation level other than
                READ COMMITTED.
        """
        require_pattern("model_pattern", model_pattern)
        return self._create_or_update(
            {"user": user, "provider": provider, "model_pattern": model_pattern}
        )

    def revoke(
        self, user: User | int, model_pattern: str, *, provider: Provider | int | None = None
    ) -> bool:
        """Remove the permission that `grant` with these arguments adds; False if there is none.

        Other patterns may still let the user use the same models.
        """
        return self._revoke(user=user, provider=provider, model_pattern=model_pattern)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[ModelPermissionFilters],
    ) -> list[UserModelPermission]:
        """Return the matching permissions by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[ModelPermissionFilters]) -> Iterator[UserModelPermission]:
        """Iterate over the matching permissions by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[ModelPermissionFilters]) -> int:
        """Return the number of matching permissions."""
        return self._count(**filters)


class FilePermissionFilters(TypedDict, total=False):
    """The filters of permissions to use files."""

    user_id: Filter[int]
    provider_id: Filter[int]


class FilePermissions(_Permissions[UserFilePermission]):
    """Which providers' files a user may use."""

    model = UserFilePermission
    filters = FilePermissionFilters

    def grant(self, user: User | int, provider: Provider | int) -> UserFilePermission:
        """Let a user use a provider's files; an existing permission is kept.

        Raises:
            MissingReference: when there is no such user or provider.
        """
        return self._create_or_update({"user": user, "provider": provider})

    def revoke(self, user: User | int, provider: Provider | int) -> bool:
        """Remove the permission that `grant` adds; False if there is none."""
        return self._revoke(user=user, provider=provider)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[FilePermissionFilters],
    ) -> list[UserFilePermission]:
        """Return the matching permissions by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[FilePermissionFilters]) -> Iterator[UserFilePermission]:
        """Iterate over the matching permissions by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[FilePermissionFilters]) -> int:
        """Return the number of matching permissions."""
        return self._count(**filters)
