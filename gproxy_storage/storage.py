"""Storage: the front door. Settings, database, schema and repositories, opened as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

from .backends.base import Backend
from .config import DEFAULT_DATA_DIR, Settings
from .database import db_from_dsn, run_query, run_transaction, session, transaction
from .dsn import Dsn
from .errors import ConfigError, SecretError
from .models import INDEXES, TABLES
from .repositories.catalog import Catalog
from .repositories.credentials import Credentials
from .repositories.dashboard import Dashboard
from .repositories.downstream_requests import DownstreamRequests
from .repositories.keys import Keys
from .repositories.providers import Providers
from .repositories.quotas import Quotas
from .repositories.settings import ProxySettings
from .repositories.statuses import Statuses
from .repositories.upstream_requests import UpstreamRequests
from .repositories.usages import Usages
from .repositories.users import Users
from .schema.catalog import read_snapshot
from .schema.definitions import definitions
from .schema.plan import Plan
from .schema.sync import LOCK_TIMEOUT_S, SyncReport, plan, sync
from .secret import Secret
from .sink import Replayed, Sink, SinkSettings, replay

T = TypeVar("T")


class Storage:
    """An open database with its repositories.

    One Storage is open at a time in a process, for the models are bound to it. Threads share it:
    each call borrows a pooled connection, and calls inside `session()` share one. A child made
    by fork may go on using it, with connections of its own.

    Attributes:
        database: the Peewee database, for queries of your own inside `session()`.
        data_dir: where sinks keep their spool files.
        users, keys, providers, credentials, statuses, catalog, settings, usages, quotas,
            upstream_requests, downstream_requests, dashboard: the repositories.
    """

    _open: Storage | None = None
    _open_lock = threading.Lock()

    def __init__(self, database: Backend, data_dir: Path) -> None:
        self.database = database
        self.data_dir = data_dir
        self._sinks: set[Sink] = set()
        self.users = Users(database)
        self.keys = Keys(database)
        self.providers = Providers(database)
        self.credentials = Credentials(database)
        self.statuses = Statuses(database)
        self.catalog = Catalog(database)
        self.settings = ProxySettings(database)
        self.usages = Usages(database)
        self.quotas = Quotas(database)
        self.upstream_requests = UpstreamRequests(database)
        self.downstream_requests = DownstreamRequests(database)
        self.dashboard = Dashboard(database)

    # -- opening and closing ------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        *,
        dsn: str | Dsn | None = None,
        data_dir: str | Path | None = None,
        config: str | Path | None = None,
        secret_key: str | Secret | None = None,
        sync: bool = True,
    ) -> Self:
        """Open the storage that the settings name, and bring its schema up to date.

        Each setting comes from its argument, else the environment, else ``.env``, else the TOML
        file, else its default: a SQLite file under the data directory, which is created.

        Args:
            sync: False leaves the schema as it is.
        Raises:
            ConfigError: when a setting cannot be used.
            ConnectError: when the database cannot be opened.
            SchemaError: when the schema cannot be brought up to date.
        """
        settings = Settings.load(dsn=dsn, data_dir=data_dir, config=config, secret_key=secret_key)
        if settings.dsn_is_default and settings.dsn.mode == "rwc":
            _create_data_dir(settings.data_dir)
        return cls.connect(settings.dsn, settings.secret_key, data_dir=settings.data_dir, sync=sync)

    @classmethod
    def connect(
        cls,
        dsn: str | Dsn,
        secret_key: str | Secret | None = None,
        *,
        data_dir: str | Path = DEFAULT_DATA_DIR,
        sync: bool = True,
    ) -> Self:
        """Open the storage at a DSN, whatever the environment says.

        Args:
            data_dir: where sinks keep their spool files; created with the first sink.
        Raises:
            ConfigError: when the DSN or the secret cannot be used, or a Storage is open already.
            ConnectError: when the database cannot be opened.
            SchemaError: when the schema cannot be brought up to date.
        """
        if secret_key is not None:
            # Fail closed: nothing is stored in the clear for someone who asked for encryption.
            raise SecretError(
                "DATABASE_SECRET_KEY is set, and this version cannot encrypt yet: unset it to "
                "store secrets in the clear",
                setting="DATABASE_SECRET_KEY",
            )
        with cls._open_lock:
            if Storage._open is not None:
                raise ConfigError(
                    f"a Storage is open already ({Storage._open.database.dsn}): close it first, "
                    "or use it"
                )
            database = db_from_dsn(dsn)
            storage = Storage._open = cls(database, Path(data_dir))
        try:
            with session(database):  # the server says which one it is
                storage._bind()
                if sync:
                    storage.sync()
        except BaseException:
            storage.close()
            raise
        return storage

    def close(self) -> None:
        """Close sinks and connections, free the models for another Storage; again is a no-op.

        Raises:
            ConfigError: when this thread is inside a transaction. Nothing was closed.
            WriteError: when a sink's rows are lost (see `Sink.close`). All is closed.
        """
        if self.database.in_transaction():
            raise ConfigError("the storage cannot be closed inside a transaction: leave it first")
        try:
            for sink in list(self._sinks):
                sink.close()
        finally:
            with self._open_lock:
                if Storage._open is self:
                    Storage._open = None
                    for model in TABLES:
                        model._meta.set_database(None)  # type: ignore[arg-type]  # as at the start
            self.database.close()
            self.database.close_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Storage {self.database.dsn}>"

    # -- the schema ---------------------------------------------------------------------------

    def sync(self, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> SyncReport:
        """Bring the schema up to date; a no-op, without a lock, when it is.

        Raises:
            SchemaError: when it cannot be brought up to date.
        """
        return sync(self.database, lock_timeout_s=lock_timeout_s)

    def plan(self) -> Plan:
        """Compare the live schema with the models; takes no lock, writes nothing."""
        return plan(self.database)

    def row_counts(self) -> dict[str, int | None]:
        """Return the number of rows of each table; None for a table that does not exist."""

        def count() -> dict[str, int | None]:
            tables = read_snapshot(self.database, definitions(self.database)).tables
            present = {name for name, table in tables.items() if table.kind == "table"}
            return {
                model._meta.table_name: (
                    model.select().count() if model._meta.table_name in present else None
                )
                for model in TABLES
            }

        return run_query(self.database, count)

    # -- the write path -----------------------------------------------------------------------

    def sink(
        self,
        *,
        flush_rows: int = SinkSettings.flush_rows,
        flush_after_s: float = SinkSettings.flush_after_s,
        max_queue_rows: int = SinkSettings.max_queue_rows,
        max_queue_bytes: int = SinkSettings.max_queue_bytes,
        when_full: Literal["block", "spool"] = SinkSettings.when_full,
        max_body_bytes: int = SinkSettings.max_body_bytes,
        max_spool_bytes: int = SinkSettings.max_spool_bytes,
        redact: bool = SinkSettings.redact,
        retry_s: float = SinkSettings.retry_s,
        stall_timeout_s: float = SinkSettings.stall_timeout_s,
    ) -> Sink:
        """Open a background writer of usages and request logs; close it, or use it in a `with`.

        Its spool file lies in ``spool`` under the data directory.

        Args:
            flush_rows, flush_after_s, ...: see `SinkSettings`.
        Raises:
            ConfigError: when a setting or the spool directory cannot be used.
        """
        settings = SinkSettings(
            flush_rows=flush_rows,
            flush_after_s=flush_after_s,
            max_queue_rows=max_queue_rows,
            max_queue_bytes=max_queue_bytes,
            when_full=when_full,
            max_body_bytes=max_body_bytes,
            max_spool_bytes=max_spool_bytes,
            redact=redact,
            retry_s=retry_s,
            stall_timeout_s=stall_timeout_s,
        )
        sink = Sink(self.database, self.spool_dir, settings, on_close=self._sinks.discard)
        self._sinks.add(sink)
        return sink

    def replay_spool(self) -> Replayed:
        """Store what ended processes left in spool files, each batch once; a sink does so, too.

        Raises:
            WriteError: when the database does not take it now. Nothing is lost.
        """
        return replay(self.database, self.spool_dir, SinkSettings())

    @property
    def spool_dir(self) -> Path:
        """Where sinks keep what the database has not taken."""
        # Absolute: a daemon may change its directory.
        return (self.data_dir / "spool").absolute()

    # -- sessions and transactions ------------------------------------------------------------

    def session(self) -> AbstractContextManager[None]:
        """Borrow one connection for all calls in the block: a web request, a script."""
        return session(self.database)

    def transaction(self) -> AbstractContextManager[None]:
        """Run the block in one transaction, inside another in a savepoint.

        A block cannot be run again; where rivals may deadlock, `run_transaction` retries.
        """
        return transaction(self.database)

    def run_transaction(self, callback: Callable[[], T]) -> T:
        """Call `callback` in a transaction, again on a lock, a deadlock or a lost connection.

        Raises:
            WriteError: with `committed` None when the connection was lost during COMMIT.
        """
        return run_transaction(self.database, callback)

    def _bind(self) -> None:
        self.database.bind(TABLES, bind_refs=False, bind_backrefs=False)
        self.database.keys = {
            index.name: (model._meta.table_name, tuple(column for column, _ in index.columns))
            for model, indexes in INDEXES.items()
            for index in indexes
        }


def _create_data_dir(path: Path) -> None:
    """Create the data directory for its owner only; one that exists is left as it is."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"GPROXY_DATA_DIR: the directory {path} cannot be created: {exc.strerror}; choose "
            "another, or create it for this user",
            setting="GPROXY_DATA_DIR",
        ) from exc
