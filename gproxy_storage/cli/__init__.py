"""The command ``gproxy-storage``."""

from .main import main

__all__ = ["main"]
