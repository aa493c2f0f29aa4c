"""A login by API key: against the query on a bare connection, and built by Peewee each time."""

from __future__ import annotations

from collections.abc import Iterator

from gproxy_storage import Storage
from gproxy_storage.models import User, UserKey
from gproxy_storage.repositories.keys import key_select
from tests.benchmarks import Figure, medians

ROUNDS = 50
CALLS = 200
"""How many logins a round measures: one takes SQLite a few microseconds."""

USERS = 1000

# A round trip to a server hides most of what Python does; SQLite's answer does not.
MOST_OF_BARE = {"sqlite": 8.0, "postgres": 2.5, "mysql": 2.5, "mariadb": 2.5}


def run(backend: str, dsn: str) -> Iterator[Figure]:
    """Measure on one backend."""
    with Storage.connect(dsn) as storage:
        with storage.transaction():
            users = [storage.users.create(f"user {number}") for number in range(USERS)]
            api_keys = [storage.keys.create(user)[1] for user in users][:CALLS]
        keyring = storage.database.keyring_manager.keyring
        digests = [keyring.lookup_digests(api_key) for api_key in api_keys]
        bare = _Bare(storage)
        expected = bare.first(digests[0])
        found = storage.keys.authenticate(api_keys[0])
        assert found is not None
        assert found.id in expected

        def ours() -> None:
            for api_key in api_keys:
                storage.keys.authenticate(api_key)

        def in_session() -> None:
            with storage.session():
                ours()

        def driver() -> None:
            for each in digests:
                bare.first(each)

        def peewee() -> None:
            for each in digests:
                with storage.session():
                    _built_anew(each)

        taken = medians(
            {"ours": ours, "session": in_session, "driver": driver, "peewee": peewee}, ROUNDS
        )
        bare.close()
    ours_s, session_s, driver_s, peewee_s = (seconds / CALLS for seconds in taken.values())
    goal = MOST_OF_BARE[backend]
    yield Figure(backend, "login by key", "bare query", ours_s, driver_s, goal)
    yield Figure(backend, "login by key, in a session", "bare query", session_s, driver_s, goal)
    yield Figure(backend, "login by key", "plain Peewee", ours_s, peewee_s)


class _Bare:
    """The statement of a login, on a connection of the driver."""

    def __init__(self, storage: Storage) -> None:
        self._sql = key_select(1, enabled=True).sql
        self._connection = storage.database.open_connection()

    def first(self, digests: tuple[str, ...]) -> tuple[object, ...]:
        cursor = self._connection.cursor()
        cursor.execute(self._sql, digests)
        rows = cursor.fetchall()
        cursor.close()
        found: tuple[object, ...] = tuple(rows[0])
        return found

    def close(self) -> None:
        self._connection.close()


def _built_anew(digests: tuple[str, ...]) -> UserKey:
    found: UserKey = (
        UserKey.select(UserKey, User)
        .join(User)
        .where(UserKey.api_key_digest.in_(digests), UserKey.enabled, User.enabled)
        .get()
    )
    return found
