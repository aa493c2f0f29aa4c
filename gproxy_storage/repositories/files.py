"""Files: those that users uploaded through credentials, and Anthropic's metadata of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from ..errors import InvalidValue
from ..models import ClaudeFile, Credential, Provider, User, UserCredentialFile, UserKey
from .arguments import require_id, require_ids, require_json_object
from .base import Repository, now
from .reading import Filter


class FileFilters(TypedDict, total=False):
    """The filters of users' files."""

    user_id: Filter[int]
    user_key_id: Filter[int]
    provider_id: Filter[int]
    credential_id: Filter[int]
    file_id: Filter[str]
    active: Filter[bool]


class Files(Repository[UserCredentialFile]):
    """The files of users, with the key and the credential of each upload.

    A file that was deleted at the provider is kept as an inactive row.
    """

    model = UserCredentialFile
    filters = FileFilters
    not_blank = ("file_id",)

    def upsert(
        self,
        *,
        user: User | int,
        user_key: UserKey | int,
        provider: Provider | int,
        credential: Credential | int,
        file_id: str,
    ) -> UserCredentialFile:
        """Record a file that a user uploaded; one that was deleted becomes active again.

        `created_at` is kept.

        Args:
            file_id: the provider's id of the file, unique for the user and the provider.
        Raises:
            MissingReference: when there is no such user, key, provider or credential.
            InvalidValue: when the id is blank or too long.
        """
        values = {
            "user": user,
            "user_key": user_key,
            "provider": provider,
            "credential": credential,
            "file_id": file_id,
            "active": True,
            "deleted_at": None,
        }
        return self._create_or_update(values)

    def mark_deleted(self, ids: int | Iterable[int]) -> int:
        """Record that files were deleted at the provider; their rows become inactive.

        Args:
            ids: one or several; an empty list marks nothing.
        Returns:
            Number of files that were active.
        """
        return self._mark_deleted(require_ids("ids", ids))

    def find(
        self, user: User | int, provider: Provider | int, file_id: str
    ) -> UserCredentialFile | None:
        """Return a user's file by the provider's id of it, active or not, or None."""
        return self._find(user=user, provider=provider, file_id=file_id)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[FileFilters],
    ) -> list[UserCredentialFile]:
        """Return the matching files by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[FileFilters]) -> Iterator[UserCredentialFile]:
        """Iterate over the matching files by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[FileFilters]) -> int:
        """Return the number of matching files."""
        return self._count(**filters)

    def _mark_deleted(self, wanted: Sequence[int]) -> int:
        at = now()
        marked = UserCredentialFile.update(active=False, deleted_at=at, updated_at=at)
        return self._write_all(marked.where(UserCredentialFile.active), wanted)


class ClaudeFileFilters(TypedDict, total=False):
    """The filters of Anthropic's metadata of files."""

    provider_id: Filter[int]
    file_id: Filter[str]


class ClaudeFiles(Repository[ClaudeFile]):
    """Anthropic's metadata of files, so that listing them needs no request."""

    model = ClaudeFile
    filters = ClaudeFileFilters
    not_blank = ("file_id",)

    def upsert(
        self,
        provider: Provider | int,
        file_id: str,
        *,
        file_created_at: str,
        filename: str,
        mime_type: str,
        size_bytes: int,
        downloadable: bool | None = None,
        raw: Mapping[str, Any] | None = None,
    ) -> ClaudeFile:
        """Store Anthropic's metadata of a file, replacing what was stored before.

        The row's `created_at` is kept.

        Args:
            file_created_at: as Anthropic sends it; stored as text.
            size_bytes: >= 0.
            raw: the whole response, a JSON object; None means an empty one.
        Raises:
            MissingReference: when there is no such provider.
            InvalidValue: when the id is blank or too long, the size negative, or `raw` not JSON.
        """
        if require_id("size_bytes", size_bytes) < 0:
            raise InvalidValue("size_bytes must be >= 0", argument="size_bytes")
        values = {
            "provider": provider,
            "file_id": file_id,
            "file_created_at": file_created_at,
            "filename": filename,
            "mime_type": mime_type,
            "size_bytes": size_bytes,
            "downloadable": downloadable,
            "raw_json": {} if raw is None else require_json_object("raw", raw),
        }
        return self._create_or_update(values)

    def find(self, provider: Provider | int, file_id: str) -> ClaudeFile | None:
        """Return a provider's file by Anthropic's id of it, or None."""
        return self._find(provider=provider, file_id=file_id)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[ClaudeFileFilters],
    ) -> list[ClaudeFile]:
        """Return the matching files by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[ClaudeFileFilters]) -> Iterator[ClaudeFile]:
        """Iterate over the matching files by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[ClaudeFileFilters]) -> int:
        """Return the number of matching files."""
        return self._count(**filters)
