"""Ports that are open at a container's own address, as elements of the firewall: each number stands in one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, collapse_addresses
from itertools import pairwise

from tare.network.model import Endpoint, OpenPort


@dataclass(frozen=True, slots=True)
class Opening:
    """Ports ``first`` to ``last`` that are open at a container's own IPv4 address, to everybody or to ``source``."""

    address: str
    protocol: str
    first: int
    last: int
    source: str = ""

    def element(self) -> tuple[str, str]:
        """Name of the set and the element in nft(8)'s notation."""
        numbers = f"{self.first}-{self.last}" if self.last > self.first else f"{self.first}"
        if self.source:
            return "opened_to", f"{self.source} . {self.address} . {self.protocol} . {numbers}"
        return "opened", f"{self.address} . {self.protocol} . {numbers}"


def openings(endpoint: Endpoint) -> list[Opening]:
    """What the firewall must let through to an endpoint. The kernel takes no ranges that overlap in part."""
    found: list[Opening] = []
    for protocol in dict.fromkeys(one.protocol for one in endpoint.open_ports):
        asked = [one for one in endpoint.open_ports if one.protocol == protocol]
        for first, last, sources in _pieces(asked):
            found += [Opening(endpoint.address, protocol, first, last, source) for source in sources]
    return found


def _pieces(asked: list[OpenPort]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Ranges (first and last number) that do not overlap, with who may come there; a source "" is everybody."""
    edges = sorted({edge for one in asked for edge in (one.port, one.port + one.count)})
    held: tuple[int, int, tuple[str, ...]] | None = None
    for first, end in pairwise(edges):
        sources = _sources([one for one in asked if one.port <= first < one.port + one.count])
        if held and held[1] == first - 1 and held[2] == sources:
            held = (held[0], end - 1, sources)
            continue
        if held:
            yield held
        held = (first, end - 1, sources)
    if held:
        yield held


def _sources(ports: list[OpenPort]) -> tuple[str, ...]:
    if any(not one.sources for one in ports):
        return ("",)
    blocks = [IPv4Network(source) for one in ports for source in one.sources if ":" not in source]
    return tuple(map(str, collapse_addresses(blocks)))
