"""The catalog: models of providers and their pricing."""

from __future__ import annotations

from typing import Any

import pytest

from gproxy_storage import Storage
from gproxy_storage.errors import ConflictError, InvalidValue, MissingReference, ReadError
from gproxy_storage.models import LLMModel, Provider
from tests.contract.support import insert
from tests.support import recorded

PRICING: dict[str, Any] = {"input": 0.1, "output": [1e22, 1 / 3, None], "é": {"per": 1_000_000}}


@pytest.fixture
def provider(storage: Storage) -> Provider:
    with storage.session():
        return insert(Provider)


def test_a_model_is_created_and_found(storage: Storage, provider: Provider) -> None:
    model = storage.catalog.create(provider, "gpt-4.1", display_name="GPT", pricing=PRICING)

    stored = storage.catalog.find(provider.id, "gpt-4.1")
    assert stored is not None
    assert stored.__data__ == model.__data__ == storage.catalog.get(model.id).__data__
    assert isinstance(stored.pricing_json, str)
    assert storage.catalog.pricing(stored) == PRICING
    assert (stored.enabled, stored.display_name) == (True, "GPT")
    assert storage.catalog.find(provider, "GPT-4.1") is None
    with pytest.raises(ConflictError) as caught:
        storage.catalog.create(provider.id, "gpt-4.1")
    assert (caught.value.table, caught.value.fields) == ("models", ("provider_id", "model_id"))


def test_upsert_creates_and_then_changes(storage: Storage, provider: Provider) -> None:
    with storage.session():
        other = insert(Provider)
    first = storage.catalog.upsert(provider, "m", pricing=[1], enabled=False)
    elsewhere = storage.catalog.upsert(other, "m")
    second = storage.catalog.upsert(provider.id, "m", display_name="M")

    assert storage.catalog.list() == [first, elsewhere] == [second, elsewhere]
    stored = storage.catalog.get(first.id)
    assert (stored.display_name, stored.enabled, stored.pricing_json) == ("M", True, None)
    assert storage.catalog.pricing(stored) is None
    assert stored.created_at == first.created_at < stored.updated_at


def test_a_model_is_enabled_disabled_and_changed(storage: Storage, provider: Provider) -> None:
    model = storage.catalog.create(provider, "m", pricing=PRICING)
    storage.catalog.create(provider, "n")

    assert storage.catalog.disable(model.id).enabled is False
    assert storage.catalog.list(enabled=False) == [model]
    assert storage.catalog.enable(model.id).enabled is True
    assert storage.catalog.update(model.id, display_name="x").pricing_json == model.pricing_json
    assert storage.catalog.pricing(storage.catalog.update(model.id, pricing=[{}])) == [{}]
    assert storage.catalog.update(model.id, pricing=None).pricing_json is None
    with pytest.raises(ConflictError):
        storage.catalog.update(model.id, model_id="n")
    assert storage.catalog.list(provider_id=provider.id, model_id=["m"]) == [model]
    assert storage.catalog.count(enabled=True, provider_id=[]) == 0


BAD: list[tuple[dict[str, Any], str]] = [
    ({"model_id": " "}, "model_id"),
    ({"model_id": "x" * 256}, "model_id"),
    ({"model_id": None}, "model_id"),
    ({"enabled": 1}, "enabled"),
    ({"enabled": None}, "enabled"),
    ({"display_name": 1}, "display_name"),
    ({"pricing": "{}"}, "pricing"),
    ({"pricing": "{not JSON"}, "pricing"),
    ({"pricing": 1.5}, "pricing"),
    ({"pricing": {"a": float("nan")}}, "pricing"),
    ({"pricing": {"a": object()}}, "pricing"),
    ({"provider": "openai"}, "provider"),
    ({"provider": True}, "provider"),
    ({"provider": 10**12}, "provider"),
]


def test_bad_input_is_refused(storage: Storage, provider: Provider) -> None:
    for given, argument in BAD:
        values = {"provider": provider, "model_id": "m", **given}
        for call in (storage.catalog.create, storage.catalog.upsert):
            with recorded(storage.database) as statements, pytest.raises(InvalidValue) as caught:
                call(**values)
            assert caught.value.argument == argument
            assert isinstance(caught.value, MissingReference) or len(statements) <= 1  # BEGIN
    assert storage.catalog.count() == 0


def test_pricing_that_another_program_stored_badly(storage: Storage, provider: Provider) -> None:
    with storage.session():
        model = insert(LLMModel, provider=provider, pricing_json="{zebra")
    with pytest.raises(ReadError, match=rf"pricing_json .* id {model.id} ") as caught:
        storage.catalog.pricing(storage.catalog.get(model.id))
    assert "zebra" not in str(caught.value)
