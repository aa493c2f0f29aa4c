"""The background writer of usage and request logs: fast as the driver, and nothing lost."""
