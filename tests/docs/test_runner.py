"""What runs the pages' code notices where a page is wrong."""

from __future__ import annotations

import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from gproxy_storage import Dsn
from tests import servers
from tests.docs.pages import Block, blocks
from tests.docs.player import FailureError, Names, Player, Shell
from tests.docs.test_pages import databases, play

GOOD = """\
% setup:
% from decimal import Decimal
% cost = Decimal("0.5")

Text, then a session.

```pycon
>>> cost
Decimal('0.5')
>>> 1 / 0
Traceback (most recent call last):
  ...
ZeroDivisionError: division by zero
```

````{note}
```{code-block} python
:caption: app/main.py

print("written")
```

1. ```console
   $ export ANSWER=42
   $ python app/main.py
   written
   $ cat <<END
   > $ANSWER
   > END
   42
   $ (echo one; echo two >&2;
   > exit 3)
   one
   t...o
   $ echo $?
   3
   $ sleep 1000 &
   ```
````

```python
import os

assert os.environ["ANSWER"] == "42"
```

% not run: it would fail, and the page says so
```console
$ false
```

```toml
cost = 1
```
"""

BAD = {
    "pycon": [">>> 1\n2\n", "1\n", ">>> 1 / 0\n"],
    "python": ["1 / 0\n", "raise SystemExit\n", "if\n"],
    "console": [
        "$ echo a\nb\n",
        "$ echo a\na\nb\n",
        "$ false\n",
        "$ false\n$ true\n",
        "$ echo 'a\n",
        "echo a\n",
        "$ exit\n",
    ],
}


def test_a_page_that_is_right(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(GOOD)
    assert [(each.line, each.language, each.runs) for each in blocks(page)] == [
        (2, "python", True),
        (8, "pycon", True),
        (20, "python", False),
        (24, "console", True),
        (42, "python", True),
        (49, "console", False),
        (53, "toml", False),
    ]
    (tmp_path / "empty").mkdir()
    assert play(page, {}, tmp_path / "empty") == (0, "")


@pytest.mark.parametrize(
    ("language", "code"), [(language, code) for language, codes in BAD.items() for code in codes]
)
def test_what_is_wrong_is_noticed(language: str, code: str, tmp_path: Path) -> None:
    with closing(Shell()) as shell:
        player = Player(Names({}), shell)
        with pytest.raises(FailureError):
            player.play(Block(tmp_path / "page.md", 1, language, code))


@pytest.mark.parametrize("backend", servers.SERVER_BACKENDS, indirect=True)
def test_dsns_on_pages_lead_to_databases_of_the_tests(
    backend: str, server: servers.Server, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    dsn = f"{backend}://gproxy:secret@127.0.0.1:1234/gproxy"
    page = tmp_path / "page.md"
    page.write_text(
        textwrap.dedent(f"""\
        ```console
        $ export GPROXY_DSN='{dsn}?max_connections=3'
        ```

        ```pycon
        >>> from gproxy_storage import Storage
        >>> Storage.open(sync=False)
        <Storage {Dsn.parse(dsn)}?max_connections=3>
        ```
        """)
    )
    (tmp_path / "empty").mkdir()
    with databases(page, request) as dsns:
        assert list(dsns) == [dsn]
        assert play(page, dsns, tmp_path / "empty") == (
            0,
            "secrets are stored in the clear: set DATABASE_SECRET_KEY to encrypt them "
            "(`gproxy-storage keygen` makes one)\n",
        )
