"""Connections that outlive the published ports they came by. Blocking; for a thread in the engine's namespace.

The kernel keeps sending a connection where its first packet went. UDP has no end, so a client that goes on would reach
whoever gets a stopped container's address next, and one that was there before the port would never reach its container.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from tare.kernel import conntrack
from tare.kernel.conntrack import Connection
from tare.kernel.local_addresses import local_addresses
from tare.network.model import EVERYWHERE, PublishedPort
from tare.network.ruleset import Forwarding


def forget_closed(forwardings: Iterable[Forwarding]) -> int:
    """Forget what came by published ports that are closed now; returns how many. Raises OSError."""
    targets: dict[str, list[PublishedPort]] = {}
    for one in forwardings:
        targets.setdefault(one.address, []).append(one.port)
    forgotten = 0
    for address, ports in targets.items():

        def led_there(connection: Connection, ports: list[PublishedPort] = ports) -> bool:
            return connection.translated and any(
                connection.protocol == port.protocol
                and 0 <= connection.answering_port - port.container_port < port.count
                for port in ports
            )

        forgotten += len(conntrack.forget(led_there, ip_address(address).version, answering=address))
    return forgotten


def forget_earlier(forwardings: Iterable[Forwarding]) -> int:
    """Forget UDP flows to ports that are published now, begun before they were; returns how many. Raises OSError."""
    opened = [one for one in forwardings if one.port.protocol == "udp"]
    if not opened:
        return 0
    local = local_addresses()

    def led_elsewhere(connection: Connection) -> bool:
        return connection.destination in local and any(_comes_by(one, connection) for one in opened)

    versions = {one.port.family for one in opened}
    return sum(len(conntrack.forget(led_elsewhere, version, protocol="udp")) for version in versions)


def _comes_by(opened: Forwarding, connection: Connection) -> bool:
    """Whether a connection was sent to the port, and does not lead to its container."""
    offset = connection.destination_port - opened.port.host_port
    if not 0 <= offset < opened.port.count:
        return False
    if opened.port.host_address not in (*EVERYWHERE, connection.destination):
        return False
    wanted = (opened.address, opened.port.container_port + offset)
    return (connection.answering, connection.answering_port) != wanted
