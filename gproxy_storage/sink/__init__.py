"""The background writer of usage and request logs: close to the driver's speed, nothing lost."""
