"""Attempts to reach addresses, with real sockets of the calling thread's network namespace, many at a time.

TCP is a whole connection to a listener that was opened for the purpose. A service of somebody else's gets a SYN only,
through a raw socket: the kernel, which knows of no connection, answers the SYN-ACK with a reset, so that the service
never sees one. UDP and ICMP are echoes that carry a token of this run.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tare.kernel.local_addresses import address_towards
from tare.network.reachability import Verdict

TOKEN_BYTES = 16
_TCP_AT_ONCE = 32
_RECEIVE = 2048
_BACKLOG = 1024
_ICMP_ECHO = {4: (socket.IPPROTO_ICMP, 8, 0), 6: (socket.IPPROTO_ICMPV6, 128, 129)}  # protocol, request, reply
_SYN, _RST, _ACK = 0x02, 0x04, 0x10
_IPV6_CHECKSUM = 7  # linux/in6.h; the kernel fills the checksum in at this offset
_TCP_CHECKSUM_OFFSET = 16
_SO_ATTACH_FILTER = 26
_UNROUTABLE = (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Kind(StrEnum):
    """How an attempt is made."""

    CONNECT = "connect"
    SYN = "syn"
    DATAGRAM = "datagram"
    ECHO = "echo"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt; ``port`` is 0 for an echo request."""

    kind: Kind
    address: str
    port: int = 0

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


@dataclass
class Targets:
    """Sockets that answer attempts: opened on ``address``, with the ports that the kernel gave them."""

    address: str
    listener: socket.socket
    datagrams: socket.socket

    @property
    def ports(self) -> tuple[int, int]:
        """The ports of TCP and of UDP."""
        return self.listener.getsockname()[1], self.datagrams.getsockname()[1]

    def close(self) -> None:
        """Close both; connections that nobody took are reset."""
        self.listener.close()
        self.datagrams.close()


def open_targets(addresses: Iterable[str]) -> list[Targets]:
    """Listen on free ports of each address; one that is not there (any more) is left out."""
    opened = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with contextlib.ExitStack() as undo:
            try:
                listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
                listener.bind((address, 0))
                listener.listen(_BACKLOG)
                datagrams = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
                datagrams.setblocking(False)
                datagrams.bind((address, 0))
            except OSError as error:
                if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue
                raise
            undo.pop_all()
            opened.append(Targets(address, listener, datagrams))
    return opened


def answer_datagrams(targets: Sequence[Targets], token: bytes, stop: int) -> None:
    """Send datagrams with the token back until the descriptor ``stop`` is readable; others get no answer. Blocks."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(stop, selectors.EVENT_READ)
        for target in targets:
            waiting.register(target.datagrams, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fd == stop:
                    return
                with contextlib.suppress(OSError):
                    data, sender = key.fileobj.recvfrom(_RECEIVE)  # type: ignore[union-attr]
                    if data.startswith(token):
                        key.fileobj.sendto(data, sender)  # type: ignore[union-attr]


def attempt_all(attempts: Sequence[Attempt], token: bytes, seconds: float) -> list[Verdict]:
    """The outcome of each attempt, made from the calling thread's namespace. Blocks.

    What has no answer after ``seconds`` is dropped. TCP connections are made in groups, so that this may take a
    multiple of it. Raises OSError when no socket can be made.
    """
    with _Run(attempts, token, seconds) as run:
        return run.outcomes()


@dataclass
class _Run:
    """Attempts under way, each known by its number."""

    attempts: Sequence[Attempt]
    token: bytes
    seconds: float
    _found: dict[int, Verdict] = field(default_factory=dict)
    _waiting: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._waiting.close()

    def outcomes(self) -> list[Verdict]:
        """Make all attempts and wait for their ends."""
        for kind, sockets in ((Kind.DATAGRAM, _Datagrams), (Kind.ECHO, _EchoRequests), (Kind.SYN, _Syns)):
            for version in (4, 6):
                mine = self._of(kind, version)
                if mine:
                    self._send(sockets(version, self.token), mine)
        connections = [number for number, one in enumerate(self.attempts) if one.kind is Kind.CONNECT]
        self._wait({number for number, one in enumerate(self.attempts) if one.kind is not Kind.CONNECT}, connections)
        return [self._found.get(number, Verdict.DROPPED) for number in range(len(self.attempts))]

    def _of(self, kind: Kind, version: int) -> list[int]:
        return [n for n, one in enumerate(self.attempts) if one.kind is kind and one.version == version]

    def _send(self, sockets: _Shared, numbers: list[int]) -> None:
        self._open.callback(sockets.close)
        self._waiting.register(sockets.socket, selectors.EVENT_READ, sockets)
        for number in numbers:
            try:
                sockets.send(number, self.attempts[number])
            except OSError as error:
                self._found[number] = _verdict(error.errno or 0)

    def _wait(self, shared: set[int], connections: list[int]) -> None:
        """Until everything has an outcome or its time is over; connections are begun group by group."""
        while True:
            group, connections = connections[:_TCP_AT_ONCE], connections[_TCP_AT_ONCE:]
            opened = {number: self._connect(number) for number in group}
            deadline = time.monotonic() + self.seconds
            pending = shared | {number for number, one in opened.items() if one is not None}
            while (left := deadline - time.monotonic()) > 0 and pending - self._found.keys():
                for key, _ in self._waiting.select(left):
                    self._collect(key)
            for one in opened.values():
                if one is not None:
                    with contextlib.suppress(KeyError):
                        self._waiting.unregister(one)
                    one.close()
            if not connections:
                return
            shared = set()  # their time is over

    def _collect(self, key: selectors.SelectorKey) -> None:
        if isinstance(key.data, _Shared):
            for number, verdict in key.data.receive():
                self._found.setdefault(number, verdict)
            return
        connection = key.fileobj
        assert isinstance(connection, socket.socket)
        self._found[key.data] = _verdict(connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        self._waiting.unregister(connection)

    def _connect(self, number: int) -> socket.socket | None:
        """Begin a connection; None when it has failed already."""
        attempt = self.attempts[number]
        family = socket.AF_INET6 if attempt.version == 6 else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        # closed with a reset: nothing stays behind in TIME_WAIT
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        code = connection.connect_ex((attempt.address, attempt.port))
        if code not in (0, errno.EINPROGRESS):
            connection.close()
            self._found[number] = _verdict(code)
            return None
        self._waiting.register(connection, selectors.EVENT_WRITE, number)
        return connection


class _Shared:
    """A socket through which many attempts go."""

    socket: socket.socket

    def send(self, number: int, attempt: Attempt) -> None:
        """Send an attempt. Raises OSError."""
        raise NotImplementedError

    def receive(self) -> Iterator[tuple[int, Verdict]]:
        """The numbers of attempts that were answered, from one message."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def _received(receiver: socket.socket) -> bytes:
    try:
        return receiver.recv(_RECEIVE)
    except OSError:
        return b""


class _Datagrams(_Shared):
    def __init__(self, version: int, token: bytes) -> None:
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._token = token

    def send(self, number: int, attempt: Attempt) -> None:
        self.socket.sendto(self._token + struct.pack("!I", number), (attempt.address, attempt.port))

    def receive(self) -> Iterator[tuple[int, Verdict]]:
        data = _received(self.socket)
        if data.startswith(self._token) and len(data) == len(self._token) + 4:
            yield struct.unpack("!I", data[-4:])[0], Verdict.REACHABLE


class _EchoRequests(_Shared):
    """ICMP echo (RFC 792, RFC 4443)."""

    def __init__(self, version: int, token: bytes) -> None:
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        protocol, self._request, self._reply = _ICMP_ECHO[version]
        self.socket = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
        self._version = version
        self._identifier = int.from_bytes(os.urandom(2))
        self._token = token

    def send(self, number: int, attempt: Attempt) -> None:
        body = self._token + struct.pack("!I", number)
        header = struct.pack("!BBHHH", self._request, 0, 0, self._identifier, number & 0xFFFF)
        if self._version == 4:  # the kernel computes it for IPv6
            header = struct.pack("!BBHHH", self._request, 0, checksum(header + body), self._identifier, number & 0xFFFF)
        self.socket.sendto(header + body, (attempt.address, 0))

    def receive(self) -> Iterator[tuple[int, Verdict]]:
        data = _received(self.socket)
        if self._version == 4 and data:  # a raw IPv4 socket gets the IP header too (raw(7))
            data = data[(data[0] & 0x0F) * 4 :]
        body = data[8:]
        if data[:1] == bytes([self._reply]) and body.startswith(self._token):
            yield struct.unpack("!I", body[len(self._token) : len(self._token) + 4])[0], Verdict.REACHABLE


class _Syns(_Shared):
    """The first segment of a TCP handshake (RFC 9293)."""

    def __init__(self, version: int, token: bytes) -> None:
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._sequence = int.from_bytes(token[:4])
        self._sent: dict[int, int] = {}
        self._family = family
        with contextlib.ExitStack() as undo:
            self.socket = undo.enter_context(socket.socket(family, kind, socket.IPPROTO_TCP))
            if version == 6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, _TCP_CHECKSUM_OFFSET)
            # a port that nobody else has meanwhile
            self._reservation = undo.enter_context(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
            self._reservation.bind(("", 0))
            undo.pop_all()
        self._port = self._reservation.getsockname()[1]
        _only_port(self.socket, self._port, version)

    def close(self) -> None:
        self._reservation.close()
        self.socket.close()

    def send(self, number: int, attempt: Attempt) -> None:
        sequence = (self._sequence + number * 7919) & 0xFFFFFFFF
        fields = (self._port, attempt.port, sequence, 0, 5 << 4, _SYN, 64240)
        segment = struct.pack("!HHIIBBHHH", *fields, 0, 0)
        if self._family == socket.AF_INET:
            source = address_towards(attempt.address)
            if not source:
                raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))
            ends = socket.inet_aton(source) + socket.inet_aton(attempt.address)
            pseudo = ends + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment))
            segment = struct.pack("!HHIIBBHHH", *fields, checksum(pseudo + segment), 0)
        self._sent[(sequence + 1) & 0xFFFFFFFF] = number
        self.socket.sendto(segment, (attempt.address, 0))

    def receive(self) -> Iterator[tuple[int, Verdict]]:
        data = _received(self.socket)
        if self._family == socket.AF_INET and data:
            data = data[(data[0] & 0x0F) * 4 :]
        if len(data) < 20:
            return
        _, port, _, acknowledged, _, flags = struct.unpack_from("!HHIIBB", data)
        number = self._sent.get(acknowledged)
        if port != self._port or number is None or not flags & _ACK:
            return
        if flags & _RST:
            yield number, Verdict.REFUSED
        elif flags & _SYN:
            yield number, Verdict.REACHABLE


def _only_port(receiver: socket.socket, port: int, version: int) -> None:
    """Have a raw socket take only segments for ``port`` (classic BPF, socket(7)): a busy host's are many."""
    load = [(0xB1, 0, 0, 0), (0x48, 0, 0, 2)] if version == 4 else [(0x28, 0, 0, 2)]
    program = [*load, (0x15, 0, 1, port), (0x06, 0, 0, 0xFFFF), (0x06, 0, 0, 0)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(code, len(code))
    attached = struct.pack("HxxxxxxP", len(program), ctypes.addressof(instructions))
    receiver.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(int.from_bytes(data[place : place + 2]) for place in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _verdict(code: int) -> Verdict:
    """What an error number of connecting or sending says about the way."""
    if code == 0:
        return Verdict.REACHABLE
    if code == errno.ECONNREFUSED:
        return Verdict.REFUSED
    return Verdict.UNROUTABLE if code in _UNROUTABLE else Verdict.DROPPED
