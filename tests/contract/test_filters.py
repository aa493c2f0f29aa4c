"""Any filters together select what the same filters select in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gproxy_storage import Storage
from gproxy_storage.models import User, UserKey
from gproxy_storage.repositories.reading import ANY
from tests.cases import for_each
from tests.contract.support import insert, refused_unasked
from tests.support import SQLITE_ALONE, recorded

LABELS = ["", "a", "A", "a ", "é", None]
MISSING_ID = 10**12


def one_or_several(values: list[Any]) -> st.SearchStrategy[Any]:
    """What a filter may be given: a value, or a list, tuple or set of some."""
    value = st.sampled_from(values)
    several = st.lists(value, max_size=5)
    return several | several.map(tuple) | several.map(set) | value


filters = st.fixed_dictionaries(
    {
        # Users by their place in the fixture; one more is a row that is not there.
        "user_id": st.just(ANY) | one_or_several([*range(4)]),
        "label": one_or_several([*LABELS, "zebra"]) | st.just(ANY),
        "enabled": st.just(ANY) | one_or_several([True, False]),
    }
)


@pytest.fixture
def keys(storage: Storage) -> Iterator[list[UserKey]]:
    """Keys of three users, in one session."""
    with storage.session():
        with storage.transaction():
            users = [insert(User) for _ in range(3)]
            for number in range(8):
                insert(
                    UserKey,
                    user=users[number % 3],
                    label=LABELS[number % len(LABELS)],
                    enabled=number % 2 == 0,
                )
        yield storage.keys.list()


def fits(row: UserKey, name: str, wanted: Any) -> bool:
    if wanted is ANY:
        return True
    several = wanted if isinstance(wanted, list | tuple | set) else [wanted]
    return getattr(row, name) in several


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=filters, after=st.none() | st.integers(0, 7), limit=st.none() | st.integers(0, 9))
def test_any_filters_select_the_rows_that_match_all(
    storage: Storage,
    keys: list[UserKey],
    drawn: dict[str, Any],
    after: int | None,
    limit: int | None,
) -> None:
    user_ids = [*sorted({key.user_id for key in keys}), MISSING_ID]

    def placed(value: Any) -> Any:
        if value is ANY:
            return value
        if isinstance(value, int):
            return user_ids[value]
        return type(value)(user_ids[each] for each in value)

    asked: Any = {
        name: placed(value) if name == "user_id" else value for name, value in drawn.items()
    }
    expected = [
        key for key in keys if all(fits(key, name, wanted) for name, wanted in asked.items())
    ]

    assert storage.keys.list(**asked) == list(storage.keys.iter(**asked)) == expected
    assert storage.keys.count(**asked) == len(expected)
    after_id = None if after is None else keys[after].id
    page = [key for key in expected if after_id is None or key.id > after_id][:limit]
    assert storage.keys.list(**asked, after_id=after_id, limit=limit) == page


# -- long lists ---------------------------------------------------------------------------------

# More parameters than SQLite takes however it was compiled, and than a server's protocol does.
MANY = {"sqlite": 300_000, "postgres": 70_000, "mysql": 70_000, "mariadb": 70_000}


def test_a_filter_takes_however_many_values(storage: Storage, backend: str) -> None:
    users = [storage.users.create(name) for name in ("a", "é", "'\\%s\"", "😀")]
    for user in users[:2]:
        storage.usages.record(user_id=user.id, model="m%s", cost=1)
    storage.usages.record(model="other")
    ids = [user.id for user in users] + [2**63 - 1 - number for number in range(MANY[backend])]
    texts = ["m%s", "é", "'\\%s\"", *(f"x{number}" for number in range(MANY[backend]))]

    with recorded(storage.database) as statements:
        assert [user.id for user in storage.users.list(id=ids)] == ids[:4]
    assert max(map(len, statements.sent)) < 1000  # it is one parameter: many take servers long
    assert [user.name for user in storage.users.list(name=texts)] == ["é", "'\\%s\""]
    assert storage.usages.count(model=set(texts), user_id=ids) == 2
    assert storage.usages.count(user_id=[None, *ids]) == 3
    assert storage.usages.summarize(user_id=tuple(ids[1:])).count == 1
    assert storage.keys.count(enabled=[True] * 101) == 0
    assert storage.users.delete(ids[2:2000]) == 2


@SQLITE_ALONE
@for_each("wrong", ["1", 1.5, True])
def test_what_no_row_can_have_is_refused_in_a_long_list_too(
    storage: Storage, wrong: object
) -> None:
    with refused_unasked(storage, match="id must be an int"):
        storage.users.list(id=[*range(200), wrong])  # type: ignore[list-item]  # refused
