"""Sockets that wait for connections or datagrams, asked of the kernel by sock_diag(7) in the thread's namespace."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tare.kernel.netlink_answers import DUMP, REQUEST, answers, ask

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NOT_KNOWN = (errno.ENOENT, errno.EINVAL, errno.EAFNOSUPPORT)  # what a kernel says of a protocol that it lacks
_INET_DIAG_SKV6ONLY = 11
_TCP_LISTEN, _TCP_CLOSE = 10, 7  # a datagram socket that is bound and not connected is in the state "close"
_SCTP_LISTEN = 10
_PROTOCOLS = {
    "tcp": (socket.IPPROTO_TCP, _TCP_LISTEN),
    "udp": (socket.IPPROTO_UDP, _TCP_CLOSE),
    "sctp": (socket.IPPROTO_SCTP, _SCTP_LISTEN),
}
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2
_ANSWER = struct.Struct("=BBBBHH16s16sI8sIIIII")  # struct inet_diag_msg; ports are in network order
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr


@dataclass(frozen=True, slots=True)
class WaitingSocket:
    """A socket bound to ``address`` and ``port``; ``only6`` tells that one on :: does not serve IPv4."""

    protocol: str
    address: str
    port: int
    only6: bool
    inode: int


def waiting_sockets() -> list[WaitingSocket]:
    """Listening TCP and SCTP sockets and unconnected UDP sockets of the calling thread's network namespace.

    Protocols that the kernel has no module for have no sockets. Raises OSError.
    """
    found: list[WaitingSocket] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as netlink:
        for protocol, (number, state) in _PROTOCOLS.items():
            for family in (socket.AF_INET, socket.AF_INET6):
                body = _REQUEST.pack(family, number, 0, 1 << state)
                ask(netlink, _SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, body)
                try:
                    found += [_socket(protocol, message) for message in answers(netlink)]
                except OSError as error:
                    if error.errno not in _NOT_KNOWN:
                        raise
    return found


def _socket(protocol: str, message: bytes) -> WaitingSocket:
    fields = _ANSWER.unpack_from(message)
    family, port, address, inode = fields[0], socket.ntohs(fields[4]), fields[6], fields[14]
    length = 4 if family == socket.AF_INET else 16
    only6 = False
    rest = message[_ANSWER.size :]
    while len(rest) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(rest)
        if size < _ATTRIBUTE.size:
            break
        if kind == _INET_DIAG_SKV6ONLY:
            only6 = rest[_ATTRIBUTE.size] != 0
        rest = rest[(size + 3) & ~3 :]
    return WaitingSocket(protocol, socket.inet_ntop(family, address[:length]), port, only6, inode)


def socket_inodes(pids: Iterable[int]) -> frozenset[int]:
    """The numbers of the sockets that processes have open (proc(5)); of those that end meanwhile, none."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    target = os.readlink(entry.path)  # noqa: PTH115 - thousands of them, and Path is slow
                    if target.startswith("socket:["):
                        found.add(int(target[8:-1]))
    return frozenset(found)
