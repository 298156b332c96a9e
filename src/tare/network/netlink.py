"""Interfaces, addresses and routes, through pyroute2; the only place that imports it.

Each operation opens a netlink socket (under 1 ms), works and closes it, on a worker thread: no state is kept that a
crash could lose. The import is late, because it costs a tenth of a second that a starting engine need not spend.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any, TypeVar

from tare.base.shielding import to_end
from tare.errors import InternalError, TareError, Unsupported
from tare.kernel import interfaces
from tare.kernel.namespaces import run_in_network_namespace
from tare.network.ipam import Taken
from tare.network.model import Network

T = TypeVar("T")

_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0000000A
_IFA_F_NODAD = 0x02  # rtnetlink(7): no detection of duplicates, the address is of use at once
_IPV6 = Path("/proc/sys/net/ipv6/conf")


@dataclass(frozen=True, slots=True)
class VethPlan:
    """A veth pair to make: one end on the bridge, the other inside the namespace under its final name.

    Addresses and gateways are empty where there is none of the family.
    """

    host_interface: str
    bridge: str
    namespace: Path
    interface: str
    mac: str
    address: str
    prefix_len: int
    gateway: str
    mtu: int
    address6: str = ""
    prefix_len6: int = 0
    gateway6: str = ""
    isolated: bool = False
    link_local: tuple[str, ...] = ()


async def ensure_bridge(network: Network) -> None:
    """Make the network's bridge with its address, up and ready; what exists is completed."""
    await _in_thread(network.bridge_name, lambda: _ensure_bridge(network))


async def remove_link(name: str) -> None:
    """Delete an interface (of a veth pair both ends); absence is no error."""
    await _in_thread(name, lambda: _remove_link(name))


async def take_down(name: str) -> None:
    """Set an interface down: from now on it neither sends nor receives; absence is no error."""
    await _in_thread(name, lambda: _take_down(name))


async def connect(plan: VethPlan) -> None:
    """Make the veth pair and configure both ends; after an error nothing of it is left."""
    await _in_thread(plan.host_interface, lambda: _connect(plan))


async def set_default_route(namespace: Path, gateway: str, version: int = 4) -> None:
    """Make ``gateway`` the namespace's default route of a family; an empty one removes the route."""

    def work() -> None:
        with _netlink() as ip:
            _replace_default_route(ip, gateway, version)

    await _in_thread(str(namespace), lambda: run_in_network_namespace(namespace, work))


async def bridges() -> list[str]:
    """The names of all bridge interfaces of the host."""
    return await _in_thread("host", lambda: _links("bridge"))


async def ports_of_bridge(bridge: str) -> list[str]:
    """The names of the interfaces that are ports of ``bridge``; empty when there is none."""
    path = Path("/sys/class/net", bridge, "brif")
    return await asyncio.to_thread(lambda: sorted(os.listdir(path)) if path.exists() else [])  # noqa: PTH208


async def host_ranges() -> list[Taken]:
    """Every range that the host routes or has an address in (a default route takes nothing), of both families."""
    return await _in_thread("host", _host_ranges)


async def enable_forwarding() -> bool:
    """Let the host forward IPv4 packets; returns whether it did not before.

    It stays on when the engine ends, as others (further engines, virtual machines) may rely on it by then.
    """

    def work() -> bool:
        path = Path("/proc/sys/net/ipv4/ip_forward")
        if path.read_text().strip() == "1":
            return False
        path.write_text("1")
        return True

    return await asyncio.to_thread(work)


async def enable_forwarding6() -> tuple[bool, list[str]]:
    """Let the host forward IPv6 packets; returns whether it did not before, and whose settings were kept alive.

    A host that forwards takes no more routes from routers' advertisements, and loses those that it has, unless
    ``accept_ra`` is 2: interfaces with such routes get it first. Raises Unsupported where the kernel has no IPv6.
    """
    return await _in_thread("net.ipv6.conf.all.forwarding", _enable_forwarding6)


async def configure(plan: VethPlan) -> None:
    """Give the plan's interface, which is in the plan's namespace already, its addresses and routes, and set it up."""
    await _in_thread(plan.interface, lambda: run_in_network_namespace(plan.namespace, lambda: _configure_inside(plan)))


async def perform(subject: str, work: Callable[[Any], T], *, namespace: Path | None = None) -> T:
    """Run ``work`` with an IPRoute on a thread, in ``namespace`` or the engine's; :func:`refusals` is for in there.

    Raises what ``work`` raises; InternalError, Unsupported for what the kernel refuses.
    """

    def act() -> T:
        with _netlink() as ip:
            return work(ip)

    return await _in_thread(subject, act if namespace is None else lambda: run_in_network_namespace(namespace, act))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Make an OSError, with number and text, of what the kernel refuses on a netlink socket."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def index_of(ip: Any, name: str) -> int | None:
    """The index of an interface in the namespace of ``ip``; None when there is none."""
    return _index(ip, name)


async def _in_thread(subject: str, work: Callable[[], T]) -> T:
    return await to_end(asyncio.to_thread(_translate, subject, work))


def _translate(subject: str, work: Callable[[], T]) -> T:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        return work()
    except TareError:
        raise
    except NetlinkError as error:
        if error.code == errno.EOPNOTSUPP:
            raise Unsupported(
                f"{subject}: the kernel lacks bridge or veth interfaces: {error}", hint="run `tare doctor`"
            ) from error
        raise InternalError(f"{subject}: netlink: {error}", code="netlink") from error
    except OSError as error:
        raise InternalError(f"{subject}: {error}", code="netlink") from error


@contextlib.contextmanager
def _netlink() -> Iterator[Any]:
    from pyroute2 import IPRoute

    ip = IPRoute()
    try:
        yield ip
    finally:
        ip.close()


def _index(ip: Any, name: str) -> int | None:
    found = ip.link_lookup(ifname=name)
    return int(found[0]) if found else None


def _ensure_bridge(network: Network) -> None:
    pool = network.pool4
    with _netlink() as ip:
        index = _index(ip, network.bridge_name)
        if index is None:
            ip.link("add", ifname=network.bridge_name, kind="bridge", mtu=network.mtu)
            index = _index(ip, network.bridge_name)
        try:
            _keep_mac_address(ip, index)
            if pool and network.gateway:
                with _exists_is_fine():
                    ip.addr("add", index=index, address=network.gateway, prefixlen=pool.network.prefixlen)
            if network.pool6:
                _prepare_ipv6(network.bridge_name)
                with _exists_is_fine():
                    _add_address6(ip, index, network.gateway6, network.pool6.block.prefixlen)
            ip.link("set", index=index, state="up")
            settings = Path("/proc/sys/net/ipv4/conf", network.bridge_name)
            # replies to what came from 127.0.0.1 of the host; the firewall keeps others out of 127.0.0.0/8
            (settings / "route_localnet").write_text("1")
            (settings / "forwarding").write_text("1")
            if network.pool6:
                (_IPV6 / network.bridge_name / "forwarding").write_text("1")
            elif (_IPV6 / network.bridge_name).exists():
                (_IPV6 / network.bridge_name / "accept_ra").write_text("0")
        except BaseException:
            ip.link("del", index=index)
            raise


def _keep_mac_address(ip: Any, index: int | None) -> None:
    """Have a bridge keep the MAC address that it has.

    One that was never set is the lowest of the bridge's ports', and changes when containers come and go: those that
    stay would send to the old one for as long as their neighbour entry holds.
    """
    (link,) = ip.get_links(index)
    ip.link("set", index=index, address=link.get_attr("IFLA_ADDRESS"))


def _remove_link(name: str) -> None:
    with _netlink() as ip:
        index = _index(ip, name)
        if index is not None:
            with _absence_is_fine():
                ip.link("del", index=index)


def _take_down(name: str) -> None:
    with _netlink() as ip:
        index = _index(ip, name)
        if index is not None:
            with _absence_is_fine():
                ip.link("set", index=index, state="down")


def _connect(plan: VethPlan) -> None:
    with _netlink() as ip:
        master = _index(ip, plan.bridge)
        if master is None:
            raise InternalError(f"bridge {plan.bridge} not found", hint="restart the engine", code="bridge-missing")
        namespace_fd = os.open(plan.namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            peer = {"ifname": plan.interface, "address": plan.mac, "net_ns_fd": namespace_fd, "mtu": plan.mtu}
            ip.link("add", ifname=plan.host_interface, kind="veth", mtu=plan.mtu, peer=peer)
        finally:
            os.close(namespace_fd)
        index = _index(ip, plan.host_interface)
        try:
            _silence_ipv6(plan.host_interface)
            ip.link("set", index=index, master=master, state="up")
            # hairpin: br_netfilter sends translated packets back out of the port that they came from
            _set_port(plan.host_interface, "hairpin_mode")
            if plan.isolated:
                _set_port(plan.host_interface, "isolated")
            run_in_network_namespace(plan.namespace, lambda: _configure_inside(plan))
            settle(plan.host_interface)
            settle(plan.bridge)
        except BaseException:
            ip.link("del", index=index)
            raise


def _set_port(interface: str, setting: str) -> None:
    Path("/sys/class/net", interface, "brport", setting).write_text("1")


def _silence_ipv6(interface: str) -> None:
    """No link-local address: IPv4 networks stay IPv4, and no duplicate detection delays the interface."""
    path = _IPV6 / interface / "disable_ipv6"
    if path.exists():
        path.write_text("1")


def _prepare_ipv6(interface: str) -> None:
    """IPv6 as the engine has it: no duplicate detection, which takes a second, and no routers that nobody asked for."""
    settings = _IPV6 / interface
    if not settings.exists():
        raise Unsupported(
            f"interface {interface} has no IPv6: the kernel was started without it, or the MTU is below 1280",
            hint="boot without ipv6.disable=1, or leave out --ipv6",
            code="no-ipv6",
        )
    for name, value in (("disable_ipv6", "0"), ("accept_dad", "0"), ("accept_ra", "0")):
        (settings / name).write_text(value)


def _add_address6(ip: Any, index: int | None, address: str, prefix_len: int) -> None:
    ip.addr("add", index=index, address=address, prefixlen=prefix_len, family=socket.AF_INET6, flags=_IFA_F_NODAD)


def _configure_inside(plan: VethPlan) -> None:
    with _netlink() as ip:
        index = _index(ip, plan.interface)
        if plan.address6:
            _prepare_ipv6(plan.interface)
            _add_address6(ip, index, plan.address6, plan.prefix_len6)
        else:
            _silence_ipv6(plan.interface)
        if plan.address:
            broadcast = str(IPv4Network((plan.address, plan.prefix_len), strict=False).broadcast_address)
            ip.addr("add", index=index, address=plan.address, prefixlen=plan.prefix_len, broadcast=broadcast)
        for address in plan.link_local:
            if ip_address(address).version == 6:
                _add_address6(ip, index, address, 64)
            else:
                ip.addr("add", index=index, address=address, prefixlen=16, broadcast="169.254.255.255")
        ip.link("set", index=index, state="up")
        if plan.gateway:
            _replace_default_route(ip, plan.gateway)
        if plan.gateway6:
            _replace_default_route(ip, plan.gateway6, 6)
    settle(plan.interface)


def settle(interface: str) -> None:
    """Have the kernel act on a change of carrier now: it does so later by itself, and drops packets until then.

    Asking for the link state (ethtool's ETHTOOL_GLINK) has that effect.
    """
    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_GLINK, 0), 8)
    request = struct.pack("16sQ16x", interface.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)


def _replace_default_route(ip: Any, gateway: str, version: int = 4) -> None:
    everything, family = ("::/0", socket.AF_INET6) if version == 6 else ("0.0.0.0/0", socket.AF_INET)
    if gateway:
        ip.route("replace", dst=everything, gateway=gateway, family=family)
        return
    with _absence_is_fine():
        ip.route("del", dst=everything, family=family)


def _enable_forwarding6() -> tuple[bool, list[str]]:
    everywhere = _IPV6 / "all" / "forwarding"
    if not everywhere.exists():
        raise Unsupported("the kernel has no IPv6", hint="boot without ipv6.disable=1, or leave out --ipv6")
    if everywhere.read_text().strip() == "1":
        return False, []
    kept = []
    for name in interfaces.advertised_routes():
        accept = _IPV6 / name / "accept_ra"
        if accept.exists() and accept.read_text().strip() == "1":
            accept.write_text("2")
            kept.append(name)
    everywhere.write_text("1")
    return True, kept


def _links(kind: str) -> list[str]:
    with _netlink() as ip:
        return sorted(link.get_attr("IFLA_IFNAME") for link in ip.get_links(kind=kind))


def _host_ranges() -> list[Taken]:
    found: dict[tuple[int, int, int], str] = {}
    for item in (*interfaces.ipv4_addresses(), *interfaces.ipv6_addresses()):
        found.setdefault(item[1:], f"interface {item.interface}")
    for item in (*interfaces.ipv4_routes(), *interfaces.ipv6_routes()):
        found.setdefault(item[1:], f"the host's route via {item.interface}")
    return [Taken(first, last, owner, version) for (first, last, version), owner in found.items()]


@contextlib.contextmanager
def _exists_is_fine() -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise


@contextlib.contextmanager
def _absence_is_fine() -> Iterator[None]:
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code not in (errno.ENODEV, errno.ESRCH, errno.ENOENT):
            raise
