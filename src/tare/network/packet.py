"""A packet as the firewall's rules see it: the fields that they compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

ICMP = {4: "icmp", 6: "ipv6-icmp"}
"""The names that nft(8) gives the protocol of echo requests, by IP version."""


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, or of its way back (``state`` ``established``).

    ``protocol`` is ``tcp``, ``udp``, ``sctp`` or ``icmp``; ``port`` is the destination's, 0 for ICMP. ``iif`` is empty
    for what the host sends itself, ``oif`` before it is routed. ``translated`` tells that its destination was replaced
    (``ct status dnat``), ``local`` that its destination is an address of the host's.
    """

    source: str
    destination: str
    protocol: str
    port: int = 0
    iif: str = ""
    oif: str = ""
    state: str = "new"
    translated: bool = False
    local: bool = False
    mark: int = 0
    connection_mark: int = 0

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.destination else 4

    def fields(self, selector: str) -> tuple[str, ...] | None:
        """The values of what nft(8) calls ``selector``, any of which may match; None when the packet has no such field.

        Raises KeyError for a selector that is not known.
        """
        return _SELECTORS[selector](self)


def _address(packet: Packet, version: int, address: str) -> tuple[str, ...] | None:
    return (normal(address),) if packet.version == version else None


def _port(packet: Packet, *protocols: str) -> tuple[str, ...] | None:
    return (str(packet.port),) if packet.protocol in protocols else None


_SELECTORS: dict[str, Callable[[Packet], tuple[str, ...] | None]] = {
    "iifname": lambda packet: (packet.iif,),
    "oifname": lambda packet: (packet.oif,),
    "ip saddr": lambda packet: _address(packet, 4, packet.source),
    "ip daddr": lambda packet: _address(packet, 4, packet.destination),
    "ip6 saddr": lambda packet: _address(packet, 6, packet.source),
    "ip6 daddr": lambda packet: _address(packet, 6, packet.destination),
    "ip protocol": lambda packet: (ICMP[4] if packet.protocol == "icmp" else packet.protocol,),
    "meta l4proto": lambda packet: (ICMP[packet.version] if packet.protocol == "icmp" else packet.protocol,),
    "meta nfproto": lambda packet: (f"ipv{packet.version}",),
    "ip6 hoplimit": lambda packet: ("64",) if packet.version == 6 else None,
    "meta mark": lambda packet: (str(packet.mark),),
    "ct mark": lambda packet: (str(packet.connection_mark),),
    "th dport": lambda packet: _port(packet, "tcp", "udp", "sctp"),
    "tcp dport": lambda packet: _port(packet, "tcp"),
    "udp dport": lambda packet: _port(packet, "udp"),
    "sctp dport": lambda packet: _port(packet, "sctp"),
    "ct state": lambda packet: (packet.state,),
    "ct status": lambda packet: ("dnat",) if packet.translated else (),
    "ct direction": lambda packet: ("original" if packet.state == "new" else "reply",),
    "fib daddr type": lambda packet: ("local" if packet.local else "unicast",),
    "icmpv6 type": lambda packet: ("echo-request",) if packet.version == 6 and packet.protocol == "icmp" else None,
    "icmp type": lambda packet: ("echo-request",) if packet.version == 4 and packet.protocol == "icmp" else None,
}


def normal(text: str) -> str:
    """An address, prefix or anything else in the one form in which values are compared."""
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    if "/" in text:
        try:
            return str(ip_network(text, strict=False))
        except ValueError:
            pass
    if text.startswith("0x"):
        return str(int(text, 16))
    return text


def is_pattern(text: str) -> bool:
    """Whether ``text`` stands for several values: a prefix, a range, or a name with a star at its end."""
    return text.endswith("*") or "/" in text or _range(text) is not None


def fits(value: str, pattern: str) -> bool:
    """Whether ``value`` is what ``pattern`` stands for; both in their normal form."""
    if value == pattern:
        return True
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    if "/" in pattern:
        try:
            network, address = ip_network(pattern), ip_address(value)
        except ValueError:
            return False
        return network.version == address.version and address in network
    ends = _range(pattern)
    if ends is None:
        return False
    try:
        number = _number(value)
    except ValueError:
        return False
    return ends[0] <= number <= ends[1]


def _range(text: str) -> tuple[int, int] | None:
    first, dash, last = text.partition("-")
    if not dash:
        return None
    try:
        return _number(first), _number(last)
    except ValueError:
        return None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else int(ip_address(text))
