"""Encryption at rest: start-up, the check of queries, and the operations that change keys."""
