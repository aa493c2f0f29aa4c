"""The background writer of usage and request logs: fast as the driver, and nothing lost."""

from .cipher import KeyCipher
from .engine import replay
from .inspection import SpoolReport, look_at
from .leftovers import Replayed
from .settings import SinkSettings
from .sink import Sink
from .stats import SinkStats

__all__ = [
    "KeyCipher",
    "Replayed",
    "Sink",
    "SinkSettings",
    "SinkStats",
    "SpoolReport",
    "look_at",
    "replay",
]
