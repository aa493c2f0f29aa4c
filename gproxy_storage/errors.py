"""The errors of this package: one root, details as attributes, never a secret in a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StorageError(Exception):
    """The base of every error of this package. Never raised itself."""


class ConfigError(StorageError):
    """A setting is missing, contradictory or unreadable.

    Attributes:
        setting: the name of the setting at fault, for example ``GPROXY_CONFIG``.
    """

    def __init__(self, message: str, *, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class DSNError(ConfigError):
    """A DSN cannot be used.

    Attributes:
        part: the part at fault, for example ``port`` or ``parameter 'sslmode'``.
        dsn: the DSN with its password masked, or None where it could not be split safely.
    """

    def __init__(
        self, message: str, *, part: str, dsn: str | None = None, setting: str | None = None
    ) -> None:
        super().__init__(message, setting=setting)
        self.part = part
        self.dsn = dsn


class SecretError(ConfigError):
    """``DATABASE_SECRET_KEY`` or its file cannot be used."""


class ConnectError(StorageError):
    """The database cannot be reached, or a connection to it was lost.

    Attributes:
        dsn: the DSN with its password masked.
    """

    def __init__(self, message: str, *, dsn: str | None = None) -> None:
        super().__init__(message)
        self.dsn = dsn


class PoolTimeout(StorageError):  # noqa: N818 - as psycopg_pool calls it
    """No pooled connection became free in time.

    Attributes:
        timeout_s: how long the caller waited, in seconds.
        max_connections: the pool's size.
    """

    def __init__(self, message: str, *, timeout_s: float, max_connections: int) -> None:
        super().__init__(message)
        self.timeout_s = timeout_s
        self.max_connections = max_connections


class SchemaError(StorageError):
    """The database's schema is not one that this package can use."""


class IncompatibleSchema(SchemaError):  # noqa: N818 - its name says what is wrong
    """The live schema differs from the models in a way that sync must not change.

    Attributes:
        drift: one line for each difference.
    """

    def __init__(self, message: str, *, drift: Sequence[str]) -> None:
        super().__init__(message)
        self.drift = tuple(drift)


class SyncFailed(SchemaError):  # noqa: N818 - its name says what is wrong
    """A step of the schema sync failed.

    Attributes:
        step: the SQL of the step that failed, or None when it failed before any.
        applied: the SQL of the steps that remain in the database.
    """

    def __init__(self, message: str, *, step: str | None = None, applied: Sequence[str] = ()):
        super().__init__(message)
        self.step = step
        self.applied = tuple(applied)


class NotFoundError(StorageError):
    """There is no such row.

    Attributes:
        table: the table that was searched.
        key: the id or name that was searched for.
    """

    def __init__(self, message: str, *, table: str, key: object) -> None:
        super().__init__(message)
        self.table = table
        self.key = key


class ConflictError(StorageError):
    """A row with the same unique value exists.

    Attributes:
        table: the table, or None if the backend does not tell.
        fields: the columns that must be unique together; empty if the backend does not tell.
    """

    def __init__(
        self, message: str, *, table: str | None = None, fields: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.table = table
        self.fields = tuple(fields)


class InvalidValue(StorageError):  # noqa: N818 - its name says what is wrong
    """A value cannot be stored. Nothing was written.

    Attributes:
        argument: the argument or column at fault.
    """

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class MissingReference(InvalidValue):
    """A row refers to another that does not exist. Nothing was written."""


class ReadError(StorageError):
    """The database refused a read for a reason that no other class covers."""


class WriteError(StorageError):
    """The database refused a write for a reason that no other class covers.

    Attributes:
        committed: False when nothing was written; None when the connection was lost during COMMIT,
            so that the outcome is unknown.
    """

    def __init__(self, message: str, *, committed: bool | None = False) -> None:
        super().__init__(message)
        self.committed = committed


class CryptoError(StorageError):
    """A sealed value, or the keyring that opens it, cannot be trusted or used.

    Attributes:
        table: the table of the value, if known; likewise the next two.
        column: the column.
        pk: the row's primary key.
        kid: the key id in the value.
    """

    def __init__(
        self,
        message: str,
        *,
        table: str | None = None,
        column: str | None = None,
        pk: int | None = None,
        kid: str | None = None,
    ) -> None:
        super().__init__(message)
        self.table = table
        self.column = column
        self.pk = pk
        self.kid = kid


class WrongSecret(CryptoError):  # noqa: N818 - its name says what is wrong
    """The secret does not open the keyring or any v2 value, or the keyring's row is damaged."""


class SecretChanged(CryptoError):  # noqa: N818 - its name says what is wrong
    """The keyring is sealed under a new secret, which this process does not have."""


class KeyringLost(CryptoError):  # noqa: N818 - its name says what is wrong
    """There are sealed values, but the keyring that opens them is missing."""


class UnknownKey(CryptoError):  # noqa: N818 - its name says what is wrong
    """A value is sealed under a key that is not in the keyring, or in a format no longer read."""


class Tampered(CryptoError):  # noqa: N818 - its name says what is wrong
    """A value does not open in its place: it was changed, or moved from another place."""


class MalformedEnvelope(CryptoError):  # noqa: N818 - its name says what is wrong
    """A sealed value cannot be parsed; no key was tried.

    Attributes:
        problem: what is wrong with it, without its place.
    """

    def __init__(self, message: str, problem: str, **evidence: Any) -> None:
        super().__init__(message, **evidence)
        self.problem = problem


class PlaintextFound(CryptoError):  # noqa: N818 - its name says what is wrong
    """A value is in the clear where only sealed values are allowed."""
