"""Host ports: what is asked for, which are free, and who takes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import NamedTuple

import msgspec

from tare.errors import Conflict, Exhausted, InvalidArgument, Unsupported
from tare.network.model import EVERYWHERE, PortRequest, PublishedPort
from tare.network.port_probe import PROTOCOLS, Refusal, owner_of_port, why_not_free


class Target(NamedTuple):
    """The endpoint that ports are claimed for; ``subject`` begins an error's sentence."""

    endpoint_id: str
    subject: str
    address: str
    address6: str


def normalise(request: PortRequest, binding: str = "") -> PortRequest:
    """The port asked for, checked; ``binding`` is the host address where none is given.

    Raises InvalidArgument, Unsupported.
    """
    if request.protocol not in PROTOCOLS:
        raise Unsupported(
            f"cannot publish {request.container_port}/{request.protocol}: use {', '.join(PROTOCOLS)}",
        )
    if not 1 <= request.container_port <= 65536 - request.count:
        raise InvalidArgument(f"invalid container port {request.container_port}: not in 1-65535")
    if not 0 <= request.host_port <= 65536 - request.count:
        raise InvalidArgument(f"invalid host port {request.host_port}: not in 0-65535")
    if request.last_host_port and not request.host_port <= request.last_host_port <= 65535:
        raise InvalidArgument(f"invalid range of host ports {request.host_port}-{request.last_host_port}")
    address = request.host_address or binding
    try:
        address = str(ip_address(address)) if address else ""
    except ValueError as error:
        raise InvalidArgument(f"invalid host address {request.host_address}: {error}") from error
    return msgspec.structs.replace(request, host_address=address, sources=read_sources(request.sources))


def read_sources(texts: Iterable[str]) -> tuple[str, ...]:
    """CIDR blocks, or single addresses, in order and without what others of them hold. Raises InvalidArgument."""
    blocks4: list[IPv4Network] = []
    blocks6: list[IPv6Network] = []
    for text in texts:
        try:
            block = ip_network(text)
        except ValueError as error:
            raise InvalidArgument(
                f"invalid source {text}: {error}", hint="write from=10.0.0.0/8", code="bad-source"
            ) from error
        if isinstance(block, IPv4Network):
            blocks4.append(block)
        else:
            blocks6.append(block)
    return (*map(str, collapse_addresses(blocks4)), *map(str, collapse_addresses(blocks6)))


def claim(
    connection: sqlite3.Connection,
    target: Target,
    requests: Sequence[PortRequest],
    *,
    port_range: tuple[int, int],
    first_port: int = 0,
) -> list[PublishedPort]:
    """Take host ports for an endpoint in the caller's transaction; a ``host_port`` 0 becomes a free one.

    The search for a free one begins at ``first_port``. A port without a host address is taken on every address of the
    families that the endpoint has, under one number. Raises Conflict (code ``port-in-use``) naming who has the port,
    InvalidArgument, Exhausted.
    """
    claimed = []
    for request in requests:
        places = _places(request, target)
        if request.host_port and request.last_host_port > request.host_port:
            ports = _choose(connection, request, places, (request.host_port, request.last_host_port), target.subject)
        elif request.host_port:
            ports = [_at(request, place, request.host_port) for place in places]
            for port in ports:
                _check_free(connection, port, target)
        else:
            ports = _choose(connection, request, places, port_range, target.subject, first=first_port)
        for port in ports:
            connection.execute(
                "INSERT INTO published_ports (protocol, host_address, host_port, endpoint, container_port, count,"
                " sources) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    port.protocol,
                    port.host_address,
                    port.host_port,
                    target.endpoint_id,
                    port.container_port,
                    port.count,
                    " ".join(port.sources),
                ),
            )
        claimed += ports
    return claimed


def _places(request: PortRequest, target: Target) -> list[str]:
    """The host addresses on which a port is to be published: of families that the container has, and its sources."""
    families = [every for every, own in zip(EVERYWHERE, (target.address, target.address6), strict=True) if own]
    if request.host_address and EVERYWHERE[":" in request.host_address] not in families:
        family = "IPv6" if ":" in request.host_address else "IPv4"
        raise InvalidArgument(
            f"{target.subject}: cannot publish on {request.host_address}: the container has no {family} address",
            hint=f"make its network with --{family.lower()}" if family == "IPv6" else "publish on an IPv6 address",
            code="no-address-of-family",
        )
    wanted = [request.host_address] if request.host_address else families
    come = {ip_network(source).version for source in request.sources} or {4, 6}
    places = [place for place in wanted if (6 if ":" in place else 4) in come]
    if wanted and not places:
        raise InvalidArgument(
            f"{target.subject}: nobody could come: no source of {', '.join(request.sources)} is of a family in which"
            f" port {request.container_port} is published",
            hint="name a source of the same family as the host address and the container's",
            code="bad-source",
        )
    return places


def _at(request: PortRequest, address: str, number: int) -> PublishedPort:
    version = 6 if ":" in address else 4
    sources = tuple(source for source in request.sources if ip_network(source).version == version)
    return PublishedPort(
        protocol=request.protocol,
        host_address=address,
        host_port=number,
        container_port=request.container_port,
        count=request.count,
        sources=sources,
    )


def _choose(
    connection: sqlite3.Connection,
    request: PortRequest,
    places: Sequence[str],
    port_range: tuple[int, int],
    subject: str,
    *,
    first: int = 0,
) -> list[PublishedPort]:
    begin = first if port_range[0] <= first <= port_range[1] else port_range[0]
    for number in (*range(begin, port_range[1] + 1), *range(port_range[0], begin)):
        candidates = [_at(request, place, number) for place in places]
        if all(_holder(connection, port) is None and why_not_free(port) is None for port in candidates):
            return candidates
    raise Exhausted(
        f"{subject}: no free {request.protocol} port on {request.host_address or EVERYWHERE[0]}"
        f" in {port_range[0]}-{port_range[1]}",
        hint="stop what has them, or name another port",
        code="ports-exhausted",
    )


def _check_free(connection: sqlite3.Connection, port: PublishedPort, target: Target) -> None:
    holder = _holder(connection, port)
    if holder is not None:
        shown = f"[{holder.host_address}]" if ":" in holder.host_address else holder.host_address
        raise Conflict(
            f"{target.subject}: Bind for {shown}:{max(port.host_port, holder.host_port)} failed:"
            " port is already allocated",
            hint=f"container {holder.container} publishes it; stop it or choose another host port",
            code="port-in-use",
        )
    refusal = why_not_free(port)
    if refusal is not None:
        raise _refused(refusal, target)


def _refused(refusal: Refusal, target: Target) -> Exception:
    port = refusal.port
    own = target.address6 if ":" in port.host_address else target.address
    where = f"{port.host_address}:{port.host_port}:{own}:{port.container_port}/{port.protocol}"
    message = f"{target.subject}: failed to bind host port for {where}: {refusal.reason}"
    if refusal.in_use:
        owner = owner_of_port(port)
        hint = f"{owner or 'another process'} has it; stop it or choose another host port"
        return Conflict(message, hint=hint, code="port-in-use")
    if refusal.not_local:
        return InvalidArgument(
            message, hint=f"{port.host_address} is not an address of this host", code="address-not-local"
        )
    return InvalidArgument(message)


class _Holder(NamedTuple):
    container: str
    host_address: str
    host_port: int


def _holder(connection: sqlite3.Connection, port: PublishedPort) -> _Holder | None:
    """The container that publishes one of these ports on an address that collides, that address and its first port."""
    every = EVERYWHERE[":" in port.host_address]
    row = connection.execute(
        "SELECT containers.name, host_address, host_port FROM published_ports"
        " JOIN endpoints ON endpoints.id = published_ports.endpoint"
        " JOIN containers ON containers.id = endpoints.container"
        " WHERE protocol=?1 AND host_port < ?2 + ?3 AND host_port + count > ?2"
        " AND (host_address=?4 OR host_address=?5 OR (?4=?5 AND (instr(host_address, ':') > 0) = ?6))",
        (port.protocol, port.host_port, port.count, port.host_address, every, ":" in port.host_address),
    ).fetchone()
    return _Holder(*row) if row else None
