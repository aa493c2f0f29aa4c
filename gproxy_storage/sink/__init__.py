"""The background writer of usage and request logs: fast as the driver, and nothing lost."""

from .settings import SinkSettings
from .sink import Sink
from .stats import SinkStats

__all__ = ["Sink", "SinkSettings", "SinkStats"]
