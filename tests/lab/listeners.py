"""Services of the lab: in every namespace something that says who it is and whom it sees."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dnslib import RCODE, DNSRecord

from tare.kernel.namespaces import run_in_network_namespace

BACKLOG = 1024
NAME_SERVER = 53
IP_PKTINFO = 8  # <linux/in.h>; Python 3.11 has no name for it


@dataclass(frozen=True)
class Service:
    """Who listens, in which namespace, at which ports; each over TCP and UDP, IPv4 and IPv6.

    At port 53 it is a name server that knows no name.
    """

    name: str
    namespace: Path
    ports: tuple[int, ...]


@contextlib.contextmanager
def listening(services: Sequence[Service]) -> Iterator[None]:
    """All services answer while the block runs, from one thread.

    The answer to a connection or a datagram is ``<name> <address of the peer>``.
    """
    ours, theirs = socket.socketpair()
    with contextlib.ExitStack() as opened, selectors.DefaultSelector() as selector:
        opened.enter_context(ours)
        selector.register(opened.enter_context(theirs), selectors.EVENT_READ, "")
        for service in services:
            for listener in run_in_network_namespace(service.namespace, lambda service=service: _open(service)):
                selector.register(opened.enter_context(listener), selectors.EVENT_READ, service.name)
        thread = threading.Thread(target=_serve, args=(selector,), name="listeners")
        thread.start()
        try:
            yield
        finally:
            ours.send(b".")
            thread.join()


def _open(service: Service) -> list[socket.socket]:
    opened = []
    for port in service.ports:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                listener = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                opened.append(listener)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                else:
                    listener.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
                listener.bind((everywhere, port))
                if kind == socket.SOCK_STREAM:
                    listener.listen(BACKLOG)
    return opened


def _serve(selector: selectors.BaseSelector) -> None:
    while True:
        for key, _ in selector.select():
            if not key.data:
                return
            listener = key.fileobj
            assert isinstance(listener, socket.socket)
            with contextlib.suppress(OSError):  # who asked has gone, or cannot be reached
                (_accept if listener.type == socket.SOCK_STREAM else _answer)(listener, key.data)


def _accept(listener: socket.socket, name: str) -> None:
    connection, peer = listener.accept()
    with connection:
        connection.sendall(f"{name} {peer[0]}".encode())


def _answer(listener: socket.socket, name: str) -> None:
    """Answer from the address that was asked: a socket for every address would choose by the route back."""
    asked, ancillary, _, peer = listener.recvmsg(512, 64)
    reply = []
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP:  # struct in_pktinfo: index, local address, destination
            reply = [(level, kind, bytes(4) + data[4:8] + bytes(4))]
        else:  # struct in6_pktinfo: address, index
            reply = [(level, kind, data[:16] + bytes(4))]
    answer = _no_such_name(asked) if listener.getsockname()[1] == NAME_SERVER else f"{name} {peer[0]}".encode()
    listener.sendmsg([answer], reply, 0, peer)


def _no_such_name(asked: bytes) -> bytes:
    reply = DNSRecord.parse(asked).reply()
    reply.header.rcode = RCODE.NXDOMAIN
    packed: bytes = reply.pack()
    return packed
