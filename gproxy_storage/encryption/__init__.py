"""Encryption at rest: start-up, the guard of queries, and the commands that change keys."""
