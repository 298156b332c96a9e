#!/usr/bin/env python3
"""Networks of two engines side by side: what one more costs when there are many, and what packets pay.

    bench/network.py tare=unix:///run/tare-bench/tare.sock docker=unix:///run/tare-reference-docker/docker.sock

Each engine gets 200 networks, 1,000 endpoints (containers that sleep, each on many networks) and 2,000 published ports;
the time of the last ones is set beside that of the first. Packets are sent over sockets opened inside the containers'
namespaces, and from the namespace that the engine itself is in; engines take turns. Needs root, and engines that have
nothing else to do.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from containers import IMAGE, Engine, image_tar, in_turn, seconds, show

from tare.kernel.namespaces import run_in_network_namespace

T = TypeVar("T")

PREFIX = "tare-bench"
FLAT_BUDGET, PATH_BUDGET, THROUGHPUT_BUDGET, LATENCY_BUDGET, BRIDGE_BUDGET = 1.5, 1.05, 1.0, 1.0, 20.0
BLOCK = bytes(1 << 18)
EACH = 20  # networks that a container is on


@dataclass
class Subject:
    """An engine, its network namespace, and two containers on its default bridge: a server and a client."""

    engine: Engine
    namespace: Path
    server: Path = Path()
    client: Path = Path()
    address: str = ""
    gateway: str = ""
    made: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)

    def run(self, *, network: str = "bridge", ports: range = range(0)) -> str:
        """Start a container that sleeps, with its ``ports`` published under the same numbers; returns its id."""
        bindings = {f"{port}/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}] for port in ports}
        host = {"NetworkMode": network, "PortBindings": bindings}
        document = {
            "Image": IMAGE,
            "Cmd": ["/pause"],
            "HostConfig": host,
            "ExposedPorts": {key: {} for key in bindings},
        }
        identifier = str(self.engine.request("POST", "/containers/create", document)["Id"])
        self.made.append(identifier)
        self.engine.request("POST", f"/containers/{identifier}/start")
        return identifier

    def remove(self, identifier: str) -> None:
        self.engine.request("DELETE", f"/containers/{identifier}?force=1")
        self.made.remove(identifier)

    def namespace_of(self, identifier: str) -> tuple[Path, str]:
        """A container's network namespace, and its address on the default bridge."""
        document = self.engine.request("GET", f"/containers/{identifier}/json")
        return Path(f"/proc/{document['State']['Pid']}/ns/net"), document["NetworkSettings"]["Networks"]["bridge"][
            "IPAddress"
        ]

    def clear(self) -> None:
        """Remove everything that was made."""
        for identifier in list(self.made):
            self.remove(identifier)
        for network in self.networks:
            self.engine.request("DELETE", f"/networks/{network}")
        self.networks.clear()


@contextmanager
def prepared(engine: Engine, image: bytes) -> Iterator[Subject]:
    """Import the image and start the two containers; everything is removed at the end."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(engine.host.removeprefix("unix://"))
        peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    subject = Subject(engine, Path(f"/proc/{peer[0]}/ns/net"))
    engine("import", "-", IMAGE, stdin=image)
    with ExitStack() as stack:
        stack.callback(engine, "rmi", IMAGE)
        stack.callback(subject.clear)
        subject.server, subject.address = subject.namespace_of(subject.run(ports=range(20000, 20001)))
        subject.client, _ = subject.namespace_of(subject.run())
        config = engine.request("GET", "/networks/bridge")["IPAM"]["Config"]
        subject.gateway = config[0]["Gateway"]
        yield subject


# --- what one more costs ----------------------------------------------------------------------------------------------


def timed_all(actions: list[Callable[[], object]]) -> list[float]:
    """How long each of the actions takes, one after the other."""
    return [seconds(action) for action in actions]


def grow_networks(subject: Subject, count: int) -> list[float]:
    """Make ``count`` networks."""

    def make(number: int) -> None:
        name = f"{PREFIX}-{number}"
        subject.engine.request("POST", "/networks/create", {"Name": name, "Driver": "bridge"})
        subject.networks.append(name)

    return timed_all([lambda number=number: make(number) for number in range(count)])  # type: ignore[misc]


def grow_endpoints(subject: Subject, count: int, each: int) -> list[float]:
    """Connect containers to ``each`` networks, ``count`` endpoints in all."""
    times = []
    for block in range(count // each):
        identifier = subject.run()
        for number in range(each):
            network = subject.networks[(block * each + number) % len(subject.networks)]
            document = {"Container": identifier}
            times.append(
                seconds(lambda n=network, d=document: subject.engine.request("POST", f"/networks/{n}/connect", d))  # type: ignore[misc]
            )
    return times


def one_port_more(subject: Subject, rounds: int) -> list[float]:
    """Start a container with one published port, again and again."""
    times = []
    for _ in range(rounds):
        before = len(subject.made)
        times.append(seconds(lambda: subject.run(ports=range(19999, 20000))))
        subject.remove(subject.made[before])
    return times


def grow(subjects: list[Subject], options: argparse.Namespace) -> None:
    """Print how the last of many compares with the first, engine by engine."""
    print(f"\n{'one more':<34}{'first ms':>10}{'last ms':>10}{'ratio':>8}{'budget':>8}")
    sample = options.rounds
    for subject in subjects:
        name = subject.engine.name

        def row(what: str, first: list[float], last: list[float], name: str = name) -> None:
            one, other = statistics.median(first) * 1000, statistics.median(last) * 1000
            print(
                f"{name + ': ' + what:<34}{one:>10.1f}{other:>10.1f}{other / one:>8.2f}{FLAT_BUDGET:>8.2f}", flush=True
            )

        times = grow_networks(subject, options.networks)
        row(f"network of {options.networks}", times[:sample], times[-sample:])
        times = grow_endpoints(subject, options.endpoints, EACH)
        row(f"endpoint of {options.endpoints}", times[:EACH], times[-EACH:])  # a container's first is not like its last
        few = one_port_more(subject, sample)
        blocks = [
            subject.run(ports=range(21000 + 100 * block, 21100 + 100 * block)) for block in range(options.ports // 100)
        ]
        row(f"port of {options.ports}", few, one_port_more(subject, sample))
        costs = path_costs(subject, blocks, max(3, sample // 3))
        for identifier in subject.made[2:]:
            subject.remove(identifier)
        for what, kind in (("connect", 0), ("round trip", 1)):
            base, full = (statistics.median(cost[kind] for cost in costs[many]) for many in (False, True))
            print(
                f"{name + ': ' + what + ', ' + str(options.ports) + ' ports':<34}{base * 1e6:>7.1f} us"
                f"{full * 1e6:>7.1f} us{full / base:>8.2f}{PATH_BUDGET:>8.2f}",
                flush=True,
            )


def path_costs(subject: Subject, blocks: list[str], rounds: int) -> dict[bool, list[tuple[float, float]]]:
    """What a published port costs packets, by turns beside none and beside those of the containers ``blocks``."""
    costs: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(rounds):
        costs[True].append(path_cost(subject))
        for block in blocks:
            subject.engine.request("POST", f"/containers/{block}/stop?t=0")
        costs[False].append(path_cost(subject))
        for block in blocks:
            subject.engine.request("POST", f"/containers/{block}/start")
    return costs


# --- what packets pay -------------------------------------------------------------------------------------------------


def listening(namespace: Path, port: int) -> socket.socket:
    """A TCP listener on every address of a namespace."""
    return run_in_network_namespace(namespace, lambda: socket.create_server(("", port), backlog=512))


def opened(namespace: Path) -> socket.socket:
    """A TCP socket in a namespace."""
    made = run_in_network_namespace(namespace, lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


@contextmanager
def on_processor(choose: Callable[[set[int]], int]) -> Iterator[None]:
    """Have this process, and what it forks, on one processor.

    Across two, a round trip takes 20 or 60 us and a gigabyte 0.3 or 0.6 s, as the scheduler likes.
    """
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {choose(processors)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)


@contextmanager
def echoing(namespace: Path, port: int) -> Iterator[None]:
    """A process that accepts connections and sends back what comes, byte by byte."""
    with listening(namespace, port) as server:
        child = os.fork()
        if child == 0:
            try:
                while True:
                    connection, _ = server.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    with connection:
                        while data := connection.recv(1):
                            connection.sendall(data)
            finally:
                os._exit(0)
        try:
            yield
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)


def connect_and_trip(namespace: Path, target: tuple[str, int], connections: int, trips: int) -> tuple[float, float]:
    """Median seconds of a connect(2), and of a byte's way there and back."""
    connects = []
    for _ in range(connections):
        with closing(opened(namespace)) as connection:
            before = time.perf_counter()
            connection.connect(target)
            connects.append(time.perf_counter() - before)
    with closing(opened(namespace)) as connection:
        connection.connect(target)
        times = []
        for _ in range(trips):
            before = time.perf_counter()
            connection.sendall(b"x")
            connection.recv(1)
            times.append(time.perf_counter() - before)
    return statistics.median(connects), statistics.median(times)


def path_cost(subject: Subject) -> tuple[float, float]:
    """What a published port costs from the engine's own namespace: connect and round trip, medians of seconds."""
    with on_processor(min), echoing(subject.server, 20000):
        return connect_and_trip(subject.namespace, (subject.gateway, 20000), 2000, 20000)


def throughput(subject: Subject, duration: float) -> float:
    """Seconds per gigabyte from one container of the default bridge to another."""
    moved = 0
    with listening(subject.server, 20001) as server, closing(opened(subject.client)) as client:
        client.connect((subject.address, 20001))
        connection, _ = server.accept()
        child = os.fork()
        if child == 0:
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
            client.close()
            buffer = bytearray(len(BLOCK))
            while connection.recv_into(buffer):
                pass
            os._exit(0)
        connection.close()
        with on_processor(min):
            before = time.perf_counter()
            while time.perf_counter() - before < duration:
                client.sendall(BLOCK)
                moved += len(BLOCK)
            taken = time.perf_counter() - before
        client.shutdown(socket.SHUT_WR)
        os.waitpid(child, 0)
    return taken / moved * 1e9


def packets(subjects: list[Subject], options: argparse.Namespace) -> None:
    """Print what engines' bridges cost packets, in turns."""
    by_engine = {subject.engine: subject for subject in subjects}
    engines = list(by_engine)
    head = "".join(f"{engine.name + ' median':>15}{'min':>9}{'max':>9}{'ratio':>7}" for engine in engines)
    print(f"\n{'':<38}{head}{'budget':>8}")
    times = in_turn(engines, options.rounds, lambda engine: throughput(by_engine[engine], options.seconds))
    show(engines, "1 GB between containers", times, scale=1000, unit="ms", budget=THROUGHPUT_BUDGET)
    with on_processor(min), ExitStack() as stack:
        for subject in subjects:
            stack.enter_context(echoing(subject.server, 20002))

        def between(engine: Engine) -> tuple[float, float]:
            subject = by_engine[engine]
            return connect_and_trip(subject.client, (subject.address, 20002), 500, 3000)

        both: dict[str, list[tuple[float, float]]] = {engine.name: [] for engine in engines}
        in_turn(engines, options.rounds, lambda engine: both[engine.name].append(between(engine)) or 0.0)
        for index, case in enumerate(("connect between containers", "round trip between containers")):
            taken = {name: [pair[index] for pair in pairs[1:]] for name, pairs in both.items()}
            show(engines, case, taken, scale=1e6, unit="us", budget=LATENCY_BUDGET)
    modes = {}
    for mode in ("bridge", "none"):
        command = ("run", "--rm", "--network", mode, IMAGE, "/true")
        modes[mode] = in_turn(engines, options.rounds, lambda engine, c=command: seconds(lambda: engine(*c)))
        show(engines, f"run --rm --network {mode}", modes[mode], scale=1000, unit="ms", budget=None)
    for engine in engines:
        extra = statistics.median(modes["bridge"][engine.name]) - statistics.median(modes["none"][engine.name])
        budget = f" (budget {BRIDGE_BUDGET:.0f})" if engine is engines[0] else ""
        print(f"{engine.name}: a bridge costs `run` {extra * 1000:.1f} ms over none{budget}", flush=True)


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "engine", nargs="+", metavar="NAME=HOST", help="an engine's name and socket; the last is the base"
    )
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each kind (9)")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long bytes flow in a round (1)")
    parser.add_argument("--networks", type=int, default=200, help="networks (200)")
    parser.add_argument("--endpoints", type=int, default=1000, help="endpoints (1000)")
    parser.add_argument("--ports", type=int, default=2000, help="published ports (2000)")
    parser.add_argument("--only", choices=("packets", "growth"), help="one half of it")
    parser.add_argument("--client", default=shutil.which("docker"), help="the client program (docker from PATH)")
    options = parser.parse_args()
    if options.client is None:
        parser.error("no docker command on PATH; scripts/host-packages.sh --for test provides one")
    image = image_tar()
    with ExitStack() as stack:
        subjects = []
        for text in options.engine:
            name, separator, host = text.partition("=")
            if not separator or not host.startswith("unix://"):
                parser.error(f"{text}: NAME=unix://… expected, such as tare=unix:///run/tare/tare.sock")
            subjects.append(stack.enter_context(prepared(Engine(name, host, options.client), image)))
        print(f"{options.rounds} rounds, {os.cpu_count()} processors")
        if options.only != "growth":
            packets(subjects, options)
        if options.only != "packets":
            grow(subjects, options)


if __name__ == "__main__":
    sys.exit(main())
