"""Sockets that wait for connections or datagrams, asked of the kernel by sock_diag(7) in the thread's namespace."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_INET_DIAG_SKV6ONLY = 11
_TCP_LISTEN, _TCP_CLOSE = 10, 7  # a datagram socket that is bound and not connected is in the state "close"
_SCTP_LISTEN = 10
_PROTOCOLS = {
    "tcp": (socket.IPPROTO_TCP, _TCP_LISTEN),
    "udp": (socket.IPPROTO_UDP, _TCP_CLOSE),
    "sctp": (socket.IPPROTO_SCTP, _SCTP_LISTEN),
}
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2
_ANSWER = struct.Struct("=BBBBHH16s16sI8sIIIII")  # struct inet_diag_msg; ports are in network order
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_BUFFER = 1 << 18


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
                length = _HEADER.size + len(body)
                netlink.send(_HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 0, 0) + body)
                found += [_socket(protocol, message) for message in _messages(netlink)]
    return found


def _messages(netlink: socket.socket) -> Iterator[bytes]:
    """The answers to a dump; a protocol that the kernel does not know has none."""
    while True:
        data = netlink.recv(_BUFFER)
        while len(data) >= _HEADER.size:
            length, kind, _, _, _ = _HEADER.unpack_from(data)
            body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", body)[0]
                if number in (errno.ENOENT, errno.EINVAL, errno.EAFNOSUPPORT):
                    return
                raise OSError(number, os.strerror(number))
            yield body


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
