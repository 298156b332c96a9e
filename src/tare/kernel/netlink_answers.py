"""Requests to the kernel on netlink sockets (netlink(7)), and the messages of its answers."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

REQUEST, ACKNOWLEDGE, DUMP = 0x1, 0x4, 0x300  # NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_BUFFER = 1 << 18


def ask(netlink: socket.socket, kind: int, flags: int, body: bytes) -> None:
    """Send one request. Raises OSError."""
    netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body)


def answers(netlink: socket.socket) -> Iterator[bytes]:
    """The bodies of the messages that answer a request, up to their end or acknowledgement. Raises OSError."""
    while True:
        data, offset = netlink.recv(_BUFFER), 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            body = data[offset + _HEADER.size : offset + length]
            if kind == _DONE:
                return
            if kind == _ERROR:
                if number := -struct.unpack_from("=i", body)[0]:
                    raise OSError(number, os.strerror(number))
                return
            yield body
            offset += (length + 3) & ~3
