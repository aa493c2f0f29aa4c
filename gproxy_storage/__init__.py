"""Storage for LLM proxies: one DSN picks SQLite, PostgreSQL or MySQL."""

__version__ = "0.1.0"
