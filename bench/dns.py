#!/usr/bin/env python3
"""Names under load: 100,000 queries over UDP and TCP from inside a container, every answer compared with the truth.

    bench/dns.py tare=unix:///run/tare/tare.sock docker=unix:///run/tare-reference-docker/docker.sock \\
        --midway 'tare=systemctl restart tared'

Each engine gets a network with containers, of which one asks: for names, for an alias that several share, backwards,
for types that there are none of, and for names that a resolver in its own namespace (``--dns``) knows or not. The
engines take turns. ``--midway`` is run by the shell in the middle of an engine's queries. Queries go out over sockets
that were opened inside the asking container, so nothing but its loopback is used. Needs root, and engines whose
containers' processes are seen from here. Exit status 1 when one answer is wrong or missing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tare.kernel.namespaces import run_in_network_namespace

IMAGE, NETWORK, SERVERS = "tare-bench-dns", "tare-bench-dns", 6
A, PTR, TXT, AAAA = 1, 12, 16, 28
NOERROR, NXDOMAIN = 0, 3
ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Question:
    """A query and its only right answer: response code, and the data of the records in any order."""

    name: str
    kind: int
    rcode: int
    data: frozenset[bytes]

    def packed(self, number: int) -> bytes:
        return struct.pack("!6H", number, 0x100, 1, 0, 0, 0) + encoded(self.name) + struct.pack("!2H", self.kind, 1)

    def is_answer(self, message: bytes, number: int) -> bool:
        """Whether the message answers this query, rightly and with no record too many."""
        seen, flags, _, records = struct.unpack_from("!4H", message)
        if seen != number or not flags & 0x8000 or flags & 0x0200 or flags & 15 != self.rcode:
            return False
        offset, found = after_name(message, 12) + 4, []
        for _ in range(records):
            offset = after_name(message, offset)
            kind, _, _, length = struct.unpack_from("!HHIH", message, offset)
            if kind == self.kind:
                found.append(message[offset + 10 : offset + 10 + length])
            offset += 10 + length
        return len(found) == len(self.data) and frozenset(found) == self.data


def encoded(name: str) -> bytes:
    """A name as it is written in a message."""
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def after_name(message: bytes, offset: int) -> int:
    """Where the name at the offset ends."""
    while (length := message[offset]) != 0:
        if length & 0xC0:
            return offset + 2
        offset += length + 1
    return offset + 1


class Resolver:
    """Answers in a namespace on 127.0.0.1, UDP and TCP: names below ``known`` have one address, others do not exist."""

    def __init__(self, namespace: Path) -> None:
        self._udp, self._tcp = run_in_network_namespace(namespace, self._open)
        for work in (self._datagrams, self._connections):
            threading.Thread(target=work, daemon=True).start()

    @staticmethod
    def _open() -> tuple[socket.socket, socket.socket]:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 53))
        return udp, socket.create_server(("127.0.0.1", 53))

    def close(self) -> None:
        for sock in (self._udp, self._tcp):
            sock.shutdown(socket.SHUT_RDWR) if sock is self._tcp else None
            sock.close()

    def _datagrams(self) -> None:
        while True:
            try:
                query, peer = self._udp.recvfrom(512)
                self._udp.sendto(self._answer(query), peer)
            except OSError:
                return

    def _connections(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while (query := framed(connection)) is not None:
                answer = self._answer(query)
                connection.sendall(struct.pack("!H", len(answer)) + answer)

    @staticmethod
    def _answer(query: bytes) -> bytes:
        end = after_name(query, 12) + 4
        known = b"\x05known" in query[12:end].lower()
        flags, count = (0x8180, 1) if known else (0x8183, 0)
        answer = query[:2] + struct.pack("!5H", flags, 1, count, 0, 0) + query[12:end]
        record = struct.pack("!HHHIH", 0xC00C, A, 1, 0, 4) + socket.inet_aton("192.0.2.9")
        return answer + record if known else answer


def framed(connection: socket.socket) -> bytes | None:
    """One message of a TCP connection, or None at its end."""
    head = received(connection, 2)
    return received(connection, struct.unpack("!H", head)[0]) if head is not None else None


def received(connection: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            return None
        data += part
    return data


@dataclass
class Tally:
    """What came of the queries over one protocol."""

    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    lost: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Asker:
    """Asks over UDP and TCP from inside a namespace, with several queries on their way at a time."""

    def __init__(self, namespace: Path, questions: list[Question], parallel: int) -> None:
        self._namespace = namespace
        self._questions = questions
        self._parallel = parallel

    def ask(self, count: int, tally: Tally, *, tcp: bool) -> None:
        """Ask ``count`` times, each of the questions in turn."""
        began = time.perf_counter()
        each = count // self._parallel
        lock = threading.Lock()
        threads = [
            threading.Thread(target=self._work, args=(each, tally, lock, start), kwargs={"tcp": tcp})
            for start in range(self._parallel)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tally.seconds += time.perf_counter() - began

    def _work(self, count: int, tally: Tally, lock: threading.Lock, start: int, *, tcp: bool) -> None:
        questions = itertools.islice(itertools.cycle(self._questions), start, start + count)
        latencies, wrong, lost = [], [], 0
        connection = self._connect(tcp=tcp)
        for number, question in enumerate(questions):
            query = question.packed(number & 0xFFFF)
            before = time.perf_counter()
            try:
                connection.sendall(struct.pack("!H", len(query)) + query if tcp else query)
                answer = framed(connection) if tcp else connection.recv(4096)
            except OSError:
                answer = None
            if answer is None:
                lost += 1
                connection.close()
                connection = self._connect(tcp=tcp)
                continue
            latencies.append(time.perf_counter() - before)
            if not question.is_answer(answer, number & 0xFFFF):
                wrong.append(f"{question}: {answer.hex()}")
        connection.close()
        with lock:
            tally.asked += count
            tally.lost += lost
            tally.wrong += wrong
            tally.latencies += latencies

    def _connect(self, *, tcp: bool) -> socket.socket:
        def work() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
            sock.settimeout(ANSWER_SECONDS)
            sock.connect(("127.0.0.11", 53))
            return sock

        return run_in_network_namespace(self._namespace, work)


class Engine:
    """The containers of one engine."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self._host = host
        self.tallies = {False: Tally(), True: Tally()}

    def docker(self, *arguments: str, check: bool = True, stdin: bytes | None = None) -> str:
        ended = subprocess.run(
            ["docker", "-H", self._host, *arguments], input=stdin, capture_output=True, check=False, timeout=120
        )
        if check and ended.returncode != 0:
            raise RuntimeError(f"docker {' '.join(arguments)}: {ended.stderr.decode()}")
        return ended.stdout.decode().strip()

    def prepare(self, rootfs: bytes, parallel: int) -> None:
        self.remove()
        self.docker("import", "-", IMAGE, stdin=rootfs)
        self.docker("network", "create", NETWORK)
        run = ("run", "-d", "--network", NETWORK, "--dns", "127.0.0.1")
        for name in self.names():
            alias = ("--network-alias", "tare-bench-all") if name != "tare-bench-dns-0" else ()
            self.docker(*run, "--name", name, *alias, IMAGE, "/bin/busybox", "sleep", "100000")
        pid = self.docker("inspect", "-f", "{{.State.Pid}}", "tare-bench-dns-0")
        namespace = Path(f"/proc/{pid}/ns/net")
        self._resolver = Resolver(namespace)
        self._asker = Asker(namespace, self._questions(), parallel)

    def names(self) -> list[str]:
        return [f"tare-bench-dns-{number}" for number in range(SERVERS + 1)]

    def _questions(self) -> list[Question]:
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        found = {name: self.docker("inspect", "-f", template, name) for name in self.names()}
        packed = {name: socket.inet_aton(address) for name, address in found.items()}
        everyone = frozenset(packed[name] for name in self.names()[1:])
        questions = []
        for number, (name, address) in enumerate(found.items()):
            backwards = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
            questions += [
                Question(name, A, NOERROR, frozenset([packed[name]])),
                Question(f"{name.upper()}.{NETWORK}", A, NOERROR, frozenset([packed[name]])),
                Question("tare-bench-all", A, NOERROR, everyone),
                Question(backwards, PTR, NOERROR, frozenset([encoded(f"{name}.{NETWORK}")])),
                Question(name, AAAA, NOERROR, frozenset()),
            ]
            if number % 3 == 0:
                questions += [
                    Question(f"host{number}.known.example", A, NOERROR, frozenset([socket.inet_aton("192.0.2.9")])),
                    Question(f"ghost{number}", A, NXDOMAIN, frozenset()),
                ]
        return questions

    def ask(self, count: int, *, tcp: bool) -> None:
        self._asker.ask(count, self.tallies[tcp], tcp=tcp)

    def finish(self) -> None:
        self._resolver.close()
        self.remove()

    def remove(self) -> None:
        self.docker("rm", "-f", *self.names(), check=False)
        self.docker("network", "rm", NETWORK, check=False)
        self.docker("rmi", IMAGE, check=False)


def report(engines: list[Engine]) -> bool:
    """Print what was measured; whether every answer was right."""
    right = True
    print(f"{'engine':8} {'over':4} {'asked':>7} {'wrong':>6} {'lost':>5} {'per s':>7} {'median ms':>10} {'p99 ms':>7}")
    for engine, tcp in itertools.product(engines, (False, True)):
        tally = engine.tallies[tcp]
        cuts = statistics.quantiles(tally.latencies, n=100)
        rate = tally.asked / tally.seconds
        counts = f"{tally.asked:7} {len(tally.wrong):6} {tally.lost:5} {rate:7.0f}"
        times = f"{cuts[49] * 1000:10.3f} {cuts[98] * 1000:7.3f}"
        print(f"{engine.name:8} {'TCP' if tcp else 'UDP':4} {counts} {times}")
        for line in tally.wrong[:3]:
            print(f"  {line}")
        right = right and not tally.wrong and not tally.lost
    return right


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="+", metavar="NAME=HOST")
    parser.add_argument("--count", type=int, default=100_000, help="queries per engine, half of them over TCP")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=8, help="queries on their way at a time")
    parser.add_argument("--midway", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--rootfs", type=Path, required=True, help="a tar with /bin/busybox")
    arguments = parser.parse_args()
    midway = dict(item.split("=", 1) for item in arguments.midway)
    engines = [Engine(*item.split("=", 1)) for item in arguments.engines]
    each = arguments.count // arguments.rounds // 2
    try:
        for engine in engines:
            engine.prepare(arguments.rootfs.read_bytes(), arguments.parallel)
        for turn, engine, tcp in itertools.product(range(arguments.rounds), engines, (False, True)):
            started = None
            if turn == arguments.rounds // 2 and not tcp and engine.name in midway:
                started = subprocess.Popen(midway[engine.name], shell=True)
            engine.ask(each, tcp=tcp)
            if started is not None:
                started.wait()
    finally:
        for engine in engines:
            engine.finish()
    print(json.dumps({"count": arguments.count, "parallel": arguments.parallel, "midway": midway}))
    sys.exit(0 if report(engines) else 1)


if __name__ == "__main__":
    main()
