"""SQLAlchemy Core on the same database: the tables, with the types that give our values.

An engine of its own, used as its documentation does: a connection of its pool for each call, and a
transaction around it. SQLAlchemy caches the text of each statement, but builds its objects anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from gproxy_storage.backends import Backend
from gproxy_storage.models import Table


class UtcTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC time, in the form of the database's column."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name == "sqlite":
            return sa.String()
        return mysql.DATETIME(fsp=6) if dialect.name in ("mysql", "mariadb") else self.impl

    def process_bind_param(self, value: datetime | None, dialect: Any) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return value.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"

    def process_result_value(self, value: Any, dialect: Any) -> datetime | None:
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime.fromisoformat(value)
        at: datetime = value
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


class Money(sa.types.TypeDecorator[Decimal]):
    """A Decimal, stored as a double."""

    impl = sa.Double
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> float | None:
        return None if value is None else float(value)

    def process_result_value(self, value: float | None, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(repr(value))


_TYPES: dict[str, Any] = {
    "BIGAUTO": sa.BigInteger,
    "BIGINT": sa.BigInteger,
    "INT": sa.Integer,
    "BOOL": sa.Boolean,
    "DATETIME": UtcTime,
    "DOUBLE": Money,
    "JSON": sa.JSON,
}
_metadata = sa.MetaData()


def core_table(model: type[Table]) -> sa.Table:
    """Return a model's table for SQLAlchemy."""
    return sa.Table(
        model._meta.table_name,
        _metadata,
        *(
            sa.Column(
                field.column_name,
                _TYPES.get(field.field_type, sa.Text),
                primary_key=field.primary_key,
            )
            for field in model._meta.sorted_fields
        ),
        extend_existing=True,
    )


@contextmanager
def core_engine(database: Backend) -> Iterator[sa.Engine]:
    """An engine on the database, with the same durability."""
    dsn = database.dsn
    if database.name == "sqlite":
        engine = sa.create_engine(f"sqlite:///{dsn.path}")

        @sa.event.listens_for(engine, "connect")
        def tune(connection: Any, _record: object) -> None:
            connection.execute("PRAGMA synchronous = normal")
            connection.execute("PRAGMA foreign_keys = on")
    else:
        driver = {"postgres": "postgresql+psycopg2", "mysql": "mysql+pymysql"}
        host = dsn.hosts[0]
        url = sa.URL.create(
            driver.get(database.name, "mariadb+pymysql"),
            username=dsn.user,
            host=host.name,
            port=host.port,
            database=dsn.database,
        )
        password: Any = dsn.password.reveal() if dsn.password else ""
        if database.name != "postgres":
            password = password.encode()  # PyMySQL would encode it as Latin-1
        engine = sa.create_engine(url, connect_args={"password": password})
    try:
        yield engine
    finally:
        engine.dispose()


def add_cost(engine: sa.Engine, quotas: sa.Table) -> Any:
    """Return the upsert that adds a cost to a user's quota, as a function of its values."""
    if engine.dialect.name in ("mysql", "mariadb"):

        def on_mysql(**values: Any) -> Any:
            insert = mysql.insert(quotas).values(**values)
            return insert.on_duplicate_key_update(
                cost_used=quotas.c.cost_used + insert.inserted.cost_used,
                updated_at=insert.inserted.updated_at,
            )

        return on_mysql
    dialect: Any = sqlite if engine.dialect.name == "sqlite" else postgresql

    def on_others(**values: Any) -> Any:
        insert = dialect.insert(quotas).values(**values)
        return insert.on_conflict_do_update(
            index_elements=["user_id"],
            set_={
                "cost_used": quotas.c.cost_used + insert.excluded.cost_used,
                "updated_at": insert.excluded.updated_at,
            },
        )

    return on_others
