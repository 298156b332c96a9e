"""A network between an engine and a server: a pair of interfaces into a namespace, and a relay behind it."""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tare.kernel.namespaces import create_network_namespace, remove_network_namespace, run_in_network_namespace

OUTAGE = 1.0  # seconds that a link is down
PORT = 5000
_CHUNK = 16 << 10


class Link:
    """A pair of interfaces: this end on the host, the other one in a namespace of its own.

    The addresses are of the range for measurements of networks (RFC 2544), which nobody routes.
    """

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="tare-link"))
        self._namespace = self._directory / "net"
        number = random.randrange(1 << 14)
        self._name = f"tl{number}"
        near, self._far = (f"198.{18 + number // 8192}.{number // 32 % 256}.{number % 32 * 8 + end}" for end in (1, 2))
        create_network_namespace(self._namespace)
        _ip("link", "add", self._name, "type", "veth", "peer", "name", "far", "netns", str(self._namespace))
        _ip("address", "add", f"{near}/30", "dev", self._name)
        self.up()
        within = ("nsenter", f"--net={self._namespace}")
        _ip("address", "add", f"{self._far}/30", "dev", "far", within=within)
        _ip("link", "set", "far", "up", within=within)

    def listen(self) -> socket.socket:
        """A socket that listens at the other end."""
        return run_in_network_namespace(self._namespace, lambda: socket.create_server((self._far, PORT)))

    def down(self) -> None:
        """Lose what is sent from now on."""
        _ip("link", "set", self._name, "down")

    def up(self) -> None:
        """Carry again."""
        _ip("link", "set", self._name, "up")

    def remove(self) -> None:
        """Take all of it away."""
        _ip("link", "delete", self._name)
        remove_network_namespace(self._namespace)
        self._directory.rmdir()


def _ip(*words: str, within: tuple[str, ...] = ()) -> None:
    subprocess.run([*within, "ip", *words], check=True, capture_output=True)


class Wire:
    """A network to a server, across a link: it counts what passes, and can be cut or unplugged.

    A cut network breaks all connections, and is mended by who comes and finds it cut.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._link = Link()
        self._listener = self._link.listen()
        self._lock = threading.Lock()
        self._ends: set[socket.socket] = set()
        self._passed = 0
        self._blow: tuple[int, Callable[[], None]] | None = None
        self._cut = False
        self._fallen = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def strike_after(self, count: int, blow: Callable[[], None]) -> None:
        """Call ``blow`` once when as many bytes more have passed."""
        self._fallen.clear()
        with self._lock:
            self._blow = (self._passed + count, blow)

    def spare(self) -> bool:
        """Take the blow back; False when it has fallen, and has done what it does."""
        with self._lock:
            pending, self._blow = self._blow, None
        return pending is not None or not self._fallen.wait(60)

    def cut(self) -> None:
        """Break all connections; the next one is refused, and finds the network mended afterwards."""
        with self._lock:
            self._cut = True
            ends, self._ends = self._ends, set()
        for end in ends:
            _shut(end)

    def unplug(self) -> None:
        """Take the link down, for a while: packets are lost, nobody is told."""
        self._link.down()
        mending = threading.Timer(OUTAGE, self._link.up)
        self._threads.append(mending)
        mending.start()

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _shut(self._listener)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()
        self._link.remove()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                refused, self._cut = self._cut, False
            try:
                far = None if refused else socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                far = None
            if far is None:
                near.close()
                continue
            with self._lock:
                self._ends |= {near, far}
            self._threads.append(threading.Thread(target=self._connect, args=(near, far)))
            self._threads[-1].start()

    def _connect(self, near: socket.socket, far: socket.socket) -> None:
        back = threading.Thread(target=self._pump, args=(far, near))
        back.start()
        self._pump(near, far)
        back.join()
        with self._lock:
            self._ends -= {near, far}
        near.close()
        far.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
                self._count(len(data))
        for end in (source, sink):
            _shut(end)

    def _count(self, count: int) -> None:
        with self._lock:
            self._passed += count
            due = self._blow is not None and self._passed >= self._blow[0]
            blow, self._blow = (self._blow, None) if due else (None, self._blow)
        if blow is not None:
            blow[1]()
            self._fallen.set()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
