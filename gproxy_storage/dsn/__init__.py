"""DSNs: parsing, validation, masking; nothing here connects."""

from .hosts import Host
from .parameters import Parameters, PoolOptions
from .rules import BackendName, is_secret
from .value import MAX_LENGTH, Dsn, Mode

__all__ = [
    "MAX_LENGTH",
    "BackendName",
    "Dsn",
    "Host",
    "Mode",
    "Parameters",
    "PoolOptions",
    "is_secret",
]
