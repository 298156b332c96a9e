"""Host ports: which are free, who has them, and what is asked for."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sqlite3
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import NamedTuple

import msgspec

from tare.errors import Conflict, Exhausted, InvalidArgument, Unsupported
from tare.network.model import PortRequest, PublishedPort

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the notation for every address of the host
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def normalise(request: PortRequest, binding: str = "") -> PortRequest:
    """The port asked for, checked; ``binding`` is the host address where none is given.

    Raises InvalidArgument, Unsupported.
    """
    if request.protocol not in _KINDS:
        raise Unsupported(f"cannot publish {request.container_port}/{request.protocol}: use tcp or udp")
    if not 1 <= request.container_port <= 65535:
        raise InvalidArgument(f"invalid container port {request.container_port}: not in 1-65535")
    if not 0 <= request.host_port <= 65535:
        raise InvalidArgument(f"invalid host port {request.host_port}: not in 0-65535")
    if request.last_host_port and not request.host_port <= request.last_host_port <= 65535:
        raise InvalidArgument(f"invalid range of host ports {request.host_port}-{request.last_host_port}")
    try:
        address = IPv4Address(request.host_address or binding or EVERYWHERE)
    except AddressValueError as error:
        raise InvalidArgument(f"invalid host address {request.host_address}: {error}") from error
    return msgspec.structs.replace(request, host_address=str(address))


def _at(request: PortRequest, number: int) -> PublishedPort:
    return PublishedPort(
        protocol=request.protocol,
        host_address=request.host_address,
        host_port=number,
        container_port=request.container_port,
    )


def claim(
    connection: sqlite3.Connection,
    endpoint_id: str,
    requests: Sequence[PortRequest],
    *,
    port_range: tuple[int, int],
    subject: str,
    address: str,
) -> list[PublishedPort]:
    """Take host ports for an endpoint in the caller's transaction; a ``host_port`` 0 becomes a free one.

    ``subject`` begins an error's sentence. Raises Conflict (code ``port-in-use``) naming who has the port, Exhausted.
    """
    claimed = []
    for request in requests:
        if request.host_port and request.last_host_port > request.host_port:
            port = _choose(connection, request, (request.host_port, request.last_host_port), subject)
        elif request.host_port:
            port = _at(request, request.host_port)
            _check_free(connection, port, subject, address)
        else:
            port = _choose(connection, request, port_range, subject)
        connection.execute(
            "INSERT INTO published_ports VALUES (?, ?, ?, ?, ?)",
            (port.protocol, port.host_address, port.host_port, endpoint_id, port.container_port),
        )
        claimed.append(port)
    return claimed


def _choose(
    connection: sqlite3.Connection, request: PortRequest, port_range: tuple[int, int], subject: str
) -> PublishedPort:
    for number in range(port_range[0], port_range[1] + 1):
        candidate = _at(request, number)
        if _holder(connection, candidate) is None and _bind_error(candidate) is None:
            return candidate
    raise Exhausted(
        f"{subject}: no free {request.protocol} port on {request.host_address} in {port_range[0]}-{port_range[1]}",
        hint="stop what has them, or name another port",
        code="ports-exhausted",
    )


def _check_free(connection: sqlite3.Connection, port: PublishedPort, subject: str, address: str) -> None:
    where = f"{port.host_address}:{port.host_port}:{address}:{port.container_port}/{port.protocol}"
    holder = _holder(connection, port)
    if holder is not None:
        raise Conflict(
            f"{subject}: Bind for {holder.host_address}:{port.host_port} failed: port is already allocated",
            hint=f"container {holder.container} publishes it; stop it or choose another host port",
            code="port-in-use",
        )
    error = _bind_error(port)
    if error is None:
        return
    if error == errno.EADDRINUSE:
        owner = owner_of_port(port)
        raise Conflict(
            f"{subject}: failed to bind host port for {where}: address already in use",
            hint=f"{owner or 'another process'} has it; stop it or choose another host port",
            code="port-in-use",
        )
    if error == errno.EADDRNOTAVAIL:
        raise InvalidArgument(
            f"{subject}: failed to bind host port for {where}: cannot assign requested address",
            hint=f"{port.host_address} is not an address of this host",
            code="address-not-local",
        )
    raise InvalidArgument(f"{subject}: failed to bind host port for {where}: {os.strerror(error).lower()}")


class _Holder(NamedTuple):
    container: str
    host_address: str


def _holder(connection: sqlite3.Connection, port: PublishedPort) -> _Holder | None:
    """The container that publishes this port on an address that collides, and that address."""
    row = connection.execute(
        "SELECT containers.name, host_address FROM published_ports"
        " JOIN endpoints ON endpoints.id = published_ports.endpoint"
        " JOIN containers ON containers.id = endpoints.container"
        " WHERE protocol=? AND host_port=? AND (host_address=? OR host_address=? OR ?=?)",
        (port.protocol, port.host_port, port.host_address, EVERYWHERE, port.host_address, EVERYWHERE),
    ).fetchone()
    return _Holder(*row) if row else None


def _bind_error(port: PublishedPort) -> int | None:
    """Bind for a moment to see whether another process has the port; the errno when it fails."""
    with socket.socket(socket.AF_INET, _KINDS[port.protocol] | socket.SOCK_CLOEXEC) as probe:
        try:
            if port.protocol == "tcp":  # closing connections of an earlier listener do not count
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((port.host_address, port.host_port))
            if port.protocol == "tcp":
                probe.listen(1)
        except OSError as error:
            return error.errno or errno.EIO
    return None


def owner_of_port(port: PublishedPort) -> str:
    """The process that has a host port, as ``name (pid N)``; empty when it cannot be found."""
    inodes = {
        fields[9]
        for table in (port.protocol, f"{port.protocol}6")
        for fields in map(str.split, _lines(Path("/proc/net", table)))
        if fields[1].rpartition(":")[2] == f"{port.host_port:04X}" and (port.protocol == "udp" or fields[3] == "0A")
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
