"""Storage for LLM proxies: one DSN picks SQLite, PostgreSQL, MySQL or MariaDB.

`Storage` is the front door; here is also what its methods take and give, for annotations, and every
error. The tables are in `gproxy_storage.models`.
"""

from .batch import BatchReport, WriteBatch
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
from .repositories.base import ANY, KEEP
from .repositories.pages import Page
from .schema.plan import Plan
from .schema.sync import SyncReport
from .secret import Secret
from .sink import Replayed, Sink, SinkSettings, SinkStats
from .storage import Storage

__version__ = "0.1.0"
__all__ = [
    "ANY",
    "KEEP",
    "BatchReport",
    "ConfigError",
    "ConflictError",
    "ConnectError",
    "CryptoError",
    "DSNError",
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
    "SyncFailed",
    "SyncReport",
    "Tampered",
    "UnknownKey",
    "WriteBatch",
    "WriteError",
    "WrongSecret",
    "__version__",
    "db_from_dsn",
]
