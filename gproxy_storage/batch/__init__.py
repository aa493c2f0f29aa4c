"""WriteBatch: many writes over all aggregates, held back, then made in one transaction.

A batch goes down these modules: `recording` takes the calls, `calls` holds them, `writing` writes
what they come to.
"""

from .batch import BatchReport, WriteBatch

__all__ = ["BatchReport", "WriteBatch"]
