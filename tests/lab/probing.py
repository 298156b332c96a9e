"""Attempts to connect, made with real sockets inside namespaces, all at the same time."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tare.kernel.namespaces import run_in_network_namespace

REPEAT = 1.0
"""Seconds without any answer after which every packet that has none is sent again; TCP does so by itself."""
SILENCE = 2.0
"""Seconds without any answer after that, which are taken for dropped packets: as they are counted from the last answer,
a machine that is slow changes no outcome."""
LINK = "eth0"
IP_RECVERR, IPV6_RECVERR = 11, 25  # <linux/in.h>, <linux/in6.h>; Python has no names for them
ECHO, ECHO_REPLY = 8, 0  # RFC 792
ECHO6, ECHO_REPLY6 = 128, 129  # RFC 4443

_VERDICTS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "closed",
    errno.EHOSTUNREACH: "dropped",  # nobody says who has the address: silence as well, of three seconds
    errno.ENETUNREACH: "unroutable",
    errno.EADDRNOTAVAIL: "unroutable",
    errno.ETIMEDOUT: "dropped",
    errno.EPERM: "dropped",  # the local firewall's output
}


@dataclass(frozen=True)
class Probe:
    """One attempt: from a namespace to an address and a port (0 for icmp); an address of a link is of eth0's."""

    namespace: Path
    address: str
    port: int
    protocol: str

    @property
    def six(self) -> bool:
        """Whether it is IPv6."""
        return ":" in self.address


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt.

    ``verdict`` is ``reachable``, ``refused``, ``dropped`` (silence), ``unroutable``, or ``closed``: accepted and hung
    up without a word. ``by`` is who answered, ``seen`` the address that the service saw.
    """

    verdict: str
    by: str = ""
    seen: str = ""


@dataclass
class _Attempt:
    """An attempt on its way; sockets do not block."""

    probe: Probe
    socket: socket.socket
    scope: int
    number: int
    received: bytes = b""
    outcome: Outcome | None = None

    def begin(self) -> None:
        """Send the first packet."""
        with self._errors():
            try:
                place = (self.probe.address, self.probe.port)
                self.socket.connect((*place, 0, self.scope) if self.probe.six else place)
            except BlockingIOError:
                return
            self._ask_for_errors()
            self._send()

    def repeat(self) -> None:
        """Send it again, where the kernel does not by itself."""
        with self._errors():
            self._send()

    def go_on(self) -> None:
        """Read what is there."""
        with self._errors(), contextlib.suppress(BlockingIOError):
            data = self.socket.recv(2048)
            if self.probe.protocol == "icmp":
                self._read_echo(data)
            elif data:
                self.received += data
            if self.received and (not data or self.probe.protocol == "udp"):
                by, seen = self.received.decode().split()
                self.outcome = Outcome("reachable", by, seen)
            elif not data:
                self.outcome = Outcome("closed")

    def _ask_for_errors(self) -> None:
        """ICMP errors of the one address: a raw socket that is not connected would get those of all others."""
        if self.probe.six:
            self.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)

    def _send(self) -> None:
        if self.probe.protocol == "udp":
            self.socket.send(b"hello")
        elif self.probe.protocol == "icmp":
            self.socket.send(_echo(self.number, six=self.probe.six))

    def _read_echo(self, packet: bytes) -> None:
        if not self.probe.six:
            packet = packet[(packet[0] & 15) * 4 :]
        if (packet[0], *struct.unpack("!H", packet[4:6])) == (
            ECHO_REPLY6 if self.probe.six else ECHO_REPLY,
            self.number,
        ):
            self.outcome = Outcome("reachable")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _VERDICTS:
                raise
            self.outcome = Outcome(_VERDICTS[error.errno])


def attempt_all(probes: Sequence[Probe]) -> list[Outcome]:
    """The outcomes in the order of the probes. Blocks for ``REPEAT + SILENCE`` seconds when one of them is silence."""
    with contextlib.ExitStack() as opened, selectors.DefaultSelector() as selector:
        attempts = []
        for number, (probe, (opening, scope)) in enumerate(zip(probes, _sockets(probes), strict=True), start=1):
            attempts.append(_Attempt(probe, opened.enter_context(opening), scope, number))
        for attempt in attempts:
            attempt.begin()
            if attempt.outcome is None:
                selector.register(attempt.socket, selectors.EVENT_READ, attempt)
        _collect(selector, REPEAT)
        for key in selector.get_map().values():
            key.data.repeat()
        _collect(selector, SILENCE)
        return [attempt.outcome or Outcome("dropped") for attempt in attempts]


def _collect(selector: selectors.BaseSelector, quiet: float) -> None:
    """Take answers until none has come for ``quiet`` seconds."""
    while selector.get_map() and (ready := selector.select(quiet)):
        for key, _ in ready:
            key.data.go_on()
            if key.data.outcome is not None:
                selector.unregister(key.fileobj)


def _sockets(probes: Sequence[Probe]) -> list[tuple[socket.socket, int]]:
    """A socket for each probe, made in its namespace: it stays there wherever it is used; and the link's number."""
    found: dict[int, tuple[socket.socket, int]] = {}
    for namespace in {probe.namespace for probe in probes}:
        mine = [number for number, probe in enumerate(probes) if probe.namespace == namespace]
        made = run_in_network_namespace(namespace, lambda mine=mine: [_open(probes[number]) for number in mine])
        found.update(zip(mine, made, strict=True))
    return [found[number] for number in range(len(probes))]


def _open(probe: Probe) -> tuple[socket.socket, int]:
    scope = socket.if_nametoindex(LINK) if probe.address.startswith("fe80:") else 0
    return _socket(probe), scope


def _socket(probe: Probe) -> socket.socket:
    family = socket.AF_INET6 if probe.six else socket.AF_INET
    flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    if probe.protocol == "tcp":
        return socket.socket(family, socket.SOCK_STREAM | flags)
    if probe.protocol == "udp":
        return socket.socket(family, socket.SOCK_DGRAM | flags)
    number = socket.IPPROTO_ICMPV6 if probe.six else socket.IPPROTO_ICMP
    return socket.socket(family, socket.SOCK_RAW | flags, number)


def _echo(number: int, *, six: bool) -> bytes:
    """An echo request; for IPv6 the kernel fills the checksum in (RFC 3542, section 3.1)."""
    head = struct.pack("!BBHHH", ECHO6 if six else ECHO, 0, 0, number, 1)
    payload = os.urandom(8)
    if six:
        return head + payload
    total = sum(struct.unpack("!8H", head + payload))
    total = (total & 0xFFFF) + (total >> 16)
    total += total >> 16
    return head[:2] + struct.pack("!H", ~total & 0xFFFF) + head[4:] + payload
