"""The addresses that the kernel takes for the host's own, of both IP versions, in the calling thread's namespace."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

_NET = Path("/proc/thread-self/net")  # as /proc/net is the main thread's
_LEAF = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def local_addresses() -> set[str]:
    """Every local address but 127.0.0.0/8's other than 127.0.0.1 (proc(5): ``fib_trie``, ``if_inet6``).

    Raises OSError.
    """
    found = {str(IPv4Address(text)) for text in _LEAF.findall((_NET / "fib_trie").read_text())}
    try:
        lines = (_NET / "if_inet6").read_text().splitlines()
    except FileNotFoundError:  # a kernel without IPv6
        lines = []
    return found | {str(IPv6Address(int(line.split()[0], 16))) for line in lines}


def address_towards(destination: str) -> str:
    """The address that the kernel would send from to ``destination``; empty without a route. Nothing is sent."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            probe.connect((destination, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""
