"""Topologies for tests of prediction: the login, logout and payment scene and what else a case needs."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tare.network.model import Driver, Endpoint, Network, PublishedPort, Subnet
from tare.network.openings import openings
from tare.network.ruleset import FirewallState, Forwarding
from tare.network.topology import HOST, HostFacts, Listener, Member, Topology

LAN = "192.168.7.5"


def network(name: str, third: int, **changes: object) -> Network:
    document = Network(
        id=name * 8,
        name=name,
        driver=Driver.BRIDGE,
        created="",
        subnets=(Subnet(subnet=f"10.0.{third}.0/24", gateway=f"10.0.{third}.1"),),
        bridge_name=f"tr-{name}",
    )
    return msgspec.structs.replace(document, **changes)


def endpoint(container: str, where: Network, last: int, **changes: object) -> Endpoint:
    pool = where.subnets[0]
    document = Endpoint(
        id=f"{container}-{where.name}",
        network_id=where.id,
        network_name=where.name,
        container_id=f"{container}-id",
        container_name=container,
        address=pool.gateway.rpartition(".")[0] + f".{last}",
        prefix_len=24,
        gateway="" if where.internal else pool.gateway,
        interface="eth0",
        default_route=not where.internal,
    )
    return msgspec.structs.replace(document, **changes)


def port(host_port: int, container_port: int, address: str = "0.0.0.0", protocol: str = "tcp") -> PublishedPort:
    return PublishedPort(protocol=protocol, host_address=address, host_port=host_port, container_port=container_port)


def topology(
    networks: Iterable[Network],
    endpoints: Iterable[Endpoint],
    *,
    published: Iterable[tuple[Endpoint, PublishedPort]] = (),
    on_host: Iterable[str] = (),
    listening: dict[str, list[tuple[str, str, int]]] | None = None,
    bridge_filtering: bool = True,
) -> Topology:
    networks, endpoints, published = tuple(networks), tuple(endpoints), tuple(published)
    names = dict.fromkeys(one.container_name for one in endpoints)
    members = [Member(f"{name}-id", name, f"{name}-id") for name in names]
    members += [Member(f"{name}-id", name, HOST) for name in on_host]
    known = {name if name == HOST else f"{name}-id": sockets for name, sockets in (listening or {}).items()}
    namespaces = {member.namespace for member in members} | {HOST}
    return Topology(
        table="tare",
        host=HostFacts(
            addresses=frozenset({LAN, "127.0.0.1", "::1", *(one.gateway for one in networks if one.gateway)}),
            primary={4: LAN},
            bridge_filtering={4: bridge_filtering, 6: bridge_filtering},
        ),
        networks={one.id: one for one in networks},
        endpoints=endpoints,
        members=tuple(members),
        firewall=FirewallState(
            networks,
            tuple(Forwarding(port, one.address) for one, port in published),
            openings=tuple(opening for one in endpoints for opening in openings(one)),
        ),
        published=published,
        listeners={name: frozenset(Listener(*socket) for socket in known.get(name, [])) for name in namespaces},
    )


def scene(**changes: object) -> Topology:
    """Login and logout on the default bridge, payment on a network of its own; payment and login serve port 80."""
    bridge, bank = network("bridge", 0), network("bank", 1)
    login, logout, payment = endpoint("login", bridge, 2), endpoint("logout", bridge, 3), endpoint("payment", bank, 2)
    serving = [("tcp", "0.0.0.0", 80), ("udp", "0.0.0.0", 53)]
    options: dict[str, object] = {
        "published": [(login, port(8080, 80)), (payment, port(8081, 80, "127.0.0.1"))],
        "on_host": ["monitor"],
        "listening": {"login": serving, "payment": serving, HOST: [("tcp", LAN, 9100)]},
    }
    return topology([bridge, bank], [login, logout, payment], **(options | changes))  # type: ignore[arg-type]
