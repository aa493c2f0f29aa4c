"""Storage for LLM proxies: one DSN picks SQLite, PostgreSQL, MySQL or MariaDB.

`Storage` is the entry point. Also exported are the types of its methods' arguments and results, for
annotations, and all errors. The tables are in `gproxy_storage.models`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import Settings
from .database import db_from_dsn
from .dsn import Dsn
from .errors import (
    ConfigError,
    ConflictError,
    ConnectError,
    CryptoError,
    DSNError,
    IncompatibleSchema,
    InvalidValue,
    KeyringLost,
    MalformedEnvelope,
    MissingReference,
    NotFoundError,
    PlaintextFound,
    PoolTimeout,
    ReadError,
    SchemaError,
    SecretChanged,
    SecretError,
    StorageError,
    SyncFailed,
    Tampered,
    UnknownKey,
    WriteError,
    WrongSecret,
)
from .repositories.arguments import KEEP
from .repositories.reading import ANY
from .secret import Secret
from .sink.settings import SinkSettings
from .storage import Storage

if TYPE_CHECKING:
    from .batch import BatchReport, WriteBatch
    from .money import Amount
    from .repositories.pages import Page
    from .row_types import DownstreamRow, SubmittedDownstreamRow, UpstreamRow, UsageRow
    from .schema.plan import Plan
    from .schema.sync import SyncReport
    from .sink.orphaned_spools import Replayed
    from .sink.settings import SinkStats
    from .sink.sink import Sink

__version__ = "0.1.0"
__all__ = [
    "ANY",
    "KEEP",
    "Amount",
    "BatchReport",
    "ConfigError",
    "ConflictError",
    "ConnectError",
    "CryptoError",
    "DSNError",
    "DownstreamRow",
    "Dsn",
    "IncompatibleSchema",
    "InvalidValue",
    "KeyringLost",
    "MalformedEnvelope",
    "MissingReference",
    "NotFoundError",
    "Page",
    "PlaintextFound",
    "Plan",
    "PoolTimeout",
    "ReadError",
    "Replayed",
    "SchemaError",
    "Secret",
    "SecretChanged",
    "SecretError",
    "Settings",
    "Sink",
    "SinkSettings",
    "SinkStats",
    "Storage",
    "StorageError",
    "SubmittedDownstreamRow",
    "SyncFailed",
    "SyncReport",
    "Tampered",
    "UnknownKey",
    "UpstreamRow",
    "UsageRow",
    "WriteBatch",
    "WriteError",
    "WrongSecret",
    "__version__",
    "db_from_dsn",
]

_LATER = {
    "Amount": ".money",
    "DownstreamRow": ".row_types",
    "SubmittedDownstreamRow": ".row_types",
    "UpstreamRow": ".row_types",
    "UsageRow": ".row_types",
    "BatchReport": ".batch",
    "Page": ".repositories.pages",
    "Plan": ".schema.plan",
    "SyncReport": ".schema.sync",
    "WriteBatch": ".batch",
    "Replayed": ".sink.orphaned_spools",
    "Sink": ".sink.sink",
    "SinkStats": ".sink.settings",
}


def __getattr__(name: str) -> Any:
    """Import rarely used names on first access, which makes start-up faster."""
    module = _LATER.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module, __name__), name)
