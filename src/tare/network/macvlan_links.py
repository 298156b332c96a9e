"""The interfaces of macvlan networks: parents that the engine makes, and the endpoints' own.

An endpoint's interface is made in the container's namespace at once, under its final name and with its address: no
crash leaves anything of it on the host. A parent that the engine made has an alias (``ip link`` shows it) which tells
whose it is, so that the next start finds what a crash left.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tare.base.shielding import finish
from tare.errors import Conflict, InternalError, InvalidArgument, NotFound, TareError, Unsupported
from tare.network import netlink
from tare.network.macvlan import BAD_PARENT, check_vlan, dummy_name, parse_vlan
from tare.network.model import Endpoint, Macvlan, Network
from tare.network.netlink import VethPlan

REFUSED = "macvlan-refused"
_UP = 0x1  # IFF_UP (netdevice(7))


async def exists(interface: str) -> bool:
    """Whether the host has an interface of this name."""
    if not interface or "/" in interface or len(interface) > 15:
        return False
    return await netlink.perform(interface, lambda ip: netlink.index_of(ip, interface) is not None)


async def make_parent(network: Network, mark: str) -> None:
    """Make the parent of a macvlan network, a dummy or the sub-interface that the name stands for, and set it up.

    ``mark`` becomes its alias. One that is there already is left as it is, unless it was never set up. Raises
    InvalidArgument, NotFound, Unsupported, InternalError; nothing is left behind then.
    """
    assert network.macvlan is not None, network.name
    parent, dummy = network.macvlan.parent, network.macvlan.parent == dummy_name(network.id)
    await netlink.perform(parent, lambda ip: _make_parent(ip, parent, mark, dummy=dummy))


async def remove_parent(parent: str, mark: str) -> None:
    """Remove a parent that the engine made, known by its mark; another interface of that name stays."""
    if parent in await made_parents(mark):
        await netlink.remove_link(parent)


async def made_parents(mark: str) -> list[str]:
    """The names of the interfaces that the engine with this mark made."""
    return await asyncio.to_thread(
        lambda: [path.parent.name for path in Path("/sys/class/net").glob("*/ifalias") if _alias(path) == mark]
    )


async def connect(plan: VethPlan, macvlan: Macvlan) -> None:
    """Make the interface of the plan (its bridge and host interface mean nothing here) above the parent.

    Raises NotFound (parent), Conflict (parent in use by something else), Unsupported; nothing is left behind then.
    """
    await netlink.perform(plan.interface, lambda ip: _connect(ip, plan, macvlan))
    try:
        await netlink.perform(plan.interface, lambda _: _announce(plan.interface), namespace=plan.namespace)
        await netlink.configure(plan)
    except BaseException:
        await finish(remove(plan.namespace, plan.interface), what=f"interface {plan.interface}")
        raise


async def take_down(namespace: Path, interface: str) -> None:
    """Set an interface down: from now on it neither sends nor receives; absence is no error."""
    await _inside(namespace, interface, "set")


async def remove(namespace: Path, interface: str) -> None:
    """Remove an endpoint's interface; absence is no error. Takes the kernel 20 ms."""
    await _inside(namespace, interface, "del")


async def is_connected(namespace: Path, endpoint: Endpoint) -> bool:
    """Whether the endpoint's interface is in the namespace, with its address and up."""

    def work(ip: Any) -> bool:
        index = netlink.index_of(ip, endpoint.interface)
        if index is None:
            return False
        addresses = {message.get_attr("IFA_ADDRESS") for message in ip.get_addr(index=index)}
        return bool(ip.get_links(index)[0]["flags"] & _UP) and endpoint.address in addresses

    return await netlink.perform(endpoint.interface, work, namespace=namespace)


async def _inside(namespace: Path, interface: str, verb: str) -> None:
    def work(ip: Any) -> None:
        index = netlink.index_of(ip, interface)
        if index is not None:
            ip.link(verb, index=index, **({"state": "down"} if verb == "set" else {}))

    with suppress(NotFound):  # no namespace, no interface
        await netlink.perform(interface, work, namespace=namespace)


def _make_parent(ip: Any, parent: str, mark: str, *, dummy: bool) -> None:
    index = netlink.index_of(ip, parent)
    if index is not None and ip.get_links(index)[0]["flags"] & _UP:
        return
    if index is None:
        if dummy:
            with _refused("", "the kernel has no dummy interfaces (module dummy): name a parent with -o parent="):
                ip.link("add", ifname=parent, kind="dummy")
        else:
            _add_vlan(ip, parent)
        index = netlink.index_of(ip, parent)
    try:
        ip.link("set", index=index, IFLA_IFALIAS=mark)
        ip.link("set", index=index, state="up")
    except BaseException:
        ip.link("del", index=index)
        raise


def _add_vlan(ip: Any, parent: str) -> None:
    base, number = parse_vlan(parent)
    below = netlink.index_of(ip, base) if base else None
    if below is None:
        raise NotFound(f"-o parent interface was not found on the host: {base}", hint="see `ip link`", code=BAD_PARENT)
    check_vlan(number)
    with _refused(f"failed to create {parent} vlan link: ", "the kernel has no VLAN interfaces (module 8021q)"):
        ip.link("add", ifname=parent, kind="vlan", link=below, vlan_id=number)


def _connect(ip: Any, plan: VethPlan, macvlan: Macvlan) -> None:
    below = netlink.index_of(ip, macvlan.parent)
    if below is None:
        raise NotFound(
            f"the requested parent interface {macvlan.parent} was not found on the Docker host",
            hint="bring it back, or make the network anew with another parent",
            code=BAD_PARENT,
        )
    namespace = os.open(plan.namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _refused("failed to create the macvlan port: ", "the kernel has no macvlan interfaces (module macvlan)"):
            ip.link(
                "add",
                ifname=plan.interface,
                kind="macvlan",
                macvlan_mode=macvlan.mode,
                link=below,
                address=plan.mac,
                net_ns_fd=namespace,
            )
    finally:
        os.close(namespace)


def _announce(interface: str) -> None:
    """Have the kernel send one gratuitous ARP when the interface comes up: the LAN learns where the address is now."""
    Path("/proc/sys/net/ipv4/conf", interface, "arp_notify").write_text("1")


@contextmanager
def _refused(prefix: str, missing: str) -> Iterator[None]:
    """Docker's words for what the kernel refuses, with the cause; ``missing`` is said when it lacks the feature."""
    try:
        with netlink.refusals():
            yield
    except OSError as error:
        causes: dict[int | None, tuple[type[TareError], str]] = {
            errno.EOPNOTSUPP: (Unsupported, missing),
            errno.EBUSY: (Conflict, "the parent is a port of a bridge, a bond or another driver: choose another"),
            errno.EINVAL: (InvalidArgument, "a parent in mode passthru, and a loopback, take no (further) interface"),
            errno.EEXIST: (Conflict, "an interface of this name is there already"),
        }
        kind, hint = causes.get(error.errno, (InternalError, ""))
        raise kind(f"{prefix}{(error.strerror or str(error)).lower()}", hint=hint, code=REFUSED) from error


def _alias(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # the interface has gone
        return ""
