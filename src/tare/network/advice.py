"""What would open a way that is closed: commands for the user, from a prediction. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tare.network.model import Driver, Network
from tare.network.reachability import OUTSIDE, Cause, Origin, Prediction
from tare.network.topology import HOST, Topology, gateway_of

_MOST = 3


def advise(topology: Topology, origin: Origin, target: str, prediction: Prediction, port: str) -> list[str]:
    """Ways to make it reachable, the best one first.

    ``target`` is the namespace (or OUTSIDE) that was asked for, ``port`` its port as ``80/tcp``, empty for none.
    """
    if prediction.cause is Cause.NO_LISTENER:
        return _serve(topology, prediction)
    if prediction.cause is Cause.NO_NEIGHBOUR and target == OUTSIDE:
        return []
    containers = {HOST, OUTSIDE}
    if origin.place not in containers and target not in containers:
        return _together(topology, origin.place, target)[:_MOST]
    if origin.place not in containers:
        return _way_out(topology, origin.place, target, prediction)[:_MOST]
    if target not in containers:
        return _published(topology, target, port)
    if origin.place == OUTSIDE and prediction.cause is Cause.LOOPBACK:
        return ["publish the port on an address that others can send to: -p HOST_PORT:CONTAINER_PORT"]
    return []


def _serve(topology: Topology, prediction: Prediction) -> list[str]:
    packet, place = prediction.delivered, prediction.place
    if packet is None or place is None:
        return []
    name = _name(topology, place)
    known = topology.listeners.get(place, frozenset())
    same = [one for one in known if one.protocol == packet.protocol]
    elsewhere = sorted({one.address for one in same if one.port == packet.port})
    if elsewhere:
        return [f"let {name} listen on 0.0.0.0 instead of {', '.join(elsewhere)}"]
    others = sorted({one.port for one in same if one.address not in ("127.0.0.11", "127.0.0.1", "::1")})
    advice = [f"start what is to listen on {packet.protocol} port {packet.port} in {name}"]
    if others and place != HOST:
        listed = ", ".join(f"{port}/{packet.protocol}" for port in others[:8])
        advice.append(f"{name} listens on {listed}: name one of these ports")
    return advice


def _together(topology: Topology, source: str, target: str) -> list[str]:
    """Networks that one of two containers could join."""
    advice = []
    for newcomer, there in ((source, target), (target, source)):
        networks = sorted(_open_networks(topology, there), key=lambda network: network.predefined)
        advice += [_connect(topology, network.name, newcomer) for network in networks]
    if advice:
        return advice
    joins = " && ".join(_connect(topology, "shared", place) for place in (source, target))
    return [f"tare network create shared && {joins}"]


def _way_out(topology: Topology, source: str, target: str, prediction: Prediction) -> list[str]:
    """For a container that does not get out, or not to the host."""
    name = _name(topology, source)
    endpoints = topology.endpoints_of(source)
    gateways = [gateway_of(one, 6 if ":" in prediction.address else 4) for one in endpoints if one.gateway]
    if target == HOST and gateways and prediction.address not in gateways:
        return [f"use the host's address on {name}'s own network: {gateways[0]}"]
    return [_connect(topology, "bridge", source)]


def _published(topology: Topology, target: str, wanted: str) -> list[str]:
    """For a container that is to be reached from outside."""
    name = _name(topology, target)
    mine = [port for endpoint, port in topology.published if endpoint.container_id == target]
    local = [
        port
        for port in mine
        if port.host_address.startswith("127.") and wanted in ("", f"{port.container_port}/{port.protocol}")
    ]
    advice = []
    if local:
        port = local[0]
        advice.append(
            f"run {name} anew with -p {port.host_port}:{port.container_port}/{port.protocol}"
            f" instead of -p {port.host_address}:{port.host_port}:{port.container_port}/{port.protocol}"
        )
    if all(topology.networks[one.network_id].internal for one in topology.endpoints_of(target)):
        advice.append(f"connect {name} to a network that is not internal: tare network connect bridge {name}")
    if not local:
        advice.append(f"run {name} anew with -p HOST_PORT:{wanted or 'CONTAINER_PORT'}")
    others = [port for port in mine if port not in local]
    if others:
        listed = ", ".join(
            f"{_bracketed(p.host_address)}:{p.host_port} (container port {p.container_port})" for p in others[:8]
        )
        advice.append(f"use what {name} publishes: {listed}")
    return advice


def _open_networks(topology: Topology, place: str) -> Iterable[Network]:
    networks = (topology.networks[endpoint.network_id] for endpoint in topology.endpoints_of(place))
    return [network for network in networks if network.icc and network.driver is Driver.BRIDGE]


def _connect(topology: Topology, network: str, place: str) -> str:
    """The command that connects a container; one on ``none`` has to leave it first."""
    mine = [topology.networks[one.network_id] for one in topology.endpoints if one.container_id == place]
    name = _name(topology, place)
    leave = "".join(f"tare network disconnect {one.name} {name} && " for one in mine if one.driver is Driver.NONE)
    return f"{leave}tare network connect {network} {name}"


def _name(topology: Topology, place: str) -> str:
    members = topology.members_of(place)
    return "host" if place == HOST else members[0].name if members else place[:12]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
