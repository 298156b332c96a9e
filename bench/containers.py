#!/usr/bin/env python3
"""Containers of two engines side by side: start, exec, many at once, and what an idle one costs in memory.

    bench/containers.py tare=unix:///run/tare-bench/tare.sock docker=unix:///run/tare-reference-docker/docker.sock

Rounds alternate between the engines, so that both see the same machine. The tables show medians, each engine's ratio to
the last one named and the budget of that ratio. One `docker` command line is the client of both engines, so that its
own time is the same; where the first engine is Tare, `tare` is measured as well. The crowd of containers is started by
plain HTTP requests, without a command line.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGE = "tare-bench/true:1"
CONTAINER = "tare-bench-exec"
CROWD_LABEL = "tare-bench-crowd"
PROGRAMS = {
    "true": "int main(void) { return 0; }",
    "pause": "#include <unistd.h>\nint main(void) { for (;;) pause(); }",
}
IDLE_BUDGET = 3.0  # MB on the engine's side
RATIO_BUDGET = 0.5


@dataclass(frozen=True)
class Engine:
    """An engine by its name in the table and its socket; ``client`` is the command line that it is driven with."""

    name: str
    host: str
    client: str

    def __call__(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run the client and return its output; its failure ends the benchmark."""
        command = [self.client, "--host", self.host, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        if done.returncode:
            sys.exit(f"{self.name}: {' '.join(command)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout.decode()

    def request(self, method: str, path: str, document: object = None) -> Any:
        """One request on a connection of its own; what is not a success ends the benchmark."""
        connection = UnixConnection(self.host.removeprefix("unix://"))
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body=body, headers={"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                sys.exit(f"{self.name}: {method} {path}: {answer.status} {text.decode(errors='replace')}")
            return json.loads(text) if text.strip() else None
        finally:
            connection.close()


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


COMMANDS: dict[str, tuple[tuple[str, ...], float | None]] = {
    "run --rm, bridge network": (("run", "--rm", IMAGE, "/true"), RATIO_BUDGET),
    "run --rm --network none": (("run", "--rm", "--network", "none", IMAGE, "/true"), None),
    "exec": (("exec", CONTAINER, "/true"), RATIO_BUDGET),
    "client and engine alone (version)": (("version",), None),
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


def seconds(action: Callable[[], object]) -> float:
    """How long ``action`` takes."""
    before = time.perf_counter()
    action()
    return time.perf_counter() - before


def in_turn(engines: list[Engine], rounds: int, once: Callable[[Engine], float]) -> dict[str, list[float]]:
    """``once`` of each engine by turns, with the order changing; one round before the first is not counted."""
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number in range(rounds + 1):
        for engine in engines if number % 2 else engines[::-1]:
            taken = once(engine)
            if number:
                times[engine.name].append(taken)
    return times


def crowd_starts(engine: Engine, count: int, at_once: int) -> float:
    """Seconds to create and start ``count`` containers on the default bridge, ``at_once`` at a time."""

    def one(_: int) -> str:
        document = {"Image": IMAGE, "Cmd": ["/pause"], "Labels": {CROWD_LABEL: ""}}
        identifier = str(engine.request("POST", "/containers/create", document)["Id"])
        engine.request("POST", f"/containers/{identifier}/start")
        return identifier

    with ThreadPoolExecutor(at_once) as pool:
        made: list[str] = []
        taken = seconds(lambda: made.extend(pool.map(one, range(count))))
        list(pool.map(lambda identifier: engine.request("DELETE", f"/containers/{identifier}?force=1"), made))
    return taken


def _memory(pids: set[int]) -> dict[str, float]:
    """Rss and Pss of processes together, in MB (proc(5), smaps_rollup); those that have ended count nothing."""
    total = {"Rss": 0.0, "Pss": 0.0}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = dict(line.split(":", 1) for line in lines[1:])
        for name in total:
            total[name] += int(fields[name].split()[0]) / 1024
    return total


def _daemons(engine: Engine) -> set[int]:
    """The process that answers at the engine's socket, and its children."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(engine.host.removeprefix("unix://"))
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid = struct.unpack("3i", peer)[0]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {pid, *map(int, children)}


def _supervisors(identifiers: set[str]) -> set[int]:
    """Processes that were told a container's identifier on their command line: conmon, containerd-shim."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = entry.joinpath("cmdline").read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if identifiers & set(words):
                found.add(int(entry.name))
    return found


def idle_memory(engine: Engine, count: int) -> dict[str, float]:
    """MB per idle container on the engine's side: supervisors, and what the engine's own processes grow by."""
    daemons = _daemons(engine)
    before = _memory(daemons)
    made = []
    for _ in range(count):
        document = {"Image": IMAGE, "Cmd": ["/pause"], "Labels": {CROWD_LABEL: ""}}
        made.append(str(engine.request("POST", "/containers/create", document)["Id"]))
        engine.request("POST", f"/containers/{made[-1]}/start")
    after, supervisors = _memory(daemons), _memory(_supervisors(set(made)))
    for one in made:
        engine.request("DELETE", f"/containers/{one}?force=1")
    return {name: (supervisors[name] + after[name] - before[name]) / count for name in after}


def show(
    engines: list[Engine], case: str, times: dict[str, list[float]], *, scale: float, unit: str, budget: float | None
) -> None:
    """Print one row."""
    base = statistics.median(times[engines[-1].name])
    cells = ""
    for engine in engines:
        median = statistics.median(times[engine.name])
        low, high = min(times[engine.name]), max(times[engine.name])
        cells += f"{median * scale:>12.1f} {unit}{low * scale:>9.1f}{high * scale:>9.1f}{median / base:>7.2f}"
    print(f"{case:<38}{cells}{'' if budget is None else f'{budget:>8.2f}'}", flush=True)


def measure(engines: list[Engine], options: argparse.Namespace) -> None:
    """Measure what was asked for and print it."""
    head = "".join(f"{engine.name + ' median':>15}{'min':>9}{'max':>9}{'ratio':>7}" for engine in engines)
    print(f"{'':<38}{head}{'budget':>8}")
    for case, (arguments, budget) in COMMANDS.items():
        if options.only in case:
            times = in_turn(engines, options.rounds, lambda engine, a=arguments: seconds(lambda: engine(*a)))
            show(engines, case, times, scale=1000, unit="ms", budget=budget)
    own = [engine for engine in engines if engine.client == options.client]
    case = f"{options.crowd} started, {options.at_once} at once"
    if options.only in case:
        rounds = max(1, options.rounds // 5)
        times = in_turn(own, rounds, lambda engine: crowd_starts(engine, options.crowd, options.at_once))
        show(own, case, times, scale=1, unit="s ", budget=RATIO_BUDGET)
    if options.only in "memory":
        print(f"\nMB per idle container on the engine's side, {options.idle} containers (budget {IDLE_BUDGET} of Rss)")
        for engine in own:
            print(
                f"{engine.name:<12}" + "".join(f"  {k} {v:.2f}" for k, v in idle_memory(engine, options.idle).items())
            )


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", nargs="+", metavar="NAME=HOST", help="an engine's name and socket")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each command (15)")
    parser.add_argument("--client", default=shutil.which("docker"), help="the client program (docker from PATH)")
    parser.add_argument(
        "--tare", default=str(Path(sys.executable).with_name("tare")), help="the client tare, measured as well"
    )
    parser.add_argument("--only", default="", help="only cases with this text in their name")
    parser.add_argument("--crowd", type=int, default=200, help="containers of the crowd (200)")
    parser.add_argument("--at-once", type=int, default=50, help="how many of them are started at a time (50)")
    parser.add_argument("--idle", type=int, default=50, help="containers whose memory is measured (50)")
    options = parser.parse_args()
    if options.client is None:
        parser.error("no docker command on PATH; scripts/host-packages.sh --for test provides one")
    engines = []
    for text in options.engine:
        name, separator, host = text.partition("=")
        if not separator or not host.startswith("unix://"):
            parser.error(f"{text}: NAME=unix://… expected, such as tare=unix:///run/tare/tare.sock")
        engines.append(Engine(name, host, options.client))
    image = image_tar()
    with ExitStack() as stack:
        for engine in engines:
            stack.enter_context(prepared(engine, image))
        if engines[0].name.startswith("tare") and Path(options.tare).exists():
            engines.insert(0, Engine("tare's own", engines[0].host, options.tare))
        print(f"{options.rounds} rounds, {os.cpu_count()} processors, client {options.client}")
        measure(engines, options)


if __name__ == "__main__":
    main()
