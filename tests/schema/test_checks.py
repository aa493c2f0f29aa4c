"""Data that break a rule which is to be added: refused with counts and keys, and left alone."""

from __future__ import annotations

import pytest

from gproxy_storage.backends import Backend
from gproxy_storage.database import session
from gproxy_storage.errors import IncompatibleSchema
from gproxy_storage.schema.sync import sync
from tests import servers
from tests.support import recorded, run_script

only_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)

NOW = "'2026-05-04 12:00:00'"
VALUE = "a-value-that-no-message-shows"


def add_users(database: Backend, *names: str) -> None:
    rows = ", ".join(f"('{name}', TRUE, FALSE, {NOW}, {NOW})" for name in names)
    run_script(
        database,
        f"INSERT INTO users (name, enabled, is_admin, created_at, updated_at) VALUES {rows}",
    )


def add_keys(database: Backend, *owners_and_digests: tuple[int, str]) -> None:
    rows = ", ".join(
        f"({user}, '{VALUE}', '{digest}', TRUE, {NOW}, {NOW})"
        for user, digest in owners_and_digests
    )
    run_script(
        database,
        "INSERT INTO user_keys (user_id, api_key_ciphertext, api_key_digest, enabled, created_at, "
        f"updated_at) VALUES {rows}",
    )


def drop_index(database: Backend, table: str, name: str) -> None:
    on = f" ON {table}" if database.name in ("mysql", "mariadb") else ""
    run_script(database, f"DROP INDEX {name}{on}")


def drop_foreign_key(database: Backend, table: str, name: str) -> None:
    word = "CONSTRAINT" if database.name == "postgres" else "FOREIGN KEY"
    run_script(database, f"ALTER TABLE {table} DROP {word} {name}")


def rows_of(database: Backend, table: str) -> list[tuple[object, ...]]:
    with session(database):
        return database.query(f"SELECT * FROM {table} ORDER BY 1")


def refused(database: Backend, *tables: str) -> tuple[str, ...]:
    """Sync, which must refuse without DDL and leave the rows; return the lines."""
    before = [rows_of(database, table) for table in tables]
    with recorded(database) as statements:
        with pytest.raises(IncompatibleSchema) as caught:
            sync(database)
    assert not statements.ddl
    assert [rows_of(database, table) for table in tables] == before
    message = str(caught.value)
    assert VALUE not in message
    assert "\n" not in message
    assert "nothing was changed" in message
    assert str(database.dsn) in message
    assert all(line in message for line in caught.value.drift)
    return caught.value.drift


def test_duplicates_under_a_missing_unique_index(empty: Backend) -> None:
    sync(empty)
    drop_index(empty, "users", "uq_users_name")
    names = [f"{VALUE}-{number}" for number in range(7)]
    add_users(empty, "alone", *names, *names, names[0], "also alone")
    assert refused(empty, "users") == (
        "users: 7 values occur more than once in name (for example rows 2, 3, 4, 5, 6)",
    )
    run_script(empty, "DELETE FROM users WHERE id > 8")
    assert [step.table for step in sync(empty).applied] == ["users"]
    assert len(rows_of(empty, "users")) == 8


def test_a_pair_that_is_unique_together(empty: Backend) -> None:
    sync(empty)
    add_users(empty, "one", "two")
    keys = "uq_user_rate_limits_user_id_model_pattern"
    if empty.name in ("mysql", "mariadb"):
        run_script(empty, f"ALTER TABLE user_rate_limits DROP INDEX {keys}")
    else:
        drop_index(empty, "user_rate_limits", keys)
    insert = "INSERT INTO user_rate_limits (user_id, model_pattern, created_at, updated_at) VALUES "
    rows = ((1, "x*"), (2, "x*"), (1, "y*"))
    run_script(empty, insert + ", ".join(f"({user}, '{pat}', {NOW}, {NOW})" for user, pat in rows))
    assert sync(empty)  # each occurs twice, together they do not


@only_servers
def test_orphans_under_a_missing_foreign_key(empty: Backend) -> None:
    sync(empty)
    drop_foreign_key(empty, "user_keys", "fk_user_keys_user_id")
    add_users(empty, "one")
    orphans = [(1000 + number, f"{VALUE}-{number}") for number in range(6)]
    add_keys(empty, (1, "kept"), *orphans)
    assert refused(empty, "users", "user_keys") == (
        "user_keys: 6 rows have a user_id that is not in users (for example rows 2, 3, 4, 5, 6)",
    )
    run_script(empty, "DELETE FROM user_keys WHERE user_id >= 1000")
    assert [step.table for step in sync(empty).applied] == ["user_keys"]
    assert len(rows_of(empty, "user_keys")) == 1


@only_servers
def test_null_points_nowhere_and_is_no_orphan(empty: Backend) -> None:
    sync(empty)
    drop_foreign_key(empty, "usages", "fk_usages_user_id")
    run_script(
        empty,
        "INSERT INTO usages (at, operation, protocol, created_at) "
        f"VALUES ({NOW}, 'chat', 'openai', {NOW})",
    )
    assert sync(empty)


@only_servers
def test_orphans_of_a_dropped_table(empty: Backend) -> None:
    sync(empty)
    add_users(empty, "one")
    add_keys(empty, (1, "kept"))
    if empty.name == "postgres":
        run_script(empty, "DROP TABLE users CASCADE")
        assert refused(empty, "user_keys") == (
            "user_keys: 1 rows have a user_id that is not in users (for example rows 1)",
        )
    else:
        drop_foreign_key(empty, "user_keys", "fk_user_keys_user_id")
        with session(empty):
            run_script(empty, "SET foreign_key_checks = 0;\nDROP TABLE users")
        assert refused(empty, "user_keys") == (
            "user_keys: 1 rows have a user_id that is not in users (for example rows 1)",
        )


@only_servers
def test_all_broken_rules_are_named_at_once(empty: Backend) -> None:
    sync(empty)
    drop_index(empty, "users", "uq_users_name")
    drop_index(empty, "user_keys", "uq_user_keys_api_key_digest")
    drop_foreign_key(empty, "user_keys", "fk_user_keys_user_id")
    add_users(empty, VALUE, VALUE)
    add_keys(empty, (1, VALUE), (99, VALUE))
    assert refused(empty, "users", "user_keys") == (
        "users: 1 values occur more than once in name (for example rows 1)",
        "user_keys: 1 values occur more than once in api_key_digest (for example rows 1)",
        "user_keys: 1 rows have a user_id that is not in users (for example rows 2)",
    )
