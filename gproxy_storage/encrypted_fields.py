"""Encrypted fields: sealed when a row is saved, opened when the attribute is read.

Reading rows decrypts nothing. A value is bound to its row, so it is sealed by `SealedRow.save`,
which knows the row; anything else that a query would write into the column is refused.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import peewee

from .backends.base import Keyrings
from .backends.taken_ids import TakenIds
from .crypto.binding import Binding
from .crypto.envelope import (
    PENDING_JSON,
    PENDING_TEXT,
    Document,
    Envelope,
    json_start,
    parse_json,
    parse_text,
    text_start,
)
from .crypto.keyring import Keyring
from .database import run_query
from .errors import InvalidValue, KeyringLost, PlaintextFound, ReadError, UnknownKey
from .fields import DatabaseField, JSONField, TextField, to_json
from .secret import Opaque, SecretText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    _Mixin = peewee.Model
else:
    _Mixin = object  # Peewee would make every subclass of Model a table


class Sealed(Opaque):
    """A stored value and the keyring at the time it was read. Shows neither."""

    __slots__ = ("_keyring", "_manager", "stored")

    def __init__(self, stored: Any, manager: Keyrings) -> None:
        self.stored = stored
        self._manager = manager
        self._keyring = manager.keyring

    def open(self, field: EncryptedField, pk: int | None) -> Any:
        """Open it as the value of a field in the row with this primary key.

        Raises:
            CryptoError: when it does not open there (see `Keyring.open_text`).
            InvalidValue: when the primary key is needed and was not selected.
        """
        try:
            return self._open(self.stored, field, pk)
        except (UnknownKey, PlaintextFound, KeyringLost):
            # The value may have been resealed since it was read: try the one that is stored now.
            stored = None if pk is None else field.stored_now(pk)
            if stored is None or stored == self.stored:
                raise
        return self._open(stored, field, pk)

    def _open(self, stored: Any, field: EncryptedField, pk: int | None) -> Any:
        binding = field.binding(pk)
        return self._manager.retrying(
            self._keyring, lambda keyring: field.opened(keyring, stored, binding)
        )


class Ticket(Opaque):
    """A value sealed for one row, to be written in one transaction."""

    __slots__ = ("field", "stamp", "stored")

    def __init__(self, stored: str, field: EncryptedField, stamp: object) -> None:
        self.stored = stored
        self.field = field
        self.stamp = stamp


class SealedAccessor(peewee.FieldAccessor):
    """The attribute of an encrypted field: opens a value that was read, holds an assigned one.

    A column that was not read raises: None would mean that there is no secret.
    """

    field: EncryptedField

    def __get__(self, instance: Any, instance_type: Any = None) -> Any:
        if instance is not None and self.name not in instance.__data__:
            raise ReadError(f"{self.name} was not read with its row: get the row by its id")
        value = super().__get__(instance, instance_type)
        if isinstance(value, Sealed) and instance is not None:
            return value.open(self.field, instance._pk)
        return value


class EncryptedField(DatabaseField):
    """The base of encrypted fields.

    Args:
        table: a label to which values are bound. Renaming the table must not change it, for then
            no value would open.
        column: likewise.
        digest: the name of the field that holds the value's lookup digest, if any.
    Attributes:
        sealed: seals a value under its binding.
        opened: opens a stored value under its binding.
        opened_parsed: opens a stored value, given with what `parse` returned for it.
        parse: parses a stored value, whose binding may be given for the error.
        start: returns how values of a version under a key begin, as they are written.
    """

    accessor_class = SealedAccessor
    read_unchanged: type | None = None  # every value that was read becomes a `Sealed`
    sound: str | None = None  # only a `Ticket` is written
    sealed: Callable[[Keyring, Any, Binding], str]
    opened: Callable[[Keyring, Any, Binding], Any]
    opened_parsed: Callable[[Keyring, Any, Any, Binding], Any]
    parse: Callable[..., Envelope | Document | None]
    start: Callable[[str, str | None], str]
    _pending: str

    def __init__(self, table: str, column: str, digest: str | None = None, **kwargs: Any) -> None:
        self._labels = (table, column)
        self.digest = digest
        super().__init__(**kwargs)

    def binding(self, pk: int | None) -> Binding:
        """Return the binding of this field's value in a row."""
        return Binding(*self._labels, pk)

    def checked(self, value: Any) -> Any:
        """Return the value, or raise InvalidValue if some backend cannot store it."""
        raise NotImplementedError

    def stored_now(self, pk: int) -> Any:
        """Read the stored value of a row; None if there is none."""
        model: Any = self.model
        query = model.select(self).where(model._meta.primary_key == pk).tuples()
        rows = run_query(model._meta.database, lambda: list(query))
        return rows[0][0].stored if rows and rows[0][0] is not None else None

    def ticket(self, value: Any, pk: int | None, keyring: Keyring) -> Ticket:
        """Seal a value for a row, to be written in this transaction, which has the shared lock.

        Without the primary key, a value that must be bound to it is replaced by a placeholder.
        """
        if pk is None and keyring.binds_to_row:
            stored = self._pending
        else:
            stored = self.sealed(keyring, value, self.binding(pk))
        return self.admit(stored)

    def admit(self, stored: str) -> Ticket:
        """Allow a sealed value to be written in this transaction, which has the shared lock."""
        return Ticket(stored, self, self._stamp())

    def db_value(self, value: Any) -> SecretText | None:
        if value is None:
            return None
        if isinstance(value, Ticket) and value.field is self and value.stamp is self._stamp():
            return SecretText(value.stored)
        raise refused(self)

    def python_value(self, value: Any) -> Any:
        if value is None or self._database is None:
            return value
        return Sealed(value, self._database.keyring_manager)

    def _stamp(self) -> object:
        stamp = self._database.transaction_stamp() if self._database else None
        # Outside of a transaction no ticket is valid.
        return object() if stamp is None else stamp


class EncryptedTextField(EncryptedField, TextField):
    """Text, sealed."""

    sealed = staticmethod(Keyring.seal_text)
    opened = staticmethod(Keyring.open_text)
    opened_parsed = staticmethod(Keyring.open_parsed_text)
    parse = staticmethod(parse_text)
    start = staticmethod(text_start)
    _pending = PENDING_TEXT

    def checked(self, value: Any) -> str | None:
        return TextField.db_value(self, value)


class EncryptedJSONField(EncryptedField, JSONField):
    """JSON, sealed; each read returns a new document."""

    sealed = staticmethod(Keyring.seal_json)
    opened = staticmethod(Keyring.open_json)
    opened_parsed = staticmethod(Keyring.open_parsed_json)
    parse = staticmethod(parse_json)
    start = staticmethod(json_start)
    _pending = PENDING_JSON

    def checked(self, value: Any) -> Any:
        if value is not None:
            to_json(self, value)
        return value


def refused(field: peewee.Field[Any]) -> InvalidValue:
    """Return the error for a query that compares or writes an encrypted column."""
    name = f"{field.model._meta.table_name}.{field.column_name}"
    return InvalidValue(
        f"{name} is encrypted: a query can neither write nor compare it; assign to a row's "
        "attribute and save() the row",
        argument=field.column_name,
    )


class _Written(NamedTuple):
    field: EncryptedField
    before: Any  # the row's attribute: an assigned value, or a Sealed
    value: Any


class SealedRow(_Mixin):
    """A row with encrypted fields: `save` and `create` seal them."""

    # Peewee's own and not public: tests/unit/test_peewee.py notices when they change.
    _dirty: set[str]
    _pk: Any

    def save(self, force_insert: bool = False, only: Sequence[Any] | None = None) -> int | bool:
        """Save the row. See `Model.save`.

        The encrypted fields that are written are sealed in the same transaction, under the shared
        lock on the keyring; a field's digest, if any, is written with it.

        Raises:
            InvalidValue: when a value cannot be stored; nothing was written.
            SecretChanged: when the secret was changed while this process ran.
        """
        written = self._to_seal(force_insert, only)
        if not written:
            return super().save(force_insert, only)
        database: Any = self._meta.database
        attempt = partial(self._save_in_transaction, written, force_insert, only)
        return attempt() if database.in_transaction() else TakenIds(database).retry(attempt)

    def _save_in_transaction(
        self, written: list[_Written], force_insert: bool, only: Sequence[Any] | None
    ) -> int | bool:
        database: Any = self._meta.database
        joins = database.in_transaction()
        dirty, pk = set(self._dirty), self._pk
        try:
            with ExitStack() as stack:
                if not joins:
                    stack.enter_context(database.atomic())
                keyring = database.keyring_manager.lock_shared()
                if joins and pk is None and keyring.binds_to_row:
                    stack.enter_context(database.atomic())  # two statements: both or none
                return self._save_sealed(keyring, written, force_insert, only)
        except BaseException:
            # Restored for another attempt.
            self.__data__.update({one.field.name: one.before for one in written})
            self._dirty.update(dirty)
            self._pk = pk
            raise

    def _save_sealed(
        self,
        keyring: Keyring,
        written: list[_Written],
        force_insert: bool,
        only: Sequence[Any] | None,
    ) -> int | bool:
        model, pk = type(self), self._pk
        for field, _, value in written:
            self.__data__[field.name] = field.ticket(value, pk, keyring)
            if field.digest:
                setattr(self, field.digest, keyring.digest(value))
                only = None if only is None else [*only, field.digest]
        rows = super().save(force_insert, only)
        if pk is None and keyring.binds_to_row:
            tickets = {one.field: one.field.ticket(one.value, self._pk, keyring) for one in written}
            self.__data__.update({field.name: ticket for field, ticket in tickets.items()})
            model.update(tickets).where(model._meta.primary_key == self._pk).execute()
        manager = self._meta.database.keyring_manager
        for field, _, _ in written:
            self.__data__[field.name] = Sealed(self.__data__[field.name].stored, manager)
        return rows

    def _to_seal(self, force_insert: bool, only: Iterable[Any] | None) -> list[_Written]:
        if only is not None:
            names = {one if isinstance(one, str) else one.name for one in only}
        else:
            names = set(self.__data__) if force_insert else self._dirty
        found = []
        for field in self._meta.sorted_fields:
            if isinstance(field, EncryptedField) and field.name in names & self.__data__.keys():
                before = self.__data__[field.name]
                value = getattr(self, field.name)  # opens a value of this row, not another row's
                if value is not None:  # NULL is not sealed
                    found.append(_Written(field, before, field.checked(value)))
        return found
