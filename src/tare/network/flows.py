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
from tare.network.ruleset import Forwarding


def forget_closed(forwardings: Iterable[Forwarding]) -> int:
    """Forget what came by published ports that are closed now; returns how many. Raises OSError."""
    targets: dict[str, set[tuple[str, int]]] = {}
    for one in forwardings:
        targets.setdefault(one.address, set()).add((one.port.protocol, one.port.container_port))
    forgotten = 0
    for address, ports in targets.items():

        def led_there(connection: Connection, ports: set[tuple[str, int]] = ports) -> bool:
            return connection.translated and (connection.protocol, connection.answering_port) in ports

        forgotten += len(conntrack.forget(led_there, ip_address(address).version, answering=address))
    return forgotten


def forget_earlier(forwardings: Iterable[Forwarding]) -> int:
    """Forget UDP flows to ports that are published now, begun before they were; returns how many. Raises OSError."""
    opened = [one for one in forwardings if one.port.protocol == "udp"]
    if not opened:
        return 0
    local = local_addresses()

    def led_elsewhere(connection: Connection) -> bool:
        return connection.destination in local and any(
            one.port.host_port == connection.destination_port
            and (ip_address(one.port.host_address).is_unspecified or one.port.host_address == connection.destination)
            and (connection.answering, connection.answering_port) != (one.address, one.port.container_port)
            for one in opened
        )

    versions = {ip_address(one.port.host_address).version for one in opened}
    return sum(len(conntrack.forget(led_elsewhere, version, protocol="udp")) for version in versions)
