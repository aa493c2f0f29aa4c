"""The backends: one for each database, behind the interface of `Backend`."""

from .base import Backend
from .failures import Failure

__all__ = ["Backend", "Failure"]
