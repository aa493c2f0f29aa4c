"""Files: what users uploaded through credentials, and what Anthropic says of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..errors import InvalidValue
from ..models import ClaudeFile, Credential, Provider, User, UserCredentialFile, UserKey
from .arguments import require_id, require_ids, require_json_object, require_reference
from .base import ANY, Filter, Repository, now


class Files(Repository[UserCredentialFile]):
    """The files of users: through which key and credential each was uploaded.

    A file that was deleted at the provider stays as a row that is not active.
    """

    model = UserCredentialFile
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
        """Note a file that a user uploaded; one that was deleted is active again.

        `created_at` survives.

        Args:
            file_id: the provider's id of the file, unique for the user and the provider.
        Raises:
            MissingReference: when there is no such user, key, provider or credential.
            InvalidValue: when the id is blank or too long.
        """
        at = now()
        values = {
            "user": require_reference("user", user, User),
            "user_key": require_reference("user_key", user_key, UserKey),
            "provider": require_reference("provider", provider, Provider),
            "credential": require_reference("credential", credential, Credential),
            "file_id": file_id,
            "active": True,
            "created_at": at,
            "updated_at": at,
            "deleted_at": None,
        }
        file = UserCredentialFile
        return self._upsert([file.user, file.provider, file.file_id], values)

    def mark_deleted(self, ids: int | Iterable[int]) -> int:
        """Note that files are gone at the provider; the rows stay, no longer active.

        Args:
            ids: one or several; an empty list marks nothing.
        Returns:
            Number of files that were active until now.
        """
        return self._mark_deleted(require_ids("ids", ids))

    def get(self, row_id: int) -> UserCredentialFile:
        """Return the file with that row's id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=row_id)

    def find(
        self, user: User | int, provider: Provider | int, file_id: str
    ) -> UserCredentialFile | None:
        """Return a user's file by the provider's id of it, active or not, or None."""
        return self._find(
            user=require_reference("user", user, User),
            provider=require_reference("provider", provider, Provider),
            file_id=file_id,
        )

    def list(
        self,
        *,
        user_id: Filter[int] = ANY,
        user_key_id: Filter[int] = ANY,
        provider_id: Filter[int] = ANY,
        credential_id: Filter[int] = ANY,
        file_id: Filter[str] = ANY,
        active: Filter[bool] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[UserCredentialFile]:
        """Return the files that fit, by id: the first `limit` after `after_id`."""
        return self._list(
            after_id=after_id,
            limit=limit,
            user_id=user_id,
            user_key_id=user_key_id,
            provider_id=provider_id,
            credential_id=credential_id,
            file_id=file_id,
            active=active,
        )

    def iter(
        self,
        *,
        user_id: Filter[int] = ANY,
        user_key_id: Filter[int] = ANY,
        provider_id: Filter[int] = ANY,
        credential_id: Filter[int] = ANY,
        file_id: Filter[str] = ANY,
        active: Filter[bool] = ANY,
    ) -> Iterator[UserCredentialFile]:
        """Return the files that fit, by id, read as they are asked for."""
        return self._iter(
            user_id=user_id,
            user_key_id=user_key_id,
            provider_id=provider_id,
            credential_id=credential_id,
            file_id=file_id,
            active=active,
        )

    def count(
        self,
        *,
        user_id: Filter[int] = ANY,
        user_key_id: Filter[int] = ANY,
        provider_id: Filter[int] = ANY,
        credential_id: Filter[int] = ANY,
        file_id: Filter[str] = ANY,
        active: Filter[bool] = ANY,
    ) -> int:
        """Return how many files fit."""
        return self._count(
            user_id=user_id,
            user_key_id=user_key_id,
            provider_id=provider_id,
            credential_id=credential_id,
            file_id=file_id,
            active=active,
        )

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete the rows of files; return how many. An empty list deletes nothing."""
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete the rows of every file; return how many there were."""
        return self._delete_all()

    def _mark_deleted(self, wanted: Sequence[int]) -> int:
        at = now()
        marked = UserCredentialFile.update(active=False, deleted_at=at, updated_at=at)
        return self._write_all(marked.where(UserCredentialFile.active), wanted)


class ClaudeFiles(Repository[ClaudeFile]):
    """What Anthropic says of files, so that listing them asks nobody."""

    model = ClaudeFile
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
        """Store what Anthropic says of a file, in place of what it said before.

        `created_at`, the row's own, survives.

        Args:
            file_created_at: as Anthropic writes it; kept as text.
            size_bytes: >= 0.
            raw: the whole answer, a JSON object; None is the empty one.
        Raises:
            MissingReference: when there is no such provider.
            InvalidValue: when the id is blank or too long, the size negative, or `raw` not JSON.
        """
        if require_id("size_bytes", size_bytes) < 0:
            raise InvalidValue("size_bytes must be >= 0", argument="size_bytes")
        at = now()
        values = {
            "provider": require_reference("provider", provider, Provider),
            "file_id": file_id,
            "file_created_at": file_created_at,
            "filename": filename,
            "mime_type": mime_type,
            "size_bytes": size_bytes,
            "downloadable": downloadable,
            "raw_json": {} if raw is None else require_json_object("raw", raw),
            "created_at": at,
            "updated_at": at,
        }
        return self._upsert([ClaudeFile.provider, ClaudeFile.file_id], values)

    def get(self, row_id: int) -> ClaudeFile:
        """Return the file with that row's id.

        Raises:
            NotFoundError: when there is none.
        """
        return self._get(id=row_id)

    def find(self, provider: Provider | int, file_id: str) -> ClaudeFile | None:
        """Return a provider's file by Anthropic's id of it, or None."""
        owner = require_reference("provider", provider, Provider)
        return self._find(provider=owner, file_id=file_id)

    def list(
        self,
        *,
        provider_id: Filter[int] = ANY,
        file_id: Filter[str] = ANY,
        after_id: int | None = None,
        limit: int | None = None,
    ) -> list[ClaudeFile]:
        """Return the files that fit, by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, provider_id=provider_id, file_id=file_id)

    def iter(
        self, *, provider_id: Filter[int] = ANY, file_id: Filter[str] = ANY
    ) -> Iterator[ClaudeFile]:
        """Return the files that fit, by id, read as they are asked for."""
        return self._iter(provider_id=provider_id, file_id=file_id)

    def count(self, *, provider_id: Filter[int] = ANY, file_id: Filter[str] = ANY) -> int:
        """Return how many files fit."""
        return self._count(provider_id=provider_id, file_id=file_id)

    def delete(self, ids: int | Iterable[int]) -> int:
        """Delete the rows of files; return how many. An empty list deletes nothing."""
        return self._delete(ids)

    def delete_all(self) -> int:
        """Delete the rows of every file; return how many there were."""
        return self._delete_all()
