"""Capacity: whether sealed values fit into their columns."""

from __future__ import annotations

from typing import Any

from ..backends.base import Backend
from ..backends.widths import WIDEN
from ..crypto import NONCE_BYTES, TAG_BYTES
from ..crypto.envelope import Envelope
from ..encrypted_fields import EncryptedJSONField
from ..errors import InvalidValue, MalformedEnvelope
from .columns import COLUMNS, EncryptedColumn, stored_values

_KID = "0" * 16
_SHOWN = 5


def check_capacity(database: Backend) -> None:
    """Refuse to seal any value if one would be too long for its column.

    Raises:
        InvalidValue: when one would; it names rows and the command that widens the column.
    """
    narrow = database.narrow or {}
    for column in COLUMNS:
        lack = narrow.get(column.name)
        if lack is None or lack.max_characters is None:
            continue
        rows = [
            pk
            for pk, stored, _ in stored_values(database, column)
            if _sealed_length(column, stored) > lack.max_characters
        ]
        if rows:
            shown = ", ".join(map(str, rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")
            raise InvalidValue(
                f"{column.name} takes {lack.max_characters:,} characters, and {len(rows)} of its "
                f"values are longer once they are sealed (rows {shown}): run {WIDEN} first; "
                "nothing was changed",
                argument=column.field.column_name,
            )


def _sealed_length(column: EncryptedColumn, stored: Any) -> int:
    try:
        envelope = column.envelope(stored)
    except MalformedEnvelope:
        return 0  # it is left as it is
    size_bytes = len(stored.encode()) + TAG_BYTES if envelope is None else len(envelope.ciphertext)
    sealed = Envelope("v3", _KID, bytes(NONCE_BYTES), bytes(size_bytes))
    is_json = isinstance(column.field, EncryptedJSONField)
    return len(sealed.to_json() if is_json else sealed.to_text())
