#!/usr/bin/env python3
"""Start-up times of two engines side by side, with one `docker` command line as the client of both.

    bench/run_exec.py tare=unix:///run/tare/tare.sock docker=unix:///run/tare-reference-docker/docker.sock

Runs alternate between the engines, so that both see the same machine; the table shows medians in milliseconds and each
engine's ratio to the last one named.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

IMAGE = "tare-bench/true:1"
CONTAINER = "tare-bench-exec"
PROGRAMS = {
    "true": "int main(void) { return 0; }",
    "pause": "#include <unistd.h>\nint main(void) { for (;;) pause(); }",
}


@dataclass(frozen=True)
class Engine:
    """An engine by its name in the table and its socket."""

    name: str
    host: str
    client: str

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> None:
        """Run the client; its failure ends the benchmark."""
        command = [self.client, "--host", self.host, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"{self.name}: {' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")


CASES: dict[str, tuple[str, ...]] = {
    "run --rm, bridge network": ("run", "--rm", IMAGE, "/true"),
    "run --rm --network none": ("run", "--rm", "--network", "none", IMAGE, "/true"),
    "exec": ("exec", CONTAINER, "/true"),
    "client and engine alone (version)": ("version",),
}


def image_tar() -> bytes:
    """A root file system with two static programs, compiled here."""
    out = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="tare-bench-") as directory, tarfile.open(fileobj=out, mode="w") as tar:
        for name, source in PROGRAMS.items():
            path = Path(directory, name)
            subprocess.run(
                ["gcc", "-static", "-O2", "-s", "-x", "c", "-o", str(path), "-"], input=source.encode(), check=True
            )
            tar.add(path, arcname=name)
    return out.getvalue()


@contextmanager
def prepared(engine: Engine, image: bytes) -> Iterator[None]:
    """Import the image and run a container for `exec`; remove both at the end."""
    engine("import", "-", IMAGE, stdin=image)
    with ExitStack() as stack:
        stack.callback(engine, "rmi", IMAGE)
        engine("create", "--name", CONTAINER, "--network", "none", IMAGE, "/pause")
        stack.callback(engine, "rm", "--force", CONTAINER)
        engine("start", CONTAINER)
        yield


def milliseconds(action: Callable[[], None]) -> float:
    """How long ``action`` takes."""
    before = time.perf_counter()
    action()
    return (time.perf_counter() - before) * 1000


def measure(engines: list[Engine], arguments: tuple[str, ...], rounds: int) -> dict[str, list[float]]:
    """Times of each engine, taken in turn; one round before the first is not counted."""
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(rounds + 1):
        for engine in engines if number % 2 else engines[::-1]:
            taken = milliseconds(lambda engine=engine: engine(*arguments))
            if number:
                times[engine.name].append(taken)
    return times


def show(engines: list[Engine], results: dict[str, dict[str, list[float]]]) -> None:
    """Print the table."""
    base = engines[-1].name
    head = "".join(f"{engine.name + ' median':>18}{'min':>8}{'max':>8}{'ratio':>8}" for engine in engines)
    print(f"{'':<36}{head}")
    for case, times in results.items():
        cells = ""
        for engine in engines:
            mine = times[engine.name]
            ratio = statistics.median(mine) / statistics.median(times[base])
            cells += f"{statistics.median(mine):>15.1f} ms{min(mine):>8.1f}{max(mine):>8.1f}{ratio:>8.2f}"
        print(f"{case:<36}{cells}")


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs="+", metavar="NAME=HOST", help="an engine's name and socket")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each case (15)")
    parser.add_argument("--client", default=shutil.which("docker"), help="the client program (docker from PATH)")
    options = parser.parse_args()
    if options.client is None:
        parser.error("no docker command on PATH; scripts/host-packages.sh --for test provides one")
    engines = []
    for text in options.engine:
        name, separator, host = text.partition("=")
        if not separator:
            parser.error(f"{text}: NAME=HOST expected, such as tare=unix:///run/tare/tare.sock")
        engines.append(Engine(name, host, options.client))
    image = image_tar()
    with ExitStack() as stack:
        for engine in engines:
            stack.enter_context(prepared(engine, image))
        results = {case: measure(engines, arguments, options.rounds) for case, arguments in CASES.items()}
    print(f"{options.rounds} rounds, {os.cpu_count()} processors, client {options.client}")
    show(engines, results)


if __name__ == "__main__":
    main()
