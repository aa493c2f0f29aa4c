"""WriteBatch: many writes over all aggregates, coalesced, then made in one transaction.

A batch goes down these modules: `recording` takes the calls, `operations` is what it keeps of
them, `stored` reads what the database has of what they name, `net` replays them in memory to what
is left to do, `writing` does it.
"""

from .batch import BatchReport, WriteBatch

__all__ = ["BatchReport", "WriteBatch"]
