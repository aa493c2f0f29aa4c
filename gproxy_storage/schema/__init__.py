"""The schema: what the models want, what the database has, and the way from one to the other."""

LOCK_TIMEOUT_S = 30.0
"""How long a sync waits for locks in all."""
