"""A batch has the same result as its calls made one after the other."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gproxy_storage import Storage, StorageError
from tests.contract.batch_player import KINDS, Operation, dump, seeded
from tests.support import recorded

NUMBER = st.integers(0, 7)
OPERATIONS = st.lists(st.tuples(st.sampled_from(KINDS), NUMBER, NUMBER, NUMBER), max_size=30)
SAME_STORAGE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def evidence(error: StorageError) -> list[str]:
    """Return an error's text without ids, which differ."""
    said = {name: value for name, value in vars(error).items() if name != "key"}
    return [type(error).__name__, str(said)]


def compare(storage: Storage, operations: list[Operation]) -> None:
    one_by_one = seeded(storage, lambda: storage)
    try:
        with storage.transaction():
            one_by_one.play(operations)
        expected = dump(storage)
    except StorageError as exc:
        expected = evidence(exc)

    batched = seeded(storage, storage.batch)
    try:
        batched.play(operations)
        with recorded(storage.database) as statements:
            batched.writer.write()
        # What could be written many rows a statement was: calls one by one have savepoints.
        assert not any(sql.startswith("SAVEPOINT") for sql in statements.sent)
        found = dump(storage)
    except StorageError as exc:
        found = evidence(exc)

    assert found == expected


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@settings(max_examples=60, suppress_health_check=SAME_STORAGE)
@given(OPERATIONS)
def test_a_batch_is_its_calls_one_by_one(storage: Storage, operations: list[Operation]) -> None:
    compare(storage, operations)


@settings(max_examples=6, suppress_health_check=SAME_STORAGE)
@given(OPERATIONS)
def test_a_batch_equals_its_calls_on_every_backend(
    storage: Storage, operations: list[Operation]
) -> None:
    compare(storage, operations)


@pytest.mark.slow
@settings(max_examples=500, suppress_health_check=SAME_STORAGE)
@given(OPERATIONS)
def test_a_batch_equals_its_calls_in_many_examples(
    storage: Storage, operations: list[Operation]
) -> None:
    compare(storage, operations)
