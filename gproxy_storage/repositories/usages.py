"""Usages: what calls used and cost, and the users' quotas that they count against."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from peewee import fn

from ..errors import InvalidValue, MissingReference
from ..models import Usage, UserQuota
from .base import ANY, Absent, Filter, Repository, now

_TOKENS = (
    Usage.input_tokens,
    Usage.output_tokens,
    Usage.cache_read_input_tokens,
    Usage.cache_creation_input_tokens,
    Usage.cache_creation_input_tokens_5min,
    Usage.cache_creation_input_tokens_1h,
)
_PARENTS = (Usage.provider, Usage.credential, Usage.user, Usage.user_key)


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """Sums over usages; tokens are int and cost is float on every backend."""

    count: int
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cache_creation_input_tokens_5min: int
    cache_creation_input_tokens_1h: int
    cost: float


class Usages(Repository[Usage]):
    """What calls used and cost."""

    model = Usage

    def record(
        self,
        *,
        user_id: int | None = None,
        user_key_id: int | None = None,
        provider_id: int | None = None,
        credential_id: int | None = None,
        operation: str = "generate",
        protocol: str = "openai",
        model: str | None = None,
        cost: float = 0.0,
        at: datetime | None = None,
        downstream_trace_id: int | None = None,
        **tokens: int | None,
    ) -> Usage:
        """Store a usage and add its cost to the user's quota, in one transaction.

        A user, key, provider or credential that no longer exists becomes NULL: what a call cost
        is kept whatever happens to who made it.

        Args:
            cost: in the currency of the quotas, finite and >= 0.
            at: when the call was made; now where absent.
            tokens: ``input_tokens``, ``output_tokens``, ``cache_read_input_tokens``,
                ``cache_creation_input_tokens`` and its ``_5min`` and ``_1h``, each >= 0.
        Raises:
            InvalidValue: when a number is negative or not finite, or `at` has no time zone.
            TypeError: when a token count has another name.
        """
        _check_numbers(cost, tokens)
        stored_at = now()
        values = {
            "downstream_trace_id": downstream_trace_id,
            "at": at or stored_at,
            "provider_id": provider_id,
            "credential_id": credential_id,
            "user_id": user_id,
            "user_key_id": user_key_id,
            "operation": operation,
            "protocol": protocol,
            "model": model,
            "cost": cost,
            "created_at": stored_at,
            **tokens,
        }
        try:
            return self._write(lambda: self._record(values))
        except MissingReference:
            return self._write(lambda: self._record(self._without_deleted(values)))

    def summarize(
        self,
        *,
        user_id: Filter[int | None] = ANY,
        user_key_id: Filter[int | None] = ANY,
        provider_id: Filter[int | None] = ANY,
        model: Filter[str | None] = ANY,
        since: datetime | Absent = ANY,
        until: datetime | Absent = ANY,
    ) -> UsageSummary:
        """Sum up the usages that fit; both time bounds are inclusive."""
        query = self._select(
            user_id=user_id, user_key_id=user_key_id, provider_id=provider_id, model=model
        )
        if since is not ANY:
            query = query.where(Usage.at >= _bound("since", since))
        if until is not ANY:
            query = query.where(Usage.at <= _bound("until", until))
        sums = [fn.COALESCE(fn.SUM(column), 0) for column in (*_TOKENS, Usage.cost)]
        columns = [fn.COUNT(Usage.trace_id), *sums]
        row: tuple[Any, ...] = self._read(lambda: query.select(*columns).tuples()[0])
        # SUM is an int, a float or a Decimal, depending on the backend.
        numbers: list[Any] = [*map(int, row[:-1]), float(row[-1])]
        return UsageSummary(*numbers)

    def _record(self, values: dict[str, Any]) -> Usage:
        usage = Usage(**values)
        usage.save(force_insert=True)
        if usage.user_id is not None:
            quota = {
                "cost_used": UserQuota.cost_used + usage.cost,
                "updated_at": usage.created_at,
            }
            insert = UserQuota.insert(
                user=usage.user_id, quota=0.0, cost_used=usage.cost, updated_at=usage.created_at
            )
            self._database.on_conflict(insert, [UserQuota.user], quota).execute()
        return usage

    def _without_deleted(self, values: dict[str, Any]) -> dict[str, Any]:
        kept = dict(values)
        for parent in _PARENTS:
            name, target = parent.column_name, parent.rel_model
            if kept[name] is not None and target.get_or_none(target.id == kept[name]) is None:
                kept[name] = None
        return kept


def _bound(argument: str, at: Any) -> Any:
    """Refuse None, to which SQL compares nothing: the sum of no rows would look like an answer."""
    if at is None:
        raise InvalidValue(f"{argument} must be a datetime, or left out", argument=argument)
    return at


def _check_numbers(cost: float, tokens: dict[str, int | None]) -> None:
    known = {field.name for field in _TOKENS}
    for name, count in tokens.items():
        if name not in known:
            raise TypeError(f"record() got an unexpected keyword argument {name!r}")
        if count is not None and count < 0:
            raise InvalidValue(f"{name} must be >= 0", argument=name)
    if not cost >= 0:  # NaN too
        raise InvalidValue("cost must be finite and >= 0", argument="cost")
