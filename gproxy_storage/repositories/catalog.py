"""The catalog: the models that providers offer, with their prices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias, TypedDict, Unpack

from ..errors import InvalidValue, ReadError
from ..models import LLMModel, Provider
from .arguments import KEEP, require_json
from .base import Change, Repository
from .reading import Filter

Pricing: TypeAlias = dict[str, Any] | list[Any]
"""A JSON object or array; the proxy defines its content."""


class CatalogFilters(TypedDict, total=False):
    """The filters of models."""

    provider_id: Filter[int]
    model_id: Filter[str]
    enabled: Filter[bool]


class Catalog(Repository[LLMModel]):
    """The LLM models of providers. Their table is ``models``."""

    model = LLMModel
    filters = CatalogFilters
    not_blank = ("model_id",)

    def create(
        self,
        provider: Provider | int,
        model_id: str,
        *,
        display_name: str | None = None,
        enabled: bool = True,
        pricing: Pricing | None = None,
    ) -> LLMModel:
        """Add a model to a provider.

        Args:
            model_id: the provider's name for it, for example ``gpt-4.1-mini``.
            pricing: a JSON object or array, stored as text.
        Raises:
            ConflictError: when the provider has a model with that name.
            MissingReference: when there is no such provider.
            InvalidValue: when the name is blank or too long, or the pricing is not JSON.
        """
        return self._create(**_values(provider, model_id, display_name, enabled, pricing))

    def upsert(
        self,
        provider: Provider | int,
        model_id: str,
        *,
        display_name: str | None = None,
        enabled: bool = True,
        pricing: Pricing | None = None,
    ) -> LLMModel:
        """Add a model to a provider, or replace all values of the one with that name.

        `created_at` is kept.

        Raises:
            MissingReference: when there is no such provider.
            InvalidValue: when the name is blank or too long, or the pricing is not JSON.
        """
        return self._create_or_update(_values(provider, model_id, display_name, enabled, pricing))

    def update(
        self,
        row_id: int,
        *,
        model_id: Change[str] = KEEP,
        display_name: Change[str | None] = KEEP,
        enabled: Change[bool] = KEEP,
        pricing: Change[Pricing | None] = KEEP,
    ) -> LLMModel:
        """Change the given values of a model and return it.

        Args:
            row_id: the row's id, not the provider's name for the model.
        Raises:
            NotFoundError: when there is no such row.
            ConflictError: when the provider has another model with that name.
            InvalidValue: when the name is blank or too long, or the pricing is not JSON.
        """
        changes = {
            "model_id": model_id,
            "display_name": display_name,
            "enabled": enabled,
            "pricing_json": KEEP if pricing is KEEP else _pricing_text(pricing),
        }
        return self._update(row_id, changes)

    def enable(self, row_id: int) -> LLMModel:
        """Enable a model and return it.

        Raises:
            NotFoundError: when there is no such row.
        """
        return self._update(row_id, {"enabled": True})

    def disable(self, row_id: int) -> LLMModel:
        """Disable a model and return it.

        Raises:
            NotFoundError: when there is no such row.
        """
        return self._update(row_id, {"enabled": False})

    @staticmethod
    def pricing(model: LLMModel) -> Any:
        """Return a model's pricing as a JSON value; None if there is none.

        Raises:
            ReadError: when another program stored a value that is not JSON.
        """
        if model.pricing_json is None:
            return None
        try:
            return json.loads(model.pricing_json)
        except (RecursionError, ValueError):
            raise ReadError(
                f"models.pricing_json of the row with id {model.id} is not valid JSON"
            ) from None

    def find(self, provider: Provider | int, model_id: str) -> LLMModel | None:
        """Return a provider's model by the provider's name for it, or None."""
        return self._find(provider=provider, model_id=model_id)

    def list(
        self,
        *,
        after_id: int | None = None,
        limit: int | None = None,
        **filters: Unpack[CatalogFilters],
    ) -> list[LLMModel]:
        """Return the matching models by id: the first `limit` after `after_id`."""
        return self._list(after_id=after_id, limit=limit, **filters)

    def iter(self, **filters: Unpack[CatalogFilters]) -> Iterator[LLMModel]:
        """Iterate over the matching models by id, reading them in batches."""
        return self._iter(**filters)

    def count(self, **filters: Unpack[CatalogFilters]) -> int:
        """Return the number of matching models."""
        return self._count(**filters)


def _values(
    provider: Provider | int,
    model_id: str,
    display_name: str | None,
    enabled: bool,
    pricing: Pricing | None,
) -> dict[str, Any]:
    return {
        "provider": provider,
        "model_id": model_id,
        "display_name": display_name,
        "enabled": enabled,
        "pricing_json": _pricing_text(pricing),
    }


def _pricing_text(pricing: Any) -> str | None:
    if pricing is None:
        return None
    if not isinstance(pricing, dict | list):
        raise InvalidValue(
            f"pricing must be a dict or a list, because it is stored as JSON; "
            f"not {type(pricing).__name__}",
            argument="pricing",
        )
    return require_json("pricing", pricing)
