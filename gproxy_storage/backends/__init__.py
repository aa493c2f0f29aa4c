"""The backends: what each database does its own way."""

from .base import Backend
from .failures import Failure

__all__ = ["Backend", "Failure"]
