"""Addresses and routes of the host in one reading each, however many interfaces there are.

With hundreds of bridges every microsecond counts: the answers are numbers, taken from files of proc(5) and, as no file
has them, from one netlink dump that is read here, in a tenth of the time that a library's objects take.
"""

from __future__ import annotations

import functools
import socket
import struct
from pathlib import Path
from typing import NamedTuple

from tare.kernel.netlink_answers import DUMP, REQUEST, answers, ask

# as /proc/net is the main thread's
_ROUTES = Path("/proc/thread-self/net/route")
_ADDRESSES6 = Path("/proc/thread-self/net/if_inet6")
_ROUTES6 = Path("/proc/thread-self/net/ipv6_route")
_GLOBAL_SCOPE = 0x00  # scopes and flags of ipv6.h and ipv6_route.h
_REJECT, _ADDRCONF, _ANYCAST, _LOCAL = 0x0200, 0x0004_0000, 0x0010_0000, 0x8000_0000
_LOCAL6 = ("ff", "fe8", "fe9", "fea", "feb")  # multicast ff00::/8 and link-local fe80::/10
_WIDEST_TAKEN6 = 4

_NETLINK_ROUTE, _RTM_GETADDR = 0, 22  # netlink(7), rtnetlink(7)
_IFA_LOCAL, _IFA_LABEL = 2, 3
_REMEMBERED = 4096  # lines and messages: of hundreds few have changed since the last reading


class Held(NamedTuple):
    """A block of addresses that an interface has an address in or a route for: first and last, both inclusive."""

    interface: str
    first: int
    last: int
    version: int = 4


def _block(interface: str, address: int, length: int, version: int = 4) -> Held:
    rest = (1 << (128 if version == 6 else 32) - length) - 1
    return Held(interface, address & ~rest, address | rest, version)


def ipv4_addresses() -> list[Held]:
    """Each interface's name and the block that its address lies in, in the calling thread's namespace.

    Raises OSError.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_ROUTE) as netlink:
        ask(netlink, _RTM_GETADDR, REQUEST | DUMP, struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0))
        return [held for message in answers(netlink) if (held := _address4(message)) is not None]


@functools.lru_cache(_REMEMBERED)
def _address4(message: bytes) -> Held | None:
    """What a ``struct ifaddrmsg`` with its attributes says."""
    length, offset, name, number = message[1], 8, "", -1
    while offset + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, offset)
        if kind == _IFA_LOCAL:
            number = int.from_bytes(message[offset + 4 : offset + 8])
        elif kind == _IFA_LABEL:
            name = message[offset + 4 : offset + size].rstrip(b"\0").decode()
        offset += (size + 3) & ~3
    return _block(name, number, length) if number >= 0 else None


def ipv4_routes() -> list[Held]:
    """The main table's routes with the interface's name (``*`` for none), without default routes. Raises OSError."""
    return [held for line in _ROUTES.read_text().splitlines()[1:] if (held := _route4(line)) is not None]


@functools.lru_cache(_REMEMBERED)
def _route4(line: str) -> Held | None:
    name, destination, _, _, _, _, _, mask, *_ = line.split()
    length = int(mask, 16).bit_count()
    return _block(name, socket.ntohl(int(destination, 16)), length) if length else None


def ipv6_addresses() -> list[Held]:
    """Each interface's name and the block that its address lies in, without those of one link or the host alone.

    Empty where the kernel has no IPv6. Raises OSError.
    """
    found = []
    for line in _lines(_ADDRESSES6):
        number, _, length, scope, _, name = line.split()
        if int(scope, 16) == _GLOBAL_SCOPE:
            found.append(_block(name, int(number, 16), int(length, 16), 6))
    return found


def ipv6_routes() -> list[Held]:
    """The routes of IPv6 with the interface's name, without those of every link and without default routes.

    ``2000::/3`` and the halves of everything are other spellings of a default route. A route that refuses holds a
    prefix that was delegated to the host, which is there to take subnets from. Raises OSError.
    """
    found = []
    for line in _lines(_ROUTES6):
        if line.startswith(_LOCAL6):
            continue
        number, length, _, _, _, _, _, _, flags, name = line.split()
        if int(length, 16) < _WIDEST_TAKEN6 or int(flags, 16) & (_REJECT | _ANYCAST | _LOCAL):
            continue
        found.append(_block(name, int(number, 16), int(length, 16), 6))
    return found


def advertised_routes() -> list[str]:
    """The interfaces that have routes from routers' advertisements (RFC 4861). Raises OSError."""
    routes = [line.split() for line in _lines(_ROUTES6)]
    return sorted({route[9] for route in routes if int(route[8], 16) & _ADDRCONF})


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []
