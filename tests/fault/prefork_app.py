"""A WSGI application that is loaded before its server forks.

Each request looks up API keys, and puts a usage into a sink.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from gproxy_storage import Storage

KEYS = 20

storage = Storage.connect(os.environ["DSN"], data_dir=os.environ["DATA_DIR"])
plaintexts = [
    storage.keys.create(storage.users.upsert(f"user{number}"))[1] for number in range(KEYS)
]
master = os.getpid()
storage.users.count()  # a connection is idle in the pool when the server forks
warnings.simplefilter("ignore")
sink = storage.sink()  # last: the server forks just after it


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Look up the keys from /FIRST/BEFORE, and answer with what was wrong."""
    first, before = map(int, environ["PATH_INFO"].strip("/").split("/"))
    wrong, errors = 0, []
    for number in range(first, before):
        asked = number % KEYS
        try:
            key = storage.keys.authenticate(plaintexts[asked])
        except Exception as exc:
            errors.append(f"{type(exc).__name__}: {exc}")
        else:
            wrong += key is None or key.user.name != f"user{asked}"
    try:
        sink.submit_usage(downstream_trace_id=first)
        if not sink.flush(60):
            errors.append(f"not flushed: {sink.stats()}")
        if sink.stats().spooled:
            errors.append(f"spooled: {sink.stats()}")
    except Exception as exc:
        errors.append(f"{type(exc).__name__}: {exc}")
    told = {
        "pid": os.getpid(),
        "wrong": wrong,
        "errors": errors,
        "is_master": os.getpid() == master,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]
