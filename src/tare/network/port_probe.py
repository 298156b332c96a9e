"""Whether processes of the host have a port: a bind(2) for a moment, and the tables of proc(5) for a range."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import msgspec

from tare.network.model import EVERYWHERE, PublishedPort

_KINDS = {
    "tcp": (socket.SOCK_STREAM, 0),
    "udp": (socket.SOCK_DGRAM, 0),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
PROTOCOLS = tuple(_KINDS)
_LISTENING = "0A"  # TCP_LISTEN of tcp_states.h


class Refusal(NamedTuple):
    """Why a host port cannot be had; of a range the port that is in the way."""

    port: PublishedPort
    error: int

    @property
    def reason(self) -> str:
        """In Docker's words."""
        return {
            errno.EADDRINUSE: "address already in use",
            errno.EADDRNOTAVAIL: "cannot assign requested address",
        }.get(self.error, os.strerror(self.error).lower())

    @property
    def in_use(self) -> bool:
        """Whether a process has it."""
        return self.error == errno.EADDRINUSE

    @property
    def not_local(self) -> bool:
        """Whether the host has no such address."""
        return self.error == errno.EADDRNOTAVAIL


def why_not_free(port: PublishedPort) -> Refusal | None:
    """None when no process has the port, or one of its range, on an address that collides."""
    error = _bind_error(port)
    if error is not None:
        return Refusal(msgspec.structs.replace(port, count=1), error)
    if port.count > 1:
        for number, address in _bound(port.protocol):
            if port.host_port <= number < port.host_port + port.count and _collide(address, port.host_address):
                offset = number - port.host_port
                single = msgspec.structs.replace(
                    port, host_port=number, container_port=port.container_port + offset, count=1
                )
                return Refusal(single, errno.EADDRINUSE)
    return None


def _bind_error(port: PublishedPort) -> int | None:
    """Bind to the (first) port for a moment; the errno when it fails."""
    kind, protocol = _KINDS[port.protocol]
    family = socket.AF_INET6 if ":" in port.host_address else socket.AF_INET
    try:
        with socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol) as probe:
            if port.protocol == "tcp":  # closing connections of an earlier listener do not count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((port.host_address, port.host_port))
            if kind == socket.SOCK_STREAM:
                probe.listen(1)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:  # no SCTP in this kernel: then no process has such a port either
            return None
        return error.errno or errno.EIO
    return None


def _bound(protocol: str) -> Iterator[tuple[int, str]]:
    """Port and address of every socket of the host that waits for packets from anybody."""
    for table in (protocol, f"{protocol}6"):
        for fields in map(str.split, _lines(Path("/proc/thread-self/net", table))):
            if protocol == "udp" or fields[3] == _LISTENING:
                address, _, number = fields[1].rpartition(":")
                yield int(number, 16), _address(address)


def _address(digits: str) -> str:
    """An address as the tables write it: words of 32 bits in the host's byte order."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    return str(ip_address(b"".join(words)))


def _collide(bound: str, wanted: str) -> bool:
    """Whether a socket at ``bound`` is in the way; one of :: may take IPv4 too, so it counts for both families."""
    if bound == EVERYWHERE[1]:
        return True
    same_family = (":" in bound) == (":" in wanted)
    return same_family and (bound == wanted or bound in EVERYWHERE or wanted in EVERYWHERE)


def owner_of_port(port: PublishedPort) -> str:
    """The process that has a host port, as ``name (pid N)``; empty when it cannot be found."""
    inodes = {
        fields[9]
        for table in (port.protocol, f"{port.protocol}6")
        for fields in map(str.split, _lines(Path("/proc/net", table)))
        if fields[1].rpartition(":")[2] == f"{port.host_port:04X}"
        and (port.protocol == "udp" or fields[3] == _LISTENING)
    }
    if not inodes:
        return ""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in wanted:
                        return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return ""


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()[1:]
    except FileNotFoundError:
        return []
