"""Settings: one row, with defaults until it is made."""

from __future__ import annotations

from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.dsn import Dsn
from gproxy_storage.errors import InvalidValue
from gproxy_storage.models import GlobalSettings
from tests.contract.support import in_threads, insert, refused_unasked
from tests.support import SQLITE_ALONE, assert_query_count

DEFAULTS: dict[str, Any] = {  # GPROXY's
    "host": "127.0.0.1",
    "port": 8787,
    "proxy": None,
    "spoof_emulation": "chrome_136",
    "data_dir": "./data",
    "enable_usage": True,
    "enable_upstream_log": False,
    "enable_upstream_log_body": False,
    "enable_downstream_log": False,
    "enable_downstream_log_body": False,
    "update_channel": "release",
}
SECRET_DSN = "postgres://gproxy:correct%20horse@db.example/gproxy?sslmode=require"


def test_defaults_are_not_written(storage: Storage) -> None:
    with assert_query_count(storage.database, 1):
        settings = storage.settings.get()

    assert {name: getattr(settings, name) for name in DEFAULTS} == DEFAULTS
    assert settings.dsn == str(storage.database.dsn)
    assert settings.__data__.get("updated_at") is None
    assert storage.row_counts()["global_settings"] == 0
    assert storage.settings.update() == settings
    assert storage.row_counts()["global_settings"] == 0


def test_an_update_makes_the_row_and_then_changes_it(storage: Storage) -> None:
    first = storage.settings.update(port=80, proxy="http://p", enable_usage=False)
    second = storage.settings.update(proxy=None, update_channel="beta")
    stored = storage.settings.get()

    expected = {**DEFAULTS, "port": 80, "enable_usage": False, "update_channel": "beta"}
    assert {name: getattr(stored, name) for name in DEFAULTS} == expected
    assert stored.__data__ == second.__data__
    assert stored.updated_at > first.updated_at
    assert storage.row_counts()["global_settings"] == 1


def test_a_dsn_is_stored_masked(storage: Storage) -> None:
    for dsn in (SECRET_DSN, Dsn.parse(SECRET_DSN)):
        stored = storage.settings.update(dsn=dsn).dsn
        assert stored == storage.settings.get().dsn == str(Dsn.parse(SECRET_DSN))
        assert "horse" not in stored
        assert "***" in stored


def test_first_updates_at_once_make_one_row(storage: Storage) -> None:
    def work(flag: str) -> None:
        storage.settings.update(**{flag: True})  # type: ignore[arg-type]  # each of the flags

    flags = [name for name in DEFAULTS if name.startswith("enable_")]
    in_threads(*[lambda flag=flag: work(flag) for flag in flags])

    settings = storage.settings.get()
    assert all(getattr(settings, flag) for flag in flags)
    assert storage.row_counts()["global_settings"] == 1


def test_a_row_that_gproxy_made(storage: Storage) -> None:
    with storage.session():
        insert(GlobalSettings, id=1, host="h", dsn=SECRET_DSN)

    assert storage.settings.get().host == "h"
    assert storage.settings.update(port=1).dsn == SECRET_DSN  # whose it is to change


BAD: list[tuple[dict[str, Any], str]] = [
    ({"port": -1}, "port"),
    ({"port": 65536}, "port"),
    ({"port": "8787"}, "port"),
    ({"port": True}, "port"),
    ({"port": None}, "port"),
    ({"host": ""}, "host"),
    ({"host": None}, "host"),
    ({"data_dir": " "}, "data_dir"),
    ({"dsn": "postgres://u:horse@"}, "dsn"),
    ({"dsn": "nonsense"}, "dsn"),
    ({"dsn": None}, "dsn"),
    ({"proxy": 1}, "proxy"),
    ({"enable_usage": "false"}, "enable_usage"),
    ({"enable_usage": None}, "enable_usage"),
]


def test_bad_input_is_refused(storage: Storage) -> None:
    for given, argument in BAD:
        with pytest.raises(InvalidValue) as caught:
            storage.settings.update(**{"update_channel": "beta", **given})
        assert caught.value.argument == argument
        assert "horse" not in str(caught.value)
    assert storage.row_counts()["global_settings"] == 0


@SQLITE_ALONE
def test_what_is_no_setting_is_refused(storage: Storage) -> None:
    for unknown in ("id", "updated_at", "hots"):
        with refused_unasked(storage, kind=TypeError, match=unknown):
            storage.settings.update(**{unknown: 1})  # type: ignore[arg-type]  # the question
