"""Storage: the entry point. Opens settings, database, schema and repositories together."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from .backends.base import Backend
from .backends.widths import WIDEN
from .config import DEFAULT_DATA_DIR, Settings, clean_secret
from .database import db_from_dsn, run_query, run_transaction, session, transaction, translated
from .dsn import Dsn
from .errors import ConfigError
from .interruptions import raise_interruption
from .keyring_manager import KeyringManager
from .models import GENERATED_IDS, INDEX_COLUMNS, NAMES, TABLES
from .private_files import create_directory
from .repositories.keywords import StrictKeywords
from .repositories.registry import Registered, TableRepositories
from .schema import LOCK_TIMEOUT_S
from .secret import Secret, without_locals
from .sink.settings import SinkSettings
from .unlocked import Unlocked

if TYPE_CHECKING:
    from .batch import WriteBatch
    from .key_management.commands import Encryption
    from .repositories.access import Access
    from .repositories.dashboard import Dashboard
    from .schema.plan import Plan
    from .schema.sync import SyncReport
    from .sink.orphaned_spools import Replayed
    from .sink.sink import Sink

T = TypeVar("T")

_logger = logging.getLogger("gproxy_storage")


class Storage(TableRepositories, StrictKeywords):
    """An open database with its repositories.

    Only one Storage is open at a time in a process, because the models are bound to it. Threads
    share it: each call borrows a pooled connection, and calls inside `session()` share one. A
    forked child can go on using it, with its own connections.

    Its repositories are attributes: `users`, `keys`, `providers`, `credentials`, `statuses`,
    `catalog`, `access`, `quotas`, `files`, `claude_files`, `settings`, `usages`,
    `upstream_requests`, `downstream_requests`, `dashboard`.

    Attributes:
        database: the Peewee database, for your own queries inside `session()`.
        data_dir: the data directory; sinks keep their spool files in it.
        sync_report: what sync did when it was opened; None if it was opened without sync.
    """

    access: Registered[Access] = Registered("access.Access")
    dashboard: Registered[Dashboard] = Registered("dashboard.Dashboard")

    _open: Storage | None = None
    _open_lock = threading.Lock()

    def __init__(self, database: Backend, manager: KeyringManager, data_dir: Path) -> None:
        super().__init__(database)
        self.database = database
        self.data_dir = data_dir
        self._keyring_manager = manager
        self._sinks: set[Sink] = set()
        self.sync_report: SyncReport | None = None

    # -- opening and closing ------------------------------------------------------------------

    @classmethod
    @without_locals
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
            dsn, data_dir, config, secret_key: as `Settings.load`'s.
            sync: False leaves the schema as it is.
        Raises:
            ConfigError: when a setting cannot be used.
            ConnectError: when the database cannot be opened.
            CryptoError: when the secret, or its absence, does not fit the database.
            SchemaError: when the schema cannot be brought up to date.
        """
        settings = Settings.load(dsn=dsn, data_dir=data_dir, config=config, secret_key=secret_key)
        del dsn, secret_key  # an error report may show this frame
        return cls.from_settings(settings, sync=sync)

    @classmethod
    def from_settings(cls, settings: Settings, *, sync: bool = True) -> Self:
        """Open the storage that loaded settings name. Raises the errors of `open`."""
        _prepare_data_dir(settings)
        return cls._connect_with(settings, cls._start, sync=sync)

    @classmethod
    def for_schema(cls, settings: Settings) -> Self:
        """Open the storage, without syncing its schema, in order to call `sync`.

        The secret is not needed. Raises the errors of `inspect`.
        """
        _prepare_data_dir(settings)
        return cls.inspect(settings.dsn)

    @classmethod
    @without_locals
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
            dsn: text is parsed by `Dsn.parse`.
            secret_key: what `DATABASE_SECRET_KEY` would be; None for a plaintext database.
            data_dir: where sinks keep their spool files; created with the first sink.
            sync: False leaves the schema as it is.
        Raises:
            ConfigError: when the DSN or the secret cannot be used, or a Storage is open already.
            ConnectError: when the database cannot be opened.
            CryptoError: when the secret, or its absence, does not fit the database.
            SchemaError: when the schema cannot be brought up to date.
        """
        # Under the same names: an error report may show this frame.
        dsn = Dsn.parse(dsn) if isinstance(dsn, str) else dsn
        secret_key = None if secret_key is None else clean_secret(secret_key, "secret_key")
        return cls._connect(dsn, partial(cls._start, secret=secret_key, sync=sync), data_dir)

    @classmethod
    @without_locals
    def inspect(cls, dsn: str | Dsn) -> Self:
        """Open the storage at a DSN to read its schema and rows; changes nothing.

        The secret is not needed: encrypted values are not decrypted.

        Raises:
            ConfigError: when the DSN cannot be used, or a Storage is open already.
            ConnectError: when the database cannot be opened.
        """
        dsn = Dsn.parse(dsn) if isinstance(dsn, str) else dsn  # as in `connect`
        return cls._connect(dsn, lambda _: None)

    @classmethod
    def for_encryption(cls, settings: Settings, *, sync: bool = True) -> Self:
        """Open the storage for the operations of `encryption`, whatever its mode.

        An existing keyring is opened; none is created. Raises the errors of `open`.
        """
        return cls._connect_with(settings, cls._unlock, sync=sync)

    @classmethod
    def _connect_with(cls, settings: Settings, start: Callable[..., None], *, sync: bool) -> Self:
        return cls._connect(
            settings.dsn,
            partial(start, secret=settings.secret_key, sync=sync),
            settings.data_dir,
            settings.secret_key_file,
        )

    @classmethod
    def _connect(
        cls,
        dsn: Dsn,
        start: Callable[[Self], None],
        data_dir: str | Path = DEFAULT_DATA_DIR,
        secret_file: Path | None = None,
    ) -> Self:
        with cls._open_lock:
            if Storage._open is not None:
                raise ConfigError(
                    f"a Storage is open already ({Storage._open.database.dsn}): close it first, "
                    "or use it"
                )
            database = db_from_dsn(dsn)
            manager = KeyringManager(database, secret_file=secret_file)
            storage = Storage._open = cls(database, manager, Path(data_dir))
        try:
            # In one session: its connection shows which server this is.
            with translated(database, writing=True), session(database):
                storage._bind()
                start(storage)
        except BaseException:
            storage.close()
            raise
        return storage

    @property
    def encryption(self) -> Encryption:
        """The keys of the database, and the operations that change them."""
        from .key_management.commands import Encryption

        if self.database.narrow is None:
            self.plan()  # finds out whether sealed values fit
        return Encryption(self.database, self._keyring_manager)

    # -- starting up ---------------------------------------------------------------------------

    def _start(self, secret: Secret | None, *, sync: bool) -> None:
        from .key_management.startup import settle, unlock

        unlock(self._keyring_manager, secret)  # before anything is written
        if sync:
            self.sync_report = self.sync()
            if self.sync_report.narrower:
                _logger.warning(
                    "%d tables have columns that are narrower than this package makes them, and "
                    "refuse or round some values: `gproxy-storage status` names them, %s widens "
                    "them",
                    len({drift.table for drift in self.sync_report.narrower}),
                    WIDEN,
                )
        settle(
            self.database, self._keyring_manager, secret, may_change=sync and self.database.writes
        )

    def _unlock(self, secret: Secret | None, *, sync: bool) -> None:
        from .key_management.startup import check_still_there, unlock

        unlock(self._keyring_manager, secret)
        if sync:
            self.sync_report = self.sync()
            self._keyring_manager.insert_row()
        row = self._keyring_manager.peek()
        check_still_there(self._keyring_manager, row)
        if row is not None and row.sealed is None:
            self._keyring_manager.adopt(Unlocked.plaintext(row))

    def close(self) -> None:
        """Close sinks and connections and unbind the models; repeated calls are no-ops.

        Raises:
            ConfigError: when this thread is inside a transaction. Nothing was closed.
            WriteError: when a sink's rows are lost (see `Sink.close`). Everything is closed.
        """
        if self.database.in_transaction():
            raise ConfigError("the storage cannot be closed inside a transaction: leave it first")
        try:
            with ExitStack() as each:  # even if closing others fails
                for sink in list(self._sinks):
                    each.callback(sink.close)
        finally:
            with self._open_lock:
                if Storage._open is self:
                    Storage._open = None
                    for model in TABLES:
                        model._meta.set_database(None)  # type: ignore[arg-type]  # unbound
            self.database.close()
            self.database.close_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Storage {self.database.dsn}>"

    # -- the schema ---------------------------------------------------------------------------

    def sync(
        self,
        *,
        widen: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        progress: Callable[[], None] = lambda: None,
    ) -> SyncReport:
        """Bring the schema up to date; a no-op, without a lock, when it is.

        Args:
            widen: also change the columns that are narrower than ours, one ALTER per table; the
                database copies each table, while its writers wait. If interrupted, call it again.
            lock_timeout_s: seconds to wait for locks in all, >= 0.
            progress: called after each statement.
        Raises:
            SchemaError: when it cannot be brought up to date.
            KeyringLost: when the keyring is open and its table no longer exists.
        """
        from .key_management.startup import check_new_tables
        from .schema.sync import sync

        report = sync(
            self.database,
            widen=widen,
            lock_timeout_s=lock_timeout_s,
            progress=progress,
            refuse=lambda plan: check_new_tables(self._keyring_manager, plan.new_tables),
        )
        if report:
            with translated(self.database, writing=True), session(self.database):
                self._keyring_manager.insert_row()
        return report

    def plan(self, *, widen: bool = False) -> Plan:
        """Compare the live schema with the models; takes no lock, writes nothing.

        Args:
            widen: as `sync`'s.
        Raises:
            ReadError: when the schema cannot be read.
            ConnectError: when the database cannot be reached.
        """
        from .schema.sync import plan

        return plan(self.database, widen=widen)

    def row_counts(self) -> dict[str, int | None]:
        """Return the number of rows of each table; None for a table that does not exist.

        The database reads every row: this takes seconds for a table with millions.
        """
        from .schema.definitions import definitions
        from .schema.snapshot import read_snapshot

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

        Its spool file is in `spool_dir`; rows in it are encrypted if the database is. The arguments
        are those of `SinkSettings`.

        Raises:
            ConfigError: when a setting or the spool directory cannot be used, or the database has
                no id yet and cannot be written.
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
        from .sink.sink import Sink

        sink = Sink(self.database, self.spool_dir, settings, on_close=self._sinks.discard)
        self._sinks.add(sink)
        return sink

    def replay_spool(self) -> Replayed:
        """Store the rows in spool files of ended processes, each batch once; sinks do so, too.

        Files of running processes are skipped.

        Returns:
            The numbers of rows and batches, and the files that could not be used.
        Raises:
            WriteError: when the database cannot store them now. Nothing is lost.
        """
        from .sink.orphaned_spools import replay

        return replay(self.database, self.spool_dir, SinkSettings())

    @property
    def spool_dir(self) -> Path:
        """The absolute path of the directory of the sinks' spool files."""
        # Absolute: a daemon may change its directory.
        return (self.data_dir / "spool").absolute()

    # -- sessions and transactions ------------------------------------------------------------

    def session(self) -> AbstractContextManager[None]:
        """Borrow one connection for all calls in the block, for example of a web request.

        Inside another session it shares that one's connection.

        Raises:
            PoolTimeout: when none becomes free within the DSN's `pool_timeout`.
            ConnectError: when one cannot be opened.
        """
        return session(self.database)

    def transaction(self) -> AbstractContextManager[None]:
        """Run the block in a transaction, or in a savepoint inside another transaction.

        It is committed at the end, and rolled back when the block raises. A block cannot be
        retried; where deadlocks are possible, use `run_transaction`.

        Raises:
            WriteError: when the database ended the transaction before the block ended, even if the
                block caught that error; with `committed` None when COMMIT failed and may have been
                done.
        """
        return transaction(self.database)

    def run_transaction(self, callback: Callable[[], T]) -> T:
        """Call `callback` in a transaction, again after a lock, a deadlock or a lost connection.

        At most six times, each from a clean state, so it must have no effects outside of the
        database. Inside another transaction it is a savepoint, and only the outermost is retried.

        Returns:
            What `callback` returned.
        Raises:
            WriteError: with `committed` None when the connection was lost during COMMIT.
        """
        return run_transaction(self.database, callback)

    def batch(self) -> WriteBatch:
        """Return a batch, which makes many writes to all tables in one transaction.

        Leaving its block writes it::

            with storage.batch() as batch:
                openai = batch.providers.upsert("openai", channel="openai")
                batch.catalog.upsert(openai, "gpt-4.1-mini")
        """
        from .batch import WriteBatch

        return WriteBatch(self.database)

    def _bind(self) -> None:
        from .key_management.guard import check_write

        self.database.bind(TABLES, bind_refs=False, bind_backrefs=False)
        self.database.declare(
            index_columns=INDEX_COLUMNS,
            generated_ids=GENERATED_IDS,
            names=NAMES,
            check_write=check_write,
            keyring_manager=self._keyring_manager,
        )


def _renew_lock() -> None:
    """Replace the lock in a forked child, as another thread may have held it at the fork."""
    Storage._open_lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def _prepare_data_dir(settings: Settings) -> None:
    """Create a default database's directory for its owner only; an existing one is left as is."""
    if not settings.dsn_is_default or settings.dsn.mode != "rwc":
        return
    path, setting = settings.data_dir, settings.dsn.setting
    try:
        create_directory(path)
    except OSError as exc:
        raise_interruption(exc)
        raise ConfigError(
            f"{setting}: the directory {path} cannot be created: {exc.strerror}; choose another, "
            "or create it for this user",
            setting=setting,
        ) from exc
