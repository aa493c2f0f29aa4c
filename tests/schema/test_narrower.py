"""Columns that hold less than ours: told with what that costs, changed when asked to, only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner, Result

from gproxy_storage import Storage
from gproxy_storage.backends import Backend
from gproxy_storage.backends.mysql_types import shortfall
from gproxy_storage.backends.schema_rows import ColumnRow
from gproxy_storage.cli import main
from gproxy_storage.database import session
from gproxy_storage.errors import InvalidValue
from gproxy_storage.models import TABLES
from gproxy_storage.schema.definitions import definitions
from gproxy_storage.schema.plan import Level
from gproxy_storage.schema.snapshot import Snapshot, read_snapshot
from gproxy_storage.schema.sync import plan, sync
from tests import leaks, servers
from tests.cases import for_each
from tests.contract.support import insert
from tests.schema.test_kill import kill_at_every_boundary
from tests.schema.test_sync_equal import by_hand
from tests.support import assert_query_count, run_script

on_servers = pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
on_mysql = pytest.mark.parametrize("backend", ["mysql", "mariadb"], indirect=True)
on_one = pytest.mark.parametrize("backend", ["mariadb"], indirect=True)
COMMAND = "gproxy-storage sync --widen"

NARROW = {
    "postgres": [
        "ALTER TABLE users ALTER password TYPE VARCHAR(255)",
        "ALTER TABLE usages ALTER model TYPE VARCHAR(10), ALTER cost TYPE REAL, "
        "ALTER input_tokens TYPE INTEGER, ALTER at TYPE TIMESTAMPTZ(3), "
        "ALTER operation SET DEFAULT 'it''s'",
        "ALTER TABLE user_rate_limits ALTER rpm TYPE SMALLINT",
    ],
    "mysql": [
        "ALTER TABLE users MODIFY password VARCHAR(255)",
        "ALTER TABLE usages MODIFY model VARCHAR(10), MODIFY cost FLOAT NOT NULL DEFAULT 0, "
        "MODIFY input_tokens INT, MODIFY at DATETIME(3) NOT NULL, "
        "MODIFY operation VARCHAR(99) NOT NULL DEFAULT 'it''s'",
        "ALTER TABLE user_rate_limits MODIFY rpm SMALLINT",
        "ALTER TABLE upstream_requests MODIFY request_body VARBINARY(255), "
        "MODIFY request_url TEXT, MODIFY at TIMESTAMP(6) NOT NULL",
    ],
}
NARROW["mariadb"] = NARROW["mysql"]

FRACTIONS = "times keep 3 digits of a second, not 6"
BITS_32 = "numbers outside of -2,147,483,648 to 2,147,483,647 are refused"
TOLD = {
    "postgres": {
        "users: password: character varying(255), not TEXT: text of more than 255 characters is "
        "refused",
        "usages: model: character varying(10), not TEXT: text of more than 10 characters is "
        "refused",
        "usages: cost: real, not DOUBLE PRECISION: numbers are rounded to fewer digits",
        f"usages: input_tokens: integer, not BIGINT: {BITS_32}",
        f"usages: at: timestamp(3) with time zone, not TIMESTAMPTZ: {FRACTIONS}",
        "user_rate_limits: rpm: smallint, not INTEGER: numbers outside of -32,768 to 32,767 are "
        "refused",
    },
    "mysql": {
        "users: password: varchar(255), not LONGTEXT: text of more than 255 characters is refused",
        "usages: model: varchar(10), not LONGTEXT: text of more than 10 characters is refused",
        "usages: operation: varchar(99), not LONGTEXT: text of more than 99 characters is refused",
        "usages: cost: float, not DOUBLE PRECISION: numbers are rounded to fewer digits",
        f"usages: input_tokens: int, not BIGINT: {BITS_32}",
        f"usages: at: datetime(3), not DATETIME(6): {FRACTIONS}",
        "user_rate_limits: rpm: smallint, not INTEGER: numbers outside of -32,768 to 32,767 are "
        "refused",
        "upstream_requests: request_body: varbinary(255), not LONGBLOB: more than 255 bytes are "
        "refused",
        "upstream_requests: request_url: text, not LONGTEXT: text of more than 65,535 bytes is "
        "refused",
        "upstream_requests: at: timestamp(6), not DATETIME(6): times before 1970 or after January "
        "2038 are refused",
    },
}
TOLD["mariadb"] = {
    text.replace(": int,", ": int(11),").replace(": smallint,", ": smallint(6),")
    for text in TOLD["mysql"]
}


def narrowed(database: Backend) -> None:
    """A synced schema with narrow columns."""
    sync(database)
    run_script(database, NARROW[database.name])


def snapshot(database: Backend) -> Snapshot:
    with session(database):
        return read_snapshot(database, definitions(database))


def narrower(database: Backend) -> set[str]:
    return {str(one) for one in plan(database).narrower}


@on_servers
def test_narrow_columns_are_reported_and_not_changed(empty: Backend, backend: str) -> None:
    narrowed(empty)
    before = snapshot(empty)
    with assert_query_count(empty, 3) as statements:
        report = sync(empty)
    assert not statements.locks
    assert not report
    assert {str(one) for one in report.narrower} == TOLD[backend] == narrower(empty)
    assert {one.level for one in plan(empty).drift} == {Level.NARROWER}
    assert snapshot(empty) == before


@on_servers
def test_widened_columns_equal_ours(empty: Backend, backend: str) -> None:
    sync(empty)
    ours = snapshot(empty)
    run_script(empty, NARROW[backend])
    seen: list[int] = []
    report = sync(empty, widen=True, progress=lambda: seen.append(1))
    tables = [step.table for step in report.applied]
    assert tables == list(dict.fromkeys(tables))  # one ALTER a table
    assert {step.sql.split()[0] for step in report.applied} == {"ALTER"}
    assert len(seen) == len(tables)
    assert report.narrower == ()
    now = snapshot(empty)
    for name, table in ours.tables.items():
        assert now.tables[name].indexes == table.indexes
        assert now.tables[name].foreign_keys == table.foreign_keys
        for column, was in table.columns.items():
            there = now.tables[name].columns[column]
            assert (there.type, there.nullable, there.collation) == (
                was.type,
                was.nullable,
                was.collation,
            )
            assert there.has_default == (was.has_default or column == "operation")
    with assert_query_count(empty, 3) as statements:
        assert not sync(empty, widen=True)
    assert not statements.locks


@on_servers
def test_rows_and_defaults_stay(database_dsn: str, empty: Backend, backend: str) -> None:
    narrowed(empty)
    at = datetime(2026, 5, 4, 3, 2, 1, 123000, tzinfo=UTC)
    texts = ("", " é 🦀 ", "0123456789")
    with Storage.connect(database_dsn) as storage:
        for text in (*texts, None):
            storage.usages.record(model=text, at=at, cost=0.25, input_tokens=2**31 - 1)
        before = [vars(row)["__data__"] for row in storage.usages.list()]
        assert storage.sync(widen=True)
        assert [vars(row)["__data__"] for row in storage.usages.list()] == before
        database = storage.database
        given = ("at", "protocol", "created_at", "cost")
        values = ", ".join([database.param] * 4)
        run = database.time_to_db(at)
        with storage.session():
            database.execute_sql(
                f"INSERT INTO usages ({', '.join(given)}) VALUES ({values})", (run, "p", run, 1.0)
            )
        assert storage.usages.count(operation="it's") == 1


@on_servers
def test_a_schema_made_by_hand_is_widened(database_dsn: str, empty: Backend, backend: str) -> None:
    run_script(empty, by_hand(backend, inline_unique=True, reversed_indexes=False))
    assert narrower(empty)
    with Storage.connect(database_dsn) as storage:
        with storage.session():
            for model in TABLES:
                if model.__name__ not in ("EncryptionKeys", "StorageState", "SinkWriter"):
                    insert(model)
        counts = storage.row_counts()
        assert storage.sync(widen=True).narrower == ()
        assert storage.row_counts() == counts
        assert not storage.plan(widen=True)
        storage.usages.record(model="x" * 5000, input_tokens=2**40)


@on_servers
def test_columns_that_keys_and_indexes_keep_narrow_are_reported(
    empty: Backend, backend: str
) -> None:
    if backend == "postgres":
        script = [
            "ALTER TABLE storage_state ALTER name TYPE VARCHAR(10)",
            "ALTER TABLE usages ALTER model TYPE VARCHAR(10)",
            "CREATE INDEX theirs ON usages (model)",
        ]
    else:
        script = [
            "ALTER TABLE storage_state MODIFY name VARCHAR(10)",
            "ALTER TABLE usages MODIFY model VARCHAR(10), ADD INDEX theirs (model)",
        ]
    sync(empty)
    run_script(empty, script)
    report = sync(empty, widen=True)
    left = {str(one).rpartition("; ")[2] for one in report.narrower}
    by_hand = "change it by hand, with the keys that refer to it"
    if backend == "postgres":  # where an index covers any text
        assert [step.table for step in report.applied] == ["usages"]
        assert left == {by_hand}
    else:
        assert not report
        assert left == {by_hand, "index theirs prevents that: drop it first"}


@on_mysql
def test_characters_that_a_character_set_lacks(database_dsn: str, empty: Backend) -> None:
    sync(empty)
    run_script(
        empty,
        "ALTER TABLE providers MODIFY label TEXT CHARACTER SET latin1, "
        "MODIFY name VARCHAR(255) CHARACTER SET latin1 NOT NULL",
    )
    assert (
        "providers: name: varchar(255), not VARCHAR(255): characters that latin1 lacks are "
        "refused" in narrower(empty)
    )
    with Storage.connect(database_dsn) as storage:
        storage.providers.create("é", channel="c")
        with pytest.raises(InvalidValue, match=COMMAND):
            storage.providers.create("🦀", channel="c")
        storage.sync(widen=True)
        storage.providers.create("🦀", channel="c", label="🦀")
        assert [row.name for row in storage.providers.list()] == ["é", "🦀"]


@for_each(
    ("there", "collation", "wanted", "cost"),
    [
        ("longtext", "utf8mb4_bin", "LONGTEXT", None),
        ("mediumtext", "utf8mb4_bin", "LONGTEXT", "text of more than 16,777,215 bytes is refused"),
        ("text", "utf8mb4_bin", "VARCHAR(255)", None),
        ("tinytext", "utf8mb4_bin", "VARCHAR(255)", "text of more than 255 bytes is refused"),
        ("varchar(255)", "utf8mb4_bin", "VARCHAR(255)", None),
        ("varchar(255)", "", "VARCHAR(255)", None),
        ("char(255)", "utf8mb4_bin", "VARCHAR(255)", "trailing blanks are lost"),
        ("longtext", "utf8mb3_bin", "JSON", "characters that utf8mb3 lacks are refused"),
        ("longtext", "utf8mb4_bin", "JSON", None),
        ("json", "", "JSON", None),
        ("longblob", "", "LONGBLOB", None),
        ("blob", "", "LONGBLOB", "more than 65,535 bytes are refused"),
        ("bigint(20)", "", "BIGINT", None),
        ("bigint unsigned", "", "BIGINT", None),
        ("int(11)", "", "INTEGER", None),
        ("tinyint(1)", "", "BOOL", None),
        ("mediumint", "", "INTEGER", "numbers outside of -8,388,608 to 8,388,607 are refused"),
        ("int unsigned", "", "BIGINT", "numbers outside of 0 to 4,294,967,295 are refused"),
        ("double", "", "DOUBLE PRECISION", None),
        ("double(10,2)", "", "DOUBLE PRECISION", "numbers are rounded to fewer digits"),
        ("datetime(6)", "", "DATETIME(6)", None),
        ("datetime", "", "DATETIME(6)", "times lose their fractions of a second"),
    ],
)
def test_the_shortfall_of_mysqls_types(
    there: str, collation: str, wanted: str, cost: str | None
) -> None:
    column = ColumnRow("table", "table", "column", there, collation=collation)
    found = shortfall(column, wanted)
    assert (found and found.cost) == cost


# -- until then -----------------------------------------------------------------------------------


def refused(call: Callable[[], object]) -> InvalidValue:
    with pytest.raises(InvalidValue) as caught:
        call()
    assert COMMAND in str(caught.value)
    return caught.value


@on_servers
def test_what_is_too_long_is_refused_by_the_name_of_the_command(
    database_dsn: str, empty: Backend, backend: str
) -> None:
    narrowed(empty)
    with Storage.connect(database_dsn) as storage:

        def batch() -> None:
            with storage.batch() as batch:
                batch.users.create("alice")
                batch.usages.record(model="x" * 11)

        error = refused(lambda: storage.usages.record(model="x" * 11))
        refused(lambda: storage.usages.record(input_tokens=2**31))
        refused(batch)
        if backend != "postgres":
            assert error.argument == "model"
            record = storage.upstream_requests.record
            refused(lambda: record(request_method="GET", request_body=b"x" * 256))
            refused(lambda: record(request_method="GET", at=datetime(2100, 1, 1, tzinfo=UTC)))
        assert storage.users.count() == storage.usages.count() == 0
        with storage.sink() as sink:
            for length in (10, 11, 9):
                sink.submit_usage(model="x" * length)
            assert sink.flush(60)
            assert (sink.stats().written, sink.stats().rejected) == (2, 1)
        (path,) = storage.spool_dir.glob("*.rejects")
        assert COMMAND in path.read_text()
        path.unlink()
        storage.sync(widen=True)
        storage.usages.record(model="x" * 11, input_tokens=2**31)
        batch()


@on_servers
def test_a_start_without_sync_names_the_command_too(database_dsn: str, empty: Backend) -> None:
    narrowed(empty)
    with Storage.connect(database_dsn, sync=False) as storage:
        refused(lambda: storage.usages.record(model="x" * 11))


# -- cut off --------------------------------------------------------------------------------------


@on_one
def test_killed_while_it_widens(database_dsn: str) -> None:
    kill_at_every_boundary(database_dsn, narrowed, every=3, widen=True)


@pytest.mark.slow
@on_servers
def test_killed_while_it_widens_on_each(database_dsn: str) -> None:
    kill_at_every_boundary(database_dsn, narrowed, widen=True)


# -- the command ----------------------------------------------------------------------------------


@on_servers
def test_status_and_sync_widen_name_and_change_narrow_columns(
    database_dsn: str, empty: Backend, backend: str
) -> None:
    narrowed(empty)

    def command(*arguments: str) -> Result:
        environment = {"GPROXY_DSN": database_dsn, "DATABASE_SECRET_KEY": None}
        result = CliRunner(env=environment).invoke(main, arguments)
        leaks.check(result.output, "the output of a command")
        return result

    found = command("sync", "--dry-run")
    assert found.exit_code == 0
    assert {line.removeprefix("-- narrower: ") for line in found.stdout.splitlines()} == TOLD[
        backend
    ]
    assert f"Only `{COMMAND}` changes what is narrower.\n" in command("status").stdout
    for _ in range(2):
        result = command("sync", "--dry-run", "--widen")
        assert result.exit_code == 3
        sql = [line for line in result.stdout.splitlines() if not line.startswith("-- ")]
        assert sql == [f"{step.sql};" for step in plan(empty, widen=True).steps]
    said = json.loads(command("sync", "--dry-run", "--widen", "--json").stdout)
    assert {one["level"] for one in said["drift"]} == {"narrower"}
    assert [f"{step['sql']};" for step in said["steps"]] == sql
    said = json.loads(command("sync", "--widen", "--json").stdout)
    assert [f"{step['sql']};" for step in said["applied"]] == sql
    assert said["narrower"] == []
    result = command("sync", "--widen")
    assert (result.exit_code, result.stdout) == (0, "The schema is up to date.\n")
    assert command("sync", "--dry-run", "--widen").stdout == "-- the schema is up to date\n"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_nothing_is_narrow_where_types_bound_nothing(empty: Backend, database_dsn: str) -> None:
    environment = {"GPROXY_DSN": database_dsn, "DATABASE_SECRET_KEY": None}
    result = CliRunner(env=environment).invoke(main, ["sync", "--widen"])
    assert result.exit_code == 0
    assert "steps applied" in result.stdout
    assert not plan(empty, widen=True).drift
