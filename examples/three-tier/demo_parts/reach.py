"""Who reaches whom: connections opened from inside each container's network namespace.

Run as a program it is the probe itself: it reads addresses and names as JSON from standard input, tries them all at
once and prints the outcome. It needs nothing of the container's files, so it works for images without a shell.
"""

from __future__ import annotations

import json
import secrets
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

CONNECT_SECONDS = 1.0
PROBE_SECONDS = 20
RESOLVER = ("127.0.0.11", 53)
RECORD_A = 1
CLASS_IN = 1


@dataclass(frozen=True)
class Place:
    """A container as others see it: its name, address and port; ``pid`` is a process in its namespaces."""

    name: str
    address: str
    port: int
    pid: int


@dataclass(frozen=True)
class Observation:
    """What one container saw of another."""

    connected: bool
    resolved: bool


def observe(source: Place, targets: list[Place]) -> dict[str, Observation]:
    """Try every target by address and by name from the network namespace of ``source``."""
    request = json.dumps([[target.name, target.address, target.port] for target in targets])
    probe = ["nsenter", "--target", str(source.pid), "--net", sys.executable, "-I", __file__]
    done = subprocess.run(probe, input=request, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"the probe in {source.name} failed: {done.stderr.strip()}")
    answers: dict[str, dict[str, bool]] = json.loads(done.stdout)
    return {name: Observation(**answer) for name, answer in answers.items()}


def _connects(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _resolves(name: str) -> bool:
    """Whether the network's own name server has an address for ``name`` (a query by RFC 1035, section 4)."""
    identifier = secrets.randbits(16)
    question = bytes([len(name)]) + name.encode("ascii") + b"\0" + struct.pack("!HH", RECORD_A, CLASS_IN)
    query = struct.pack("!6H", identifier, 0x0100, 1, 0, 0, 0) + question
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection:
            connection.settimeout(CONNECT_SECONDS)
            connection.connect(RESOLVER)
            connection.send(query)
            answer = connection.recv(512)
    except OSError:
        return False
    got, flags, _questions, answers, *_ = struct.unpack("!6H", answer[:12])
    return bool(got == identifier and flags & 0xF == 0 and answers > 0)


def _probe() -> None:
    targets: list[Any] = json.load(sys.stdin)
    with ThreadPoolExecutor(max_workers=2 * len(targets)) as pool:
        connected = {name: pool.submit(_connects, address, port) for name, address, port in targets}
        resolved = {name: pool.submit(_resolves, name) for name, _address, _port in targets}
        result = {
            name: {"connected": connected[name].result(), "resolved": resolved[name].result()} for name in connected
        }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    _probe()
