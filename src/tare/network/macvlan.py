"""What the options of a macvlan network mean, by Docker's rules and in its words. Pure.

The words are those of Docker 28.5 (``libnetwork/drivers/macvlan``). A parent with a dot that the host does not have is
an IEEE 802.1Q sub-interface to be made, ``eth0.10`` for the VLAN 10 of ``eth0``; a network without a parent stands on a
dummy interface of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tare.errors import Conflict, InvalidArgument
from tare.network.model import Driver, Macvlan, Network

PARENT_OPTION = "parent"
MODE_OPTION = "macvlan_mode"
MODES = ("bridge", "private", "vepa", "passthru")
BAD_PARENT = "macvlan-parent"
BAD_MODE = "macvlan-mode"


def check_options(options: Mapping[str, str]) -> None:
    """Refuse what no host can have. Raises InvalidArgument."""
    mode = options.get(MODE_OPTION, "")
    if mode and mode not in MODES:
        raise InvalidArgument(
            f"requested macvlan mode '{mode}' is not valid, 'bridge' mode is the macvlan driver default",
            hint=f"the modes are {', '.join(MODES)}",
            code=BAD_MODE,
        )
    if options.get(PARENT_OPTION) == "lo":
        raise InvalidArgument(
            "loopback interface is not a valid macvlan parent link",
            hint="name an interface that is connected to the LAN",
            code=BAD_PARENT,
        )


def read_options(options: Mapping[str, str], network_id: str, *, exists: bool) -> Macvlan:
    """The parent and mode that (checked) options ask for; ``exists`` tells whether the host has the parent."""
    parent = options.get(PARENT_OPTION, "")
    return Macvlan(
        parent=parent or dummy_name(network_id),
        mode=options.get(MODE_OPTION, "") or "bridge",
        made=not (parent and exists),
    )


def dummy_name(network_id: str) -> str:
    """The parent of a network that none is named for."""
    return f"dm-{network_id[:12]}"


def check_parent(wanted: Network, networks: Iterable[Network]) -> None:
    """Refuse to share a parent in mode passthru. Raises Conflict naming the network that has it."""
    assert wanted.macvlan is not None, wanted.name
    parent, mode = wanted.macvlan.parent, wanted.macvlan.mode
    for other in networks:
        if other.macvlan is None or other.macvlan.parent != parent or other.id == wanted.id:
            continue
        using = f"macvlan network {other.id} is already using parent interface {parent}"
        if mode == "passthru":
            message = f"cannot use mode passthru, {using}"
        elif other.macvlan.mode == "passthru":
            message = f"{using} in mode passthru"
        else:
            continue
        raise Conflict(message, hint=f"network {other.name} has it; choose another parent", code=BAD_PARENT)


def heir_of_parent(gone: Network, networks: Iterable[Network]) -> Network | None:
    """The network that a parent made for ``gone`` passes to: another one that is on it. None when nobody needs it."""
    if gone.macvlan is None or not gone.macvlan.made:
        return None
    return next((item for item in networks if item.macvlan is not None and _same_parent(item, gone)), None)


def _same_parent(one: Network, other: Network) -> bool:
    assert one.macvlan is not None, one.name
    assert other.macvlan is not None, other.name
    return one.id != other.id and one.macvlan.parent == other.macvlan.parent


def parse_vlan(parent: str) -> tuple[str, int]:
    """The interface and VLAN that the name of a sub-interface stands for. Raises InvalidArgument."""
    if "." not in parent:
        raise InvalidArgument(
            f"invalid subinterface vlan name {parent}, example formatting is eth0.10",
            hint=f"the host has no interface {parent}; see `ip link`",
            code=BAD_PARENT,
        )
    base, *rest = parent.split(".")
    if len(rest) != 1:
        raise InvalidArgument(
            f"required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10, instead received {parent}",
            hint="make the interface with `ip link` for another name",
            code=BAD_PARENT,
        )
    if not re.fullmatch(r"[+-]?\d{1,9}", rest[0], re.ASCII):
        raise InvalidArgument(
            f"unable to parse a valid vlan id from: {rest[0]} (ex. eth0.10 for vlan 10)", code=BAD_PARENT
        )
    return base, int(rest[0])


def check_vlan(number: int) -> None:
    """Refuse what is no VLAN (IEEE 802.1Q: 1 to 4094). Raises InvalidArgument."""
    if not 1 <= number <= 4094:
        raise InvalidArgument(f"vlan id must be between 1-4094, received: {number}", code=BAD_PARENT)


def parents_made(networks: Iterable[Network]) -> set[str]:
    """The names of the interfaces that the engine made for its networks."""
    return {
        network.macvlan.parent
        for network in networks
        if network.driver is Driver.MACVLAN and network.macvlan is not None and network.macvlan.made
    }
