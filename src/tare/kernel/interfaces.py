"""Addresses and routes of the host in one reading each, however many interfaces there are.

A netlink dump that Python takes apart costs a quarter of a millisecond for each interface; these are a library's call
and files.
"""

from __future__ import annotations

import ctypes
import os
import socket
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

# as /proc/net is the main thread's
_ROUTES = Path("/proc/thread-self/net/route")
_ADDRESSES6 = Path("/proc/thread-self/net/if_inet6")
_ROUTES6 = Path("/proc/thread-self/net/ipv6_route")
_GLOBAL_SCOPE = 0x00  # scopes and flags of ipv6.h and ipv6_route.h
_REJECT, _ADDRCONF, _ANYCAST, _LOCAL = 0x0200, 0x0004_0000, 0x0010_0000, 0x8000_0000
_MULTICAST, _LINK_LOCAL = IPv6Network("ff00::/8"), IPv6Network("fe80::/10")
_WIDEST_TAKEN6 = 4


class _Address(ctypes.Structure):
    """``struct sockaddr_in`` (ip(7))."""

    _fields_ = (("family", ctypes.c_ushort), ("port", ctypes.c_ushort), ("address", ctypes.c_ubyte * 4))


class _Entry(ctypes.Structure):
    """``struct ifaddrs`` (getifaddrs(3))."""


_Entry._fields_ = (
    ("next", ctypes.POINTER(_Entry)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.POINTER(_Address)),
    ("mask", ctypes.POINTER(_Address)),
)


def ipv4_addresses() -> list[tuple[str, IPv4Network]]:
    """Each interface's name and the network that its address lies in, in the calling thread's namespace.

    Raises OSError.
    """
    library = ctypes.CDLL(None, use_errno=True)
    first = ctypes.POINTER(_Entry)()
    if library.getifaddrs(ctypes.byref(first)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    found = []
    try:
        entry = first
        while bool(entry):
            item = entry.contents
            if item.address and item.mask and item.address.contents.family == socket.AF_INET:
                address, mask = bytes(item.address.contents.address), int.from_bytes(item.mask.contents.address)
                number = int.from_bytes(address) & mask
                found.append((item.name.decode(), IPv4Network((number, mask.bit_count()))))
            entry = item.next
    finally:
        library.freeifaddrs(first)
    return found


def ipv4_routes() -> list[tuple[str, IPv4Network]]:
    """The main table's routes with the interface's name (``*`` for none), without default routes. Raises OSError."""
    found = []
    for line in _ROUTES.read_text().splitlines()[1:]:
        name, destination, *_, mask = line.split()[:8]
        length = int(mask, 16).bit_count()
        if length:
            number = int.from_bytes(bytes.fromhex(destination)[::-1])
            found.append((name, IPv4Network((number, length))))
    return found


def ipv6_addresses() -> list[tuple[str, IPv6Network]]:
    """Each interface's name and the network that its address lies in, without those of one link or the host alone.

    Empty where the kernel has no IPv6. Raises OSError.
    """
    found = []
    for line in _lines(_ADDRESSES6):
        number, _, length, scope, _, name = line.split()
        if int(scope, 16) == _GLOBAL_SCOPE:
            found.append((name, IPv6Network((int(number, 16), int(length, 16)), strict=False)))
    return found


def ipv6_routes() -> list[tuple[str, IPv6Network]]:
    """The routes of IPv6 with the interface's name, without those of every link and without default routes.

    ``2000::/3`` and the halves of everything are other spellings of a default route. A route that refuses holds a
    prefix that was delegated to the host, which is there to take subnets from. Raises OSError.
    """
    found = []
    for line in _lines(_ROUTES6):
        number, length, _, _, _, _, _, _, flags, name = line.split()
        if int(length, 16) < _WIDEST_TAKEN6 or int(flags, 16) & (_REJECT | _ANYCAST | _LOCAL):
            continue
        network = IPv6Network((int(number, 16), int(length, 16)))
        if not (network.subnet_of(_MULTICAST) or network.subnet_of(_LINK_LOCAL)):
            found.append((name, network))
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
