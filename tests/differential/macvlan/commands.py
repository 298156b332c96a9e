"""The docker commands about macvlan networks that are compared (``commands.txt``), and the LAN that they are run on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_DIFFERENCES: dict[str, tuple[str, ...]] = {}
DIFFERENCES = {line: reason for reason, lines in _DIFFERENCES.items() for line in lines}
"""Commands that Tare answers otherwise on purpose, and why. What follows a ``#`` tells equal lines apart."""

COMMANDS = [
    line
    for line in Path(__file__).with_name("commands.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@contextmanager
def cable(inside: Sequence[str] = ()) -> Iterator[None]:
    """The cable tmac0 - tmac1; ``inside`` is what runs a program in the engine's network namespace."""

    def ip(*words: str) -> None:
        subprocess.run([*inside, "ip", "link", *words], check=True)

    ip("add", "tmac0", "type", "veth", "peer", "name", "tmac1")
    try:
        ip("set", "tmac0", "up")
        ip("set", "tmac1", "up")
        yield
    finally:
        ip("del", "tmac0")
