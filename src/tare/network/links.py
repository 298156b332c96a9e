"""Networks and endpoints in the kernel, whatever their driver: bridges and veth pairs, parents and macvlans."""

from __future__ import annotations

from pathlib import Path

from tare.network import macvlan_links, netlink
from tare.network.model import Driver, Endpoint, Network
from tare.network.netlink import VethPlan


async def ensure_network(network: Network, mark: str) -> None:
    """Make what the network stands on; what exists is completed. ``mark`` tells whose a parent is."""
    if network.driver is Driver.BRIDGE:
        await netlink.ensure_bridge(network)
    elif network.macvlan is not None and network.macvlan.made:
        await macvlan_links.make_parent(network, mark)


async def remove_network(network: Network, mark: str) -> None:
    """Remove what :func:`ensure_network` made; absence is no error."""
    if network.driver is Driver.BRIDGE:
        await netlink.remove_link(network.bridge_name)
    elif network.macvlan is not None and network.macvlan.made:
        await macvlan_links.remove_parent(network.macvlan.parent, mark)


async def connect(network: Network, plan: VethPlan) -> None:
    """Make an endpoint's interface; after an error nothing of it is left."""
    if network.macvlan is not None:
        await macvlan_links.connect(plan, network.macvlan)
    else:
        await netlink.connect(plan)


async def is_connected(network: Network, endpoint: Endpoint, namespace: Path) -> bool:
    """Whether the endpoint's interface is there."""
    if network.macvlan is not None:
        return await macvlan_links.is_connected(namespace, endpoint)
    return endpoint.host_interface in await netlink.ports_of_bridge(network.bridge_name)


async def silence(network: Network, endpoint: Endpoint, namespace: Path) -> None:
    """Set the interface of an endpoint down whose namespace ends; its address may go to another then.

    Deleting takes the kernel 20 ms. A macvlan goes with the namespace, but one that has the parent for itself at once.
    """
    if network.macvlan is not None and network.macvlan.mode == "passthru":
        await macvlan_links.remove(namespace, endpoint.interface)
    elif network.macvlan is not None:
        await macvlan_links.take_down(namespace, endpoint.interface)
    elif endpoint.host_interface:
        await netlink.take_down(endpoint.host_interface)


async def remove(network: Network, endpoint: Endpoint, namespace: Path) -> None:
    """Remove the endpoint's interface; absence is no error."""
    if network.macvlan is not None:
        await macvlan_links.remove(namespace, endpoint.interface)
    elif endpoint.host_interface:
        await netlink.remove_link(endpoint.host_interface)
