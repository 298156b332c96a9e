#!/usr/bin/env python3
"""How long each image of the catalogue takes to assemble when its packages are here, and how much memory.

    bench/assemble.py [IMAGE…] [--rounds 5] [--cache DIRECTORY]

Every round starts an engine with an empty store, asks it for the image as `docker pull` does, and ends it: nothing but
the cache of packages and indexes is there before. The time is that of the request, the memory the engine's highest
resident size. The table shows the median of the rounds and the highest memory of all of them. Exit status 1 when an
image is over its budget, or when rounds give different images. `tare.local/debian:12`, which dpkg configures in a
container, has no budget. Needs root and Debian's archive.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tare.distroless.recipes import RECIPES

SECONDS = 5.0
MEMORY = 300.0  # MB, as all sizes here
TAG = "12"
WHOLE = "tare.local/debian"
REQUEST_SECONDS = 600


@dataclass(frozen=True)
class Round:
    """One assembly: seconds, the engine's peak in bytes, the image's id, its size in bytes, how many packages."""

    seconds: float
    memory: int
    image: str
    size: int
    packages: int


@dataclass
class Result:
    """All rounds of an image."""

    name: str
    rounds: list[Round] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(one.seconds for one in self.rounds)

    @property
    def memory(self) -> float:
        """The highest of all rounds, in MB."""
        return max(one.memory for one in self.rounds) / 1e6

    def faults(self) -> list[str]:
        """What is wrong with it."""
        found = []
        if len({one.image for one in self.rounds}) != 1:
            found.append("rounds give different images")
        if self.name != WHOLE and self.median > SECONDS:
            found.append(f"over {SECONDS:g} s")
        if self.name != WHOLE and self.memory > MEMORY:
            found.append(f"over {MEMORY:g} MB")
        return found


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the engine's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=REQUEST_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextmanager
def engine(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A ``tared`` that listens at ``root/s`` until the block ends; it leaves nothing but its data."""
    program = Path(sys.executable).with_name("tared")
    ready, told = os.pipe()
    command = [str(program), "--data-root", str(root / "data"), "--run-root", str(root / "run"), "--socket"]
    command += [str(root / "s"), "--stop-containers", "--ready-fd", str(told)]
    log = root / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(told,))
    os.close(told)
    try:
        with os.fdopen(ready, "rb") as stream:
            if not stream.read(1):
                sys.exit(f"the engine does not start:\n{log.read_text()}")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def asked(connection: UnixConnection, method: str, target: str) -> bytes:
    """The answer's body; an error ends the benchmark."""
    connection.request(method, target, headers={"Host": "localhost"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        sys.exit(f"{method} {target}: {body.decode(errors='replace')}")
    return body


def measured(process: subprocess.Popen[bytes], root: Path, name: str) -> Round:
    """Have the engine assemble ``name``."""
    query = urllib.parse.urlencode({"fromImage": name, "tag": TAG})
    connection = UnixConnection(root / "s")
    try:
        begin = time.perf_counter()
        body = asked(connection, "POST", f"/images/create?{query}")
        seconds = time.perf_counter() - begin
        lines = [json.loads(line) for line in body.splitlines()]
        if errors := [line["error"] for line in lines if "error" in line]:
            sys.exit(f"{name}: {errors[0]}")
        counts = [line["status"] for line in lines if line.get("status", "").endswith(" packages")]
        if len(counts) != 1:
            sys.exit(f"{name} was not assembled: {body.decode(errors='replace')}")
        image = json.loads(asked(connection, "GET", f"/images/{urllib.parse.quote(f'{name}:{TAG}')}/json"))
    finally:
        connection.close()
    return Round(seconds, peak(process.pid), image["Id"], image["Size"], int(counts[0].split()[-2]))


def peak(pid: int) -> int:
    """The highest resident size of a process, in bytes (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def one_round(cache: Path, name: str) -> Round:
    """An engine with an empty store and this cache, from start to end."""
    with tempfile.TemporaryDirectory(prefix="tare-ba", dir=cache.parent) as directory:
        root = Path(directory)
        (root / "data").mkdir()
        (root / "data" / "cache").symlink_to(cache)
        with engine(root) as process:
            return measured(process, root, name)


def table(results: list[Result]) -> None:
    """Print what was measured."""
    print(f"\n{'image':36}{'packages':>9}{'size':>10}{'median':>9}{'slowest':>9}{'memory':>9}")
    for result in results:
        first, slowest = result.rounds[0], max(one.seconds for one in result.rounds)
        cells = f"{first.packages:>9}{first.size / 1e6:>7.1f} MB{result.median:>7.2f} s{slowest:>7.2f} s"
        print(f"{result.name:36}{cells}{result.memory:>6.0f} MB  {', '.join(result.faults())}".rstrip())
    print(f"budgets of distroless images: {SECONDS:g} s, {MEMORY:g} MB; debian has none")


def main() -> None:
    """Measure, print, and say by the exit status whether the budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", help="names without a tag (default: all of the catalogue)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path, help="where packages are kept for the next time (default: nowhere)")
    options = parser.parse_args()
    names = options.images or [*(f"tare.local/distroless/{name}" for name in RECIPES), WHOLE]
    results = []
    with tempfile.TemporaryDirectory(prefix="tare-ba") as directory:
        cache = (options.cache or Path(directory, "cache")).absolute()
        cache.mkdir(parents=True, exist_ok=True)
        for name in names:
            one_round(cache, name)  # fetches what is missing
            result = Result(name, [one_round(cache, name) for _ in range(options.rounds)])
            results.append(result)
            times = " ".join(f"{one.seconds:.2f}" for one in result.rounds)
            print(f"{name}: {times}", flush=True)
    table(results)
    sys.exit(1 if any(result.faults() for result in results) else 0)


if __name__ == "__main__":
    main()
