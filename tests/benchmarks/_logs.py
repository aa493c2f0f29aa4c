"""A million usages, and requests, loaded as fast as each driver can."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from gproxy_storage import Storage
from gproxy_storage.backends import Backend
from gproxy_storage.models import (
    Credential,
    Provider,
    Table,
    UpstreamRequest,
    Usage,
    User,
    UserKey,
)
from tests.contract.support import insert

USAGES = 1_000_000
REQUESTS = 200_000
DAYS = 30
UNTIL = datetime(2026, 7, 31, 23, 59, 59, 999_999, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=DAYS) + timedelta(microseconds=1)

_USERS, _KEYS_A_USER, _PROVIDERS, _CREDENTIALS_A_PROVIDER, _MODELS = 100, 5, 8, 4, 25
_ROWS_A_STATEMENT = 5_000


@contextmanager
def loaded(dsn: str) -> Iterator[Backend]:
    """A database with all tables, the models bound to it, and the rows."""
    with Storage.connect(dsn) as storage:
        with storage.session():
            fill(storage.database)
        yield storage.database


def fill(database: Backend, usages: int = USAGES, requests: int = REQUESTS) -> None:
    """Insert users, keys, providers, credentials, and rows of both logs in order of time."""
    users, keys, credentials = [], [], []
    with database.atomic():
        for number in range(_USERS):
            users.append(insert(User, name=f"user{number}"))
            keys += [insert(UserKey, user=users[-1]) for _ in range(_KEYS_A_USER)]
        for number in range(_PROVIDERS):
            provider = insert(Provider, name=f"provider{number}")
            credentials += [
                insert(Credential, provider=provider) for _ in range(_CREDENTIALS_A_PROVIDER)
            ]
    chance = random.Random(5)
    load(database, Usage, _usages(database, chance, usages, keys, credentials))
    load(database, UpstreamRequest, _requests(database, chance, requests, credentials))
    analyze(database)


def _times(database: Backend, count: int) -> Iterator[Any]:
    step = (UNTIL - SINCE) / count
    return (database.time_to_db(SINCE + number * step) for number in range(count))


def _usages(
    database: Backend,
    chance: random.Random,
    count: int,
    keys: Sequence[UserKey],
    credentials: Sequence[Credential],
) -> Iterator[dict[str, Any]]:
    for at in _times(database, count):
        key, credential = chance.choice(keys), chance.choice(credentials)
        yield {
            "at": at,
            "provider_id": credential.provider_id,
            "credential_id": credential.id,
            "user_id": key.user_id,
            "user_key_id": key.id,
            "operation": "generate",
            "protocol": "openai",
            "model": f"model-{chance.randrange(_MODELS)}",
            "input_tokens": chance.randrange(20_000),
            "output_tokens": chance.randrange(2_000),
            "cost": chance.randrange(1_000) / 8192,
            "created_at": at,
        }


def _requests(
    database: Backend, chance: random.Random, count: int, credentials: Sequence[Credential]
) -> Iterator[dict[str, Any]]:
    for at in _times(database, count):
        credential = chance.choice(credentials)
        yield {
            "at": at,
            "internal": False,
            "provider_id": credential.provider_id,
            "credential_id": credential.id,
            "request_method": "POST",
            "request_headers_json": "{}",
            "request_url": "https://api.example.com/v1/responses",
            "response_status": chance.choice((200, 200, 200, 429, 500)),
            "response_headers_json": "{}",
            "initial_latency_ms": 100,
            "total_latency_ms": chance.randrange(30_000),
            "created_at": at,
        }


def load(database: Backend, model: type[Table], rows: Iterator[dict[str, Any]]) -> None:
    """Insert rows, whose values are as the driver takes them, over this session's connection."""
    table = model._meta.table_name
    first = next(rows)
    columns = ", ".join(first)
    values = (tuple(row.values()) for row in _chain(first, rows))
    cursor = database.cursor()
    if database.name == "postgres":
        text = io.StringIO("".join("\t".join(map(str, row)) + "\n" for row in values))
        cursor.copy_expert(f"COPY {table} ({columns}) FROM STDIN", text)
        return
    mark = "?" if database.name == "sqlite" else "%s"
    statement = f"INSERT INTO {table} ({columns}) VALUES ({', '.join([mark] * len(first))})"
    with database.atomic():
        while chunk := list(islice(values, _ROWS_A_STATEMENT)):
            cursor.executemany(statement, chunk)


def _chain(first: dict[str, Any], rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield first
    yield from rows


def analyze(database: Backend) -> None:
    """Let the server's planner know the tables, as its own housekeeping would in time."""
    for model in (Usage, UpstreamRequest):
        table = model._meta.table_name
        server = database.name in ("mysql", "mariadb")
        database.execute_sql(f"ANALYZE {'TABLE ' if server else ''}{table}")
