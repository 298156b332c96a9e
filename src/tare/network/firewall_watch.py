"""Notices when somebody else changes the engine's tables: the kernel tells of every transaction (nfnetlink)."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

# linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 7
_SUBSYSTEM_NFTABLES = 10
_NEW_GENERATION = 15
_ATTRIBUTE_TABLE = 1  # of tables, chains, rules, sets and elements alike
_GENERATION_PID, _GENERATION_NAME = 2, 3
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_RECEIVE_BYTES = 1 << 17
_BUFFER_BYTES = 4 << 20  # a range of ports that is moved is thousands of elements, each with its event


class Culprit(NamedTuple):
    """Who committed a transaction: the thread's id and name, empty when messages were lost."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})" if self.name else "somebody"


class FirewallWatch:
    """Calls ``on_change`` in the event loop after each transaction of another process that touches ``table``.

    The socket belongs to the network namespace that the engine is in.
    """

    def __init__(self, table: str, on_change: Callable[[Culprit], None]) -> None:
        self._table = table.encode()
        self._on_change = on_change
        self._socket: socket.socket | None = None
        self._touched = False

    def start(self) -> None:
        """Begin to watch. Raises OSError when the kernel refuses."""
        watcher = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        try:
            watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
            watcher.bind((0, 0))
            watcher.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)
            watcher.setblocking(False)
            asyncio.get_running_loop().add_reader(watcher, self._read)
        except BaseException:
            watcher.close()
            raise
        self._socket = watcher

    def stop(self) -> None:
        """Watch no longer; not having begun is no error."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                logger.exception("changes of the firewall by others go unnoticed from now on")
                self.stop()
                return
            self._on_change(Culprit(0, ""))  # events were lost: what they said is not known
            return
        for kind, attributes in _messages(data):
            if kind != _NEW_GENERATION:
                self._touched |= attributes.get(_ATTRIBUTE_TABLE, b"").rstrip(b"\0") == self._table
            else:  # ends a transaction
                touched, self._touched = self._touched, False
                culprit = _culprit(attributes)
                if touched and not _is_own(culprit.pid):
                    self._on_change(culprit)


def _messages(data: bytes) -> Iterator[tuple[int, dict[int, bytes]]]:
    """The kind of each nftables message, and its outermost attributes."""
    offset = 0
    while offset + 20 <= len(data):
        size, kind = struct.unpack_from("=IH", data, offset)
        if size < 20:
            return
        if kind >> 8 == _SUBSYSTEM_NFTABLES:
            yield kind & 0xFF, dict(_attributes(data[offset + 20 : offset + size]))
        offset += (size + 3) & ~3


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def _culprit(attributes: dict[int, bytes]) -> Culprit:
    pid = int.from_bytes(attributes.get(_GENERATION_PID, b""))
    name = attributes.get(_GENERATION_NAME, b"").rstrip(b"\0").decode(errors="replace")
    return Culprit(pid, name or "a process")


def _is_own(thread: int) -> bool:
    """Whether the kernel names a thread of this process: transactions run on worker threads."""
    return Path(f"/proc/self/task/{thread}").exists()
