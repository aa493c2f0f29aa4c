"""WriteBatch: records many writes to all tables, then makes them in one transaction.

`recording` has the repositories that record calls, `calls` holds the calls, `writing` makes them.
"""

from .batch import BatchReport, WriteBatch

__all__ = ["BatchReport", "WriteBatch"]
