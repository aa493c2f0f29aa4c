"""``python -m gproxy_storage``: the same as ``gproxy-storage``."""

from .cli import main

main(prog_name="python -m gproxy_storage")
