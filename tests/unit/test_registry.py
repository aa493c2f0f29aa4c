"""The table of repositories: complete, and all that must follow from it does."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from gproxy_storage import Storage, log_rows, repositories
from gproxy_storage.batch.recording import NOT_RECORDED
from gproxy_storage.fields import CharField
from gproxy_storage.models import LOG_MODELS, TABLES, EncryptionKeys, SinkWriter, StorageState
from gproxy_storage.repositories.base import BaseRepository
from gproxy_storage.repositories.logs import Log
from gproxy_storage.repositories.registry import Registered, Repositories, registered
from tests.cases import for_each
from tests.processes import run_python

REGISTERED = registered(Storage)
OF_TABLES = {name: kind for name, kind in REGISTERED.items() if issubclass(kind, BaseRepository)}

INTERNAL = {StorageState, EncryptionKeys, SinkWriter}
"""Tables without a repository: the package's own notes."""


def test_every_table_has_one_repository() -> None:
    models = [kind.model for kind in OF_TABLES.values()]
    assert len(models) == len(set(models))
    missing = set(TABLES) - INTERNAL - set(models)
    assert not missing, f"add their repositories to repositories/registry.py: {missing}"
    assert set(models) | INTERNAL == set(TABLES)


def test_every_class_is_registered() -> None:
    for path in Path(*repositories.__path__).glob("*.py"):
        module = import_module(f"{repositories.__name__}.{path.stem}")
        kinds = [each for each in vars(module).values() if isinstance(each, type)]
        missing = {
            kind for kind in kinds if issubclass(kind, BaseRepository) and "model" in vars(kind)
        } - {*OF_TABLES.values()}
        assert not missing, f"add them to repositories/registry.py: {missing}"


def test_types_are_those_of_the_classes() -> None:
    """What type checkers read, an annotation, names the class that is made."""
    owners: list[type[Repositories]] = [*Storage.__mro__[:-1], REGISTERED["access"].__mro__[1]]
    found = {
        name: (owner.__annotations__[name], f"Registered[{each.kind.__name__}]")
        for owner in owners
        for name, each in vars(owner).items()
        if isinstance(each, Registered)
    }
    assert len(found) > 15
    for name, (annotated, made) in found.items():
        assert annotated == made, name


@pytest.fixture
def storage() -> Any:
    with Storage.connect("sqlite::memory:") as opened:
        yield opened


def test_a_storage_makes_each_once(storage: Storage) -> None:
    for name, kind in REGISTERED.items():
        made = attrgetter(name)(storage)
        assert type(made) is kind
        assert attrgetter(name)(storage) is made


def test_a_batch_has_every_repository(storage: Storage) -> None:
    batch = storage.batch()
    for name, kind in OF_TABLES.items():
        assert isinstance(attrgetter(name)(batch), kind), name


def test_a_batch_says_which_verbs_it_does_not_record() -> None:
    """Those that write otherwise than by the methods that a batch records."""
    for name, kind in OF_TABLES.items():
        for verb, method in inspect.getmembers(kind, inspect.isfunction):
            direct = re.search(r"\bself\._write(_all)?\(", inspect.getsource(method))
            if direct and not verb.startswith("_"):
                assert verb in NOT_RECORDED, f"{name}.{verb}: add it in batch/recording.py"


def test_the_text_of_a_natural_key_is_not_blank() -> None:
    for kind in OF_TABLES.values():
        fields = kind.model._meta.fields
        texts = {name for name in kind.model.natural_key if isinstance(fields[name], CharField)}
        missing = texts - {*kind.not_blank, "model_pattern"}  # which `require_pattern` checks
        assert not missing, f"{kind.__name__}.not_blank: add {missing}"


def test_logs_are_logs_everywhere() -> None:
    logs = {kind.model for kind in OF_TABLES.values() if issubclass(kind, Log)}
    assert logs == set(LOG_MODELS)
    assert tuple(log.model for log in log_rows.LOGS) == LOG_MODELS
    for model in TABLES:
        deletions = {key.on_delete for key in model._meta.refs}
        assert ("SET NULL" in deletions) == model.is_log, "they alone outlive what they refer to"


def test_what_is_upserted_has_a_natural_key() -> None:
    for name, kind in OF_TABLES.items():
        if hasattr(kind, "upsert"):
            assert kind.model.natural_key, name


MEANT: list[tuple[str, str, str]] = [
    ("users.list", "nam", "name"),
    ("users.update", "enabld", "enabled"),
    ("users.upsert", "is_admn", "is_admin"),
    ("keys.iter", "user", "user_id"),
    ("settings.update", "prt", "port"),
    ("access.limits.upsert", "rpn", "rpm"),
    ("access.models.count", "provider", "provider_id"),
    ("quotas.set", "qouta", "quota"),
    ("usages.count", "user", "user_id"),
    ("usages.record", "tokens", "input_tokens"),
    ("usages.summarize_by", "modell", "model"),
    ("upstream_requests.list", "body", "bodies"),
    ("downstream_requests.iter", "path_contain", "path_contains"),
    ("dashboard.overview", "bucket", "bucket_s"),
    ("sink", "flush_row", "flush_rows"),
]


@for_each(("method", "given", "meant"), MEANT)
def test_the_keyword_that_was_meant(storage: Storage, method: str, given: str, meant: str) -> None:
    call = attrgetter(method)(storage)
    refused = rf"^{call.__name__}\(\) got an unexpected keyword argument '{given}'"
    with pytest.raises(TypeError, match=rf"{refused}; did you mean '{meant}'\?"):
        call(**{given: 1})


def test_help_names_the_filters(storage: Storage) -> None:
    assert "Filters: id, name, enabled, is_admin." in str(storage.users.list.__doc__)


INTERRUPTED = """
import posix
from gproxy_storage.repositories.registry import AccessRepositories

stat = posix.stat
limits = []

def late(path, *args, **kwargs):
    if str(path).endswith("limits.py") and not limits:
        limits.append(path)
        raise TimeoutError
    return stat(path, *args, **kwargs)

posix.stat = late  # which importlib calls
print(AccessRepositories.limits.kind.__name__, len(limits))
"""


def test_an_interrupted_import_is_made_again(tmp_path: Path) -> None:
    assert run_python("-c", INTERRUPTED, cwd=tmp_path).stdout == "RateLimits 1\n"
