"""Whatever a field takes comes back equal, on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gproxy_storage import Storage
from gproxy_storage.errors import InvalidValue
from gproxy_storage.models import ClaudeFile, Table
from tests.contract.support import insert

on_one_row = settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.datetimes(timezones=zones | st.just(UTC))
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda children: st.lists(children, max_size=5) | st.dictionaries(texts, children, max_size=5),
    max_leaves=12,
)


@pytest.fixture
def row(storage: Storage) -> Iterator[Table]:
    """A row in a transaction that is not committed, to be updated again and again."""
    with storage.session():
        storage.database.begin()
        yield insert(ClaudeFile)
        storage.database.rollback()


def stored(row: Table, column: str, value: Any) -> Any:
    """Put a value into the row's column and read it back."""
    model = type(row)
    model.update({column: value}).where(model._meta.primary_key == row.get_id()).execute()
    return getattr(model.get_by_id(row.get_id()), column)


@on_one_row
@given(text=texts)
def test_text_comes_back(row: Table, text: str) -> None:
    assert stored(row, "filename", text) == text


@on_one_row
@given(at=times)
@example(at=datetime(1, 1, 1, tzinfo=timezone(timedelta(minutes=1))))
@example(at=datetime(9999, 12, 31, 23, 59, 59, 999_999, timezone(timedelta(minutes=-1))))
def test_times_come_back(row: Table, at: datetime) -> None:
    try:
        at.astimezone(UTC)
    except OverflowError:
        with pytest.raises(InvalidValue):
            stored(row, "created_at", at)
        return
    assert stored(row, "created_at", at) == at


@on_one_row
@given(document=documents)
def test_json_comes_back(row: Table, document: Any) -> None:
    found = stored(row, "raw_json", [document])[0]

    assert found == document
    assert type(found) is type(document)


@on_one_row
@given(number=st.integers(-(2**63), 2**63 - 1))
def test_integers_come_back(row: Table, number: int) -> None:
    assert stored(row, "size_bytes", number) == number
