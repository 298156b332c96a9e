"""The environment variables of a legacy link, as Docker makes them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

_OWN = ("HOME", "PATH")  # a target's that say nothing about it


class ExposedPort(NamedTuple):
    """A port that the target exposes."""

    number: int
    protocol: str


def read_ports(exposed: Iterable[str]) -> list[ExposedPort]:
    """``80/tcp`` and the like, in Docker's order: by number, TCP before others."""
    ports = [
        ExposedPort(int(number), protocol or "tcp")
        for number, _, protocol in (text.partition("/") for text in exposed)
        if number.isdecimal()
    ]
    return sorted(ports, key=lambda port: (port.number, port.protocol != "tcp", port.protocol))


def link_variables(
    name: str, alias: str, address: str, exposed: Iterable[str], environment: Iterable[str]
) -> Iterator[str]:
    """``NAME=value`` for each thing that a link tells.

    ``name`` is the owner's, ``environment`` the target's. Ports that follow each other are told once more as a range.
    """
    prefix = alias.upper().replace("-", "_")
    ports = read_ports(exposed)
    if ports:
        yield f"{prefix}_PORT={_place(address, ports[0])}"
    by_protocol: dict[str, list[ExposedPort]] = {}
    for port in ports:
        by_protocol.setdefault(port.protocol, []).append(port)
    for members in by_protocol.values():
        for first, last in _runs(members):
            if first != last:
                yield from _range(prefix, address, first, last)
        for port in members:
            here = f"{prefix}_PORT_{port.number}_{port.protocol.upper()}"
            yield f"{here}={_place(address, port)}"
            yield f"{here}_ADDR={address}"
            yield f"{here}_PORT={port.number}"
            yield f"{here}_PROTO={port.protocol}"
    yield f"{prefix}_NAME=/{name}/{alias}"
    for variable in environment:
        key, equals, value = variable.partition("=")
        if equals and key not in _OWN:
            yield f"{prefix}_ENV_{key}={value}"


def _range(prefix: str, address: str, first: ExposedPort, last: ExposedPort) -> Iterator[str]:
    here = f"{prefix}_PORT_{first.number}_{first.protocol.upper()}"
    yield f"{here}_START={_place(address, first)}"
    yield f"{here}_PORT_START={first.number}"
    yield f"{here}_END={_place(address, last)}"
    yield f"{here}_PORT_END={last.number}"


def _runs(ports: list[ExposedPort]) -> Iterator[tuple[ExposedPort, ExposedPort]]:
    """First and last of each run of consecutive numbers."""
    start = 0
    for index, port in enumerate(ports):
        if index + 1 == len(ports) or ports[index + 1].number != port.number + 1:
            yield ports[start], port
            start = index + 1


def _place(address: str, port: ExposedPort) -> str:
    return f"{port.protocol}://{address}:{port.number}"
