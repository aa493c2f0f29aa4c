"""Settings: the single row of settings of the whole proxy."""

from __future__ import annotations

from typing import Any

from ..dsn import Dsn
from ..errors import DSNError, InvalidValue
from ..models import GlobalSettings
from .arguments import KEEP, require_id, require_str
from .base import BaseRepository, Change

_ID = 1  # of the only row, so it does not matter that the sequence does not know of it
_PORTS = range(2**16)

DEFAULTS: dict[str, Any] = {
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
"""The values until they are set; the default of `dsn` is the DSN of the database itself."""


class ProxySettings(BaseRepository[GlobalSettings]):
    """The settings of the proxy, a single row that the first update creates."""

    model = GlobalSettings
    not_blank = ("host", "dsn", "data_dir")

    def get(self) -> GlobalSettings:
        """Return the settings, or the defaults with `updated_at` None if none were ever set."""
        row = self._find(id=_ID)
        return self.model(id=_ID, **self._defaults()) if row is None else row

    def update(
        self,
        *,
        host: Change[str] = KEEP,
        port: Change[int] = KEEP,
        proxy: Change[str | None] = KEEP,
        spoof_emulation: Change[str | None] = KEEP,
        dsn: Change[str | Dsn] = KEEP,
        data_dir: Change[str] = KEEP,
        enable_usage: Change[bool] = KEEP,
        enable_upstream_log: Change[bool] = KEEP,
        enable_upstream_log_body: Change[bool] = KEEP,
        enable_downstream_log: Change[bool] = KEEP,
        enable_downstream_log_body: Change[bool] = KEEP,
        update_channel: Change[str | None] = KEEP,
    ) -> GlobalSettings:
        """Change the given values of the settings and return them all.

        Args:
            port: 0 to 65535.
            dsn: stored with its password masked.
        Raises:
            InvalidValue: when a value is not valid in its column, or the DSN cannot be parsed.
        """
        given = {
            "host": host,
            "port": port if port is KEEP else _require_port(port),
            "proxy": proxy,
            "spoof_emulation": spoof_emulation,
            "dsn": dsn if dsn is KEEP else _masked(dsn),
            "data_dir": data_dir,
            "enable_usage": enable_usage,
            "enable_upstream_log": enable_upstream_log,
            "enable_upstream_log_body": enable_upstream_log_body,
            "enable_downstream_log": enable_downstream_log,
            "enable_downstream_log_body": enable_downstream_log_body,
            "update_channel": update_channel,
        }
        changes = {name: value for name, value in given.items() if value is not KEEP}
        if not changes:
            return self.get()
        values = self._prepared({"id": _ID, **self._defaults(), **changes})
        return self._insert_or_update(lambda: self._first(id=_ID), values, changes)

    def _defaults(self) -> dict[str, Any]:
        return {**DEFAULTS, "dsn": str(self._database.dsn)}


def _require_port(port: Any) -> int:
    if require_id("port", port) not in _PORTS:
        raise InvalidValue("port must be between 0 and 65535", argument="port")
    return int(port)


def _masked(dsn: str | Dsn) -> str:
    if isinstance(dsn, Dsn):
        return str(dsn)
    try:
        return str(Dsn.parse(require_str("dsn", dsn)))
    except DSNError as exc:
        raise InvalidValue(f"dsn: {exc}", argument="dsn") from exc
