"""Sums by time bucket on SQLite: one range of the time's index a bucket.

GROUP BY would compute the bucket of every row and sort the rows by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import peewee
from peewee import SQL, Case, fn

MOST_RANGES = 1_000
"""Above so many buckets rows are grouped instead.

Ranges are faster from about ten rows a bucket on, and an empty one takes 6 us: this many lose at
most some milliseconds.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_ranges(first: str, last: str, starts: range) -> Iterator[tuple[str, str]]:
    """Return the first and the last time of each of a period's buckets, as text.

    Args:
        first, last: of the period, as stored.
        starts: of its buckets, in Unix seconds.
    """
    # Times are compared as text, and those of one second may end with "Z", ".5Z" or "+00:00". "~"
    # sorts after all of these: no stored time equals a bound between two buckets.
    seconds_before = (_EPOCH + timedelta(seconds=start - 1) for start in starts[1:])
    bounds = [f"{at.isoformat()[:19]}~" for at in seconds_before]
    return zip([first, *bounds], [*bounds, last], strict=True)


def range_sums(
    rows: Any,
    column: peewee.Field[Any],
    ranges: Iterable[tuple[str, str]],
    sums: Sequence[Any],
) -> peewee.Select:
    """Return a query for each range's position, and the JSON array of the sums over its rows.

    NULL instead of the array where there are no rows.
    """
    # A scalar subquery: a join would need GROUP BY. And bounds in JSON: the text of UNION ALL grows
    # with the number of ranges.
    each = fn.JSON_EACH(json.dumps(list(ranges))).alias("each")
    first, last = (fn.JSON_EXTRACT(SQL("each.value"), f"$[{place}]") for place in range(2))
    packed = Case(None, [(fn.COUNT(SQL("*")) > 0, fn.JSON_ARRAY(*sums))])
    in_range = rows.select(packed).where(column.between(first, last))
    return peewee.Select([each], [SQL("each.key"), in_range])
