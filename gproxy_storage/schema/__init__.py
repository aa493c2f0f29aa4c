"""The schema: what the models declare, what the database has, and the sync of the two."""

LOCK_TIMEOUT_S = 30.0
"""How long a sync waits for locks in total."""
