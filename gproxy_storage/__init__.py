"""Storage for LLM proxies: one DSN picks SQLite, PostgreSQL, MySQL or MariaDB."""

from .database import db_from_dsn
from .dsn import Dsn
from .errors import StorageError
from .storage import Storage

__version__ = "0.1.0"
__all__ = ["Dsn", "Storage", "StorageError", "__version__", "db_from_dsn"]
