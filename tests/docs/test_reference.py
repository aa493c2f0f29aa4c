"""Every error is in the reference with its cause and remedy; docs/complete.py checks the rest."""

from __future__ import annotations

import gproxy_storage
from gproxy_storage import StorageError
from gproxy_storage.batch.recording import NOT_RECORDED
from tests.docs.pages import DOCS


def test_every_error_has_its_cause_and_remedy() -> None:
    lines = (DOCS / "reference" / "errors.md").read_text().splitlines()
    table = "".join(line for line in lines if line.startswith("|"))
    for name, kind in vars(gproxy_storage.errors).items():
        if isinstance(kind, type) and issubclass(kind, StorageError) and kind is not StorageError:
            assert f"`{name}`" in table, name


def test_verbs_that_a_batch_refuses_are_named() -> None:
    page = (DOCS / "reference" / "batches.md").read_text()
    for verb in NOT_RECORDED:
        assert f"`{verb}`" in page, f"docs/reference/batches.md: name `{verb}`"
