"""What a request or a script calls: against the driver, plain Peewee and SQLAlchemy Core.

Each call borrows a connection and gives it back, but for the one that says so. The driver sends the
same statements on a connection that it keeps; Peewee builds the query and its rows in a session of
ours; Core is used as its documentation does (see `_core`). All but the driver return the same
values: aware UTC times, Decimals, documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa

from gproxy_storage import Storage
from gproxy_storage.models import Provider, Table, Usage, User, UserKey, UserQuota, UserRateLimit
from gproxy_storage.repositories.patterns import candidates, closest
from tests.benchmarks import Figure, medians
from tests.benchmarks._bare import BareQueries
from tests.benchmarks._core import add_cost, core_engine, core_table
from tests.benchmarks._logs import analyze

ROUNDS = 30
USERS = 1_000
USAGES = 5_000
ROWS_A_BATCH = 500
MODEL = "gpt-4.1-mini"


class Subject(NamedTuple):
    """A call, and how the others do the same.

    Attributes:
        most_of_bare, most_of_core: the goals, on SQLite and on servers.
        calls: how many a round measures: one takes SQLite a few microseconds.
    """

    name: str
    ours: Callable[[], object]
    peewee: Callable[[], object]
    core: Callable[[], object]
    most_of_bare: tuple[float, float]
    most_of_core: float | None = None
    calls: int = 50
    in_transaction: bool = False
    bare_call: Callable[[], object] | None = None
    fetch_rows: int | None = None


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with Storage.connect(dsn) as storage, core_engine(storage.database) as engine:
        user, api_key = _fill(storage)
        with storage.session():
            analyze(storage.database)
        for subject in _subjects(storage, engine, user, api_key):
            yield from _measured(backend, storage, subject)


def _measured(backend: str, storage: Storage, subject: Subject) -> Iterator[Figure]:
    with BareQueries(
        storage.database,
        subject.bare_call or subject.ours,
        in_transaction=subject.in_transaction,
        fetch_rows=subject.fetch_rows,
    ) as bare:
        contenders: dict[str, Callable[[], object]] = {
            "ours": subject.ours,
            "driver": bare,
            "plain Peewee": subject.peewee,
            "SQLAlchemy Core": subject.core,
        }
        taken = medians(
            {name: _repeated(call, subject.calls) for name, call in contenders.items()}, ROUNDS
        )
    ours, *others = (seconds / subject.calls for seconds in taken.values())
    goals = (subject.most_of_bare[backend != "sqlite"], None, subject.most_of_core)
    for other, other_s, goal in zip([*contenders][1:], others, goals, strict=True):
        yield Figure(backend, subject.name, other, ours, other_s, goal)


def _repeated(call: Callable[[], object], calls: int) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(calls):
            call()

    return repeat


def _fill(storage: Storage) -> tuple[User, str]:
    """Return the user who has all that is asked for, and a key."""
    with storage.transaction():
        users = [storage.users.create(f"user {number}") for number in range(USERS)]
        keys = [storage.keys.create(each)[1] for each in users]
        for name in ("openai", "anthropic", "gemini"):
            storage.providers.create(name, channel=name, settings={"base_url": "https://a.test"})
        for each in users[:100]:
            storage.quotas.set(each, quota=100)
            for pattern in ("gpt-*", "claude-*", "*"):
                storage.access.limits.upsert(each, pattern, rpm=60)
        for number in range(USAGES):
            storage.usages.record(
                user_id=users[number % 100].id,
                model=MODEL,
                input_tokens=number,
                output_tokens=345,
                cost=Decimal(number % 997) / 8192,
            )
    return users[50], keys[50]


def _subjects(storage: Storage, engine: sa.Engine, user: User, api_key: str) -> Iterator[Subject]:
    keyring = storage.database.keyring_manager.keyring
    models: Sequence[type[Table]] = (User, UserKey, Provider, UserQuota, UserRateLimit, Usage)
    users, user_keys, providers, quotas, limits, usages = map(core_table, models)

    def first(statement: Any) -> Any:
        with engine.connect() as connection:
            return connection.execute(statement).first()

    def in_session(query: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            with storage.session():
                return query()

        return call

    def peewee_login() -> Any:
        digests = keyring.lookup_digests(api_key)
        query = UserKey.select(UserKey, User).join(User)
        return query.where(UserKey.api_key_digest.in_(digests), UserKey.enabled, User.enabled).get()

    secret = {user_keys.c.api_key_ciphertext, users.c.password}
    shown = [column for column in (*user_keys.c, *users.c) if column not in secret]

    def core_login() -> Any:
        digests = keyring.lookup_digests(api_key)
        joined = user_keys.join(users, users.c.id == user_keys.c.user_id)
        statement = sa.select(*shown).select_from(joined)
        return first(
            statement.where(
                user_keys.c.api_key_digest.in_(digests), user_keys.c.enabled, users.c.enabled
            )
        )

    login = Subject(
        "login by key",
        lambda: storage.keys.authenticate(api_key),
        in_session(peewee_login),
        core_login,
        (4.0, 1.3),
    )
    yield login
    with storage.session():
        yield login._replace(name="login by key, in a session", peewee=peewee_login)
    yield Subject(
        "providers.find",
        lambda: storage.providers.find(name="openai"),
        in_session(lambda: Provider.get_or_none(Provider.name == "openai")),
        lambda: first(sa.select(providers).where(providers.c.name == "openai")),
        (8.0, 1.8),
        0.7,
    )
    yield Subject(
        "quotas.remaining",
        lambda: storage.quotas.remaining(user),
        in_session(lambda: _left(UserQuota.get_or_none(UserQuota.user == user))),
        lambda: _left(first(sa.select(quotas).where(quotas.c.user_id == user.id))),
        (8.0, 1.8),
        0.7,
    )

    def peewee_limit() -> Any:
        fits = UserRateLimit.model_pattern.in_(candidates(MODEL))
        rows = UserRateLimit.select().where(UserRateLimit.user == user, fits)
        return closest([row.model_pattern for row in rows], MODEL)

    def core_limit() -> Any:
        fits = limits.c.model_pattern.in_(candidates(MODEL))
        with engine.connect() as connection:
            rows = connection.execute(sa.select(limits).where(limits.c.user_id == user.id, fits))
            return closest([row.model_pattern for row in rows], MODEL)

    yield Subject(
        "access.rate_limit_for",
        lambda: storage.access.rate_limit_for(user, MODEL),
        in_session(peewee_limit),
        core_limit,
        (8.0, 1.8),
        0.7,
    )

    def core_iter() -> None:
        statement = sa.select(usages).where(usages.c.at <= _UNTIL).order_by(*_newest(usages))
        with engine.connect() as connection:
            _drop(connection.execute(statement).yield_per(ROWS_A_BATCH))

    yield _recording(storage, engine, usages, quotas, user)
    yield Subject(
        "usages.list(limit=50)",
        lambda: storage.usages.list(limit=50),
        in_session(lambda: [*Usage.select().order_by(*_NEWEST).limit(50)]),
        lambda: _all(engine, sa.select(usages).order_by(*_newest(usages)).limit(50)),
        (3.0, 3.0),
        1.0,
        calls=10,
    )
    yield Subject(
        f"usages.iter, {USAGES:,} rows",
        lambda: _drop(storage.usages.iter(until=_UNTIL)),
        in_session(
            lambda: _drop(Usage.select().where(Usage.at <= _UNTIL).order_by(*_NEWEST).iterator())
        ),
        core_iter,
        (2.5, 2.5),
        1.0,
        calls=1,
        bare_call=lambda: storage.usages.list(limit=None, until=_UNTIL),
        fetch_rows=ROWS_A_BATCH,
    )


def _recording(
    storage: Storage, engine: sa.Engine, usages: sa.Table, quotas: sa.Table, user: User
) -> Subject:
    row: dict[str, Any] = {
        "user_id": user.id,
        "model": MODEL,
        "input_tokens": 12,
        "output_tokens": 345,
        "cost": Decimal("0.0125"),
    }
    adding = add_cost(engine, quotas)

    def peewee() -> None:
        at = datetime.now(UTC)
        with storage.transaction():
            Usage.create(at=at, created_at=at, **row)
            insert = UserQuota.insert(user=user, quota=0, cost_used=row["cost"], updated_at=at)
            storage.database.upsert(
                insert, [UserQuota.user], take=[UserQuota.updated_at], add=[UserQuota.cost_used]
            ).execute()

    def core() -> None:
        at = datetime.now(UTC)
        with engine.begin() as connection:
            connection.execute(
                sa.insert(usages).values(
                    at=at, created_at=at, operation="generate", protocol="openai", **row
                )
            )
            connection.execute(
                adding(user_id=user.id, quota=0, cost_used=row["cost"], updated_at=at)
            )

    return Subject(
        "usages.record",
        lambda: storage.usages.record(**row),
        peewee,
        core,
        (2.5, 1.6),
        0.6,
        calls=20,
        in_transaction=True,
    )


_UNTIL = datetime.now(UTC).replace(year=2200)
_NEWEST = (Usage.at.desc(), Usage.trace_id.desc())


def _newest(usages: sa.Table) -> tuple[Any, ...]:
    return usages.c.at.desc(), usages.c.trace_id.desc()


def _left(quota: Any) -> Decimal:
    left: Decimal = quota.quota - quota.cost_used
    return left


def _drop(rows: Iterable[Any]) -> None:
    """Read rows one by one, and keep none."""
    for _ in rows:
        pass


def _all(engine: sa.Engine, statement: Any) -> list[Any]:
    with engine.connect() as connection:
        return [*connection.execute(statement)]
