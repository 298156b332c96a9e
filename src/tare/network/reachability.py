"""Predicts whether one place on the network reaches another, and names what decides at each hop: no I/O.

A packet is followed as the kernel would carry it: the sender's routes, the bridge, the engine's rules (those that
:func:`tare.network.ruleset.render` writes, read and evaluated word by word, so that a prediction cannot lag behind
them), the receiver's sockets, and the way back of the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import ip_address

from tare.network.model import Driver, Endpoint
from tare.network.packet import Packet
from tare.network.rule_text import read_table
from tare.network.rule_walk import Decision, RuleWalk, Surroundings
from tare.network.ruleset import render
from tare.network.topology import HOST, Topology, address_of, contains, gateway_of, leads_out, listening, on_link

OUTSIDE = "outside"
"""The place of everything that is neither the host nor one of its containers, and its interface on the host."""


class Verdict(StrEnum):
    """How an attempt ends: answered, refused by the receiver's kernel, without an answer, or not even sent."""

    REACHABLE = "reachable"
    REFUSED = "refused"
    DROPPED = "dropped"
    UNROUTABLE = "unroutable"


class Cause(StrEnum):
    """What kind of thing decided."""

    OPEN = "open"
    RULE = "rule"
    NO_LISTENER = "no-listener"
    NO_ROUTE = "no-route"
    NO_NEIGHBOUR = "no-neighbour"
    NO_WAY_BACK = "no-way-back"
    NO_FORWARDING = "no-forwarding"
    ISOLATED_PORTS = "isolated-ports"
    LOOPBACK = "loopback"
    LAN_PARENT = "lan-parent"


@dataclass(frozen=True, slots=True)
class Hop:
    """A place that the packet comes through, the rule or route that decides there (with its comment), and how."""

    where: str
    rule: str
    decision: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sends: a namespace (a container's id, or HOST), or OUTSIDE with an address."""

    place: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What becomes of an attempt at ``address``; ``place`` is where it was going to be delivered, empty if nowhere."""

    address: str
    verdict: Verdict
    cause: Cause
    reason: str
    hops: tuple[Hop, ...]
    place: str | None = None
    delivered: Packet | None = None
    decision: Decision | None = None

    @property
    def open(self) -> bool:
        """Whether packets pass both ways, listened to or not."""
        return self.verdict in (Verdict.REACHABLE, Verdict.REFUSED)


class Predictor:
    """Predicts for one topology. Raises InternalError (``rule-not-modelled``) when a rule is not understood."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        table = read_table(render(topology.table, topology.firewall))
        self._rules = RuleWalk(table, Surroundings(topology.is_local, self._address_on))

    def predict(self, origin: Origin, address: str, protocol: str, port: int = 0) -> Prediction:
        """The end of an attempt to reach ``address``; ``protocol`` is tcp, udp, sctp, or icmp (an echo request)."""
        return _Walk(self.topology, self._rules, origin, Packet("", address, protocol, port)).run()

    def _address_on(self, interface: str, version: int) -> str:
        for network in self.topology.networks.values():
            if network.bridge_name == interface:
                pool = network.pool6 if version == 6 else network.pool4
                return pool.gateway if pool else ""
        return next(iter(self.topology.host_addresses(version)), "")


class _Walk:
    """One packet on its way."""

    def __init__(self, topology: Topology, rules: RuleWalk, origin: Origin, packet: Packet) -> None:
        self._topology = topology
        self._rules = rules
        self._origin = origin
        self._packet = packet
        self._asked = packet.destination
        self._from_interface = ""  # of the host, on which answers leave again; empty for the host itself
        self._hops: list[Hop] = []
        self._decision: Decision | None = None

    def run(self) -> Prediction:
        if self._origin.place == HOST:
            return self._from_host()
        if self._origin.place == OUTSIDE:
            self._from_interface = OUTSIDE
            source = self._origin.address or outside_address(self._topology, self._packet.version)
            receiver = self._on_lan(self._packet.destination)
            if receiver is not None:
                return self._along_lan("outside", receiver, replace(self._packet, source=source))
            self._hop("outside", "the host's addresses and routes", f"{source} sends to the host")
            return self._enter(replace(self._packet, source=source, iif=OUTSIDE))
        return self._from_namespace(self._origin.place)

    # --- senders ----------------------------------------------------------------------------------------------------

    def _from_host(self) -> Prediction:
        packet, version = self._packet, self._packet.version
        local = self._topology.is_local(packet.destination)
        oif = "lo" if local else self._bridge_to(packet.destination)
        packet = replace(packet, source=self._host_source(packet.destination, oif), oif=oif, local=local)
        self._hop("host", f"route to {packet.destination}", f"out of {oif}" if oif != "lo" else "its own address")
        passed, end = self._hook("output", packet)
        if end:
            return end
        packet = passed
        if packet.translated:
            packet = replace(packet, oif="lo" if packet.local else self._bridge_to(packet.destination))
        if version == 6 and packet.oif != "lo" and ip_address(packet.source).is_loopback:
            return self._end(Verdict.DROPPED, Cause.LOOPBACK, "the kernel sends nothing from ::1 to an interface")
        passed, end = self._hook("postrouting", packet)
        if end:
            return end
        packet = passed
        if packet.oif == "lo":
            passed, end = self._hook("input", replace(packet, iif="lo", oif=""))
            return end or self._deliver(HOST, passed)
        if packet.oif == OUTSIDE:
            return self._outside(packet)
        return self._to_endpoint(packet)

    def _from_namespace(self, namespace: str) -> Prediction:
        packet, topology, name = self._packet, self._topology, self._name(self._origin.place)
        endpoints, version = topology.endpoints_of(namespace), packet.version
        target = packet.destination
        own = [address_of(one, version) for one in endpoints]
        if ip_address(target).is_loopback or target in own:
            self._hop(name, f"route to {target}", "its own address")
            return self._deliver(namespace, replace(packet, source=target, iif="lo"))
        direct = next((one for one in endpoints if on_link(one, target)), None)
        if direct is not None:
            mine, network = address_of(direct, version), topology.networks[direct.network_id]
            self._hop(name, f"route to {target} dev {direct.interface}", f"on network {network.name}")
            packet = replace(packet, source=mine, iif=network.bridge_name)
            if network.driver is not Driver.BRIDGE:
                return self._onto_lan(direct, packet)
            self._from_interface = network.bridge_name
            return self._enter(packet) if topology.is_local(target) else self._bridged(direct, packet)
        way = next((one for one in endpoints if leads_out(one, version)), None)
        if way is None:
            networks = ", ".join(one.network_name for one in endpoints) or "no network"
            self._hop(name, f"route to {target}", "none")
            reason = f"{name} is on {networks} and has no route to {target}"
            return self._end(Verdict.UNROUTABLE, Cause.NO_ROUTE, reason)
        network = topology.networks[way.network_id]
        route = f"default via {gateway_of(way, version)} dev {way.interface}"
        if network.driver is not Driver.BRIDGE:
            self._hop(name, route, f"to a router on {network.name}")
            return self._outside(replace(packet, source=address_of(way, version)))
        self._hop(name, route, f"to the host on {network.name}")
        self._from_interface = network.bridge_name
        return self._enter(replace(packet, source=address_of(way, version), iif=network.bridge_name))

    # --- hops -------------------------------------------------------------------------------------------------------

    def _bridged(self, sender: Endpoint, packet: Packet) -> Prediction:
        """From one port of a bridge to another."""
        network = self._topology.networks[sender.network_id]
        where = f"bridge {network.bridge_name}"
        receiver = self._topology.owner_of(packet.destination)
        if receiver is None or receiver.network_id != network.id:
            return self._nobody(where, packet.destination, network.name)
        if not network.icc:
            return self._isolated(network.bridge_name)
        if not self._topology.host.bridge_filtering.get(packet.version, False):
            self._hop(where, "bridged packets pass no firewall", "accept")
            return self._deliver(receiver.container_id, packet)
        for hook in ("prerouting", "forward", "postrouting"):
            passed, end = self._hook(hook, replace(packet, oif="" if hook == "prerouting" else packet.iif))
            if end:
                return end
            packet = passed
        return self._deliver(receiver.container_id, packet)

    def _ports_isolated(self, packet: Packet) -> bool:
        """Whether a translated packet goes from port to port of a bridge that keeps its ports apart.

        With bridge filtering the kernel sends what is translated back into the bridge on from the port it came from.
        """
        network = self._topology.network_around(packet.destination)
        filtering = self._topology.host.bridge_filtering.get(packet.version, False)
        return network is not None and not network.icc and filtering

    def _isolated(self, bridge: str) -> Prediction:
        self._hop(f"bridge {bridge}", "ports are isolated (enable_icc=false)", "drop")
        reason = "containers of a network with enable_icc=false do not reach each other"
        return self._end(Verdict.DROPPED, Cause.ISOLATED_PORTS, reason)

    def _enter(self, packet: Packet) -> Prediction:
        """Into the host by an interface: to the host itself, or through it."""
        topology = self._topology
        packet = replace(packet, local=topology.is_local(packet.destination))
        packet, end = self._hook("prerouting", packet)
        if end:
            return end
        if ip_address(packet.destination).is_loopback and (packet.version == 6 or packet.iif == OUTSIDE):
            self._hop("host", f"{packet.destination} on {packet.iif}", "drop")
            return self._end(Verdict.DROPPED, Cause.LOOPBACK, "the kernel takes loopback addresses from no interface")
        if packet.local:
            packet, end = self._hook("input", packet)
            return end or self._deliver(HOST, packet)
        packet = replace(packet, oif=self._bridge_to(packet.destination))
        if packet.oif == packet.iif and packet.translated and self._ports_isolated(packet):
            return self._isolated(packet.iif)
        if not topology.host.forwarding.get(packet.version, True):
            self._hop("host", f"forwarding of IPv{packet.version}", "off")
            reason = f"the host does not forward IPv{packet.version}"
            return self._end(Verdict.DROPPED, Cause.NO_FORWARDING, reason)
        for hook in ("forward", "postrouting"):
            packet, end = self._hook(hook, packet)
            if end:
                return end
        return self._outside(packet) if packet.oif == OUTSIDE else self._to_endpoint(packet)

    def _to_endpoint(self, packet: Packet) -> Prediction:
        """Out of the host's bridge to whoever has the address."""
        receiver = self._topology.owner_of(packet.destination)
        if receiver is None:
            network = self._topology.network_around(packet.destination)
            return self._nobody(f"bridge {packet.oif}", packet.destination, network.name if network else "")
        return self._deliver(receiver.container_id, packet)

    def _on_lan(self, address: str) -> Endpoint | None:
        """Who has an address on a network that is no bridge of the host's, but a part of the LAN (macvlan)."""
        owner = self._topology.owner_of(address)
        return owner if owner and self._topology.networks[owner.network_id].driver is not Driver.BRIDGE else None

    def _onto_lan(self, sender: Endpoint, packet: Packet) -> Prediction:
        """From a container that is a machine of the LAN."""
        receiver = self._on_lan(packet.destination)
        if receiver is not None and receiver.network_id == sender.network_id:
            return self._along_lan(f"network {sender.network_name}", receiver, packet)
        if self._topology.is_local(packet.destination):
            return self._parent(sender.network_name, packet.destination)
        return self._outside(packet)

    def _along_lan(self, where: str, receiver: Endpoint, packet: Packet) -> Prediction:
        if self._topology.networks[receiver.network_id].internal and self._origin.place in (HOST, OUTSIDE):
            return self._nobody(where, packet.destination, receiver.network_name)
        self._hop(where, "macvlan: packets pass no firewall of the host's", "accept")
        return self._deliver(receiver.container_id, packet)

    def _parent(self, network: str, address: str) -> Prediction:
        self._hop(f"network {network}", f"macvlan: {address}", "drop")
        reason = f"the host and the containers on {network} do not reach each other: they share an interface (macvlan)"
        return self._end(Verdict.DROPPED, Cause.LAN_PARENT, reason)

    def _outside(self, packet: Packet) -> Prediction:
        receiver = self._on_lan(packet.destination)
        if receiver is not None:
            return self._parent(receiver.network_name, packet.destination)
        network = self._topology.network_around(packet.destination)
        if network is not None:  # its subnet is nothing to the host, and so its packets took the way out
            self._hop("host", f"route to {packet.destination}", "none")
            reason = f"the host has no address on network {network.name}, and so no way there (gateway mode isolated)"
            return self._end(Verdict.DROPPED, Cause.NO_ROUTE, reason)
        self._hop("outside", f"{packet.protocol} to {packet.destination}", "leaves the host; nothing is known beyond")
        return self._end(Verdict.REACHABLE, Cause.OPEN, "nothing on this host is in the way", OUTSIDE, packet)

    def _nobody(self, where: str, address: str, network: str) -> Prediction:
        self._hop(where, f"neighbour {address}", "nobody has this address")
        return self._end(Verdict.DROPPED, Cause.NO_NEIGHBOUR, f"nobody on network {network} has the address {address}")

    def _deliver(self, namespace: str, packet: Packet) -> Prediction:
        """To the receiver's sockets; and back."""
        name = self._name(namespace)
        if packet.protocol == "icmp":
            self._hop(name, "echo request", "answered by its kernel")
            verdict, cause, reason = Verdict.REACHABLE, Cause.OPEN, f"{name} answers"
        else:
            service = f"{packet.protocol} {packet.destination} port {packet.port}"
            known = self._topology.listeners.get(namespace)
            if known is None or listening(known, packet.protocol, packet.destination, packet.port):
                self._hop(name, service, "listened to" if known is not None else "not looked at")
                verdict, cause, reason = Verdict.REACHABLE, Cause.OPEN, f"{name} listens"
            else:
                self._hop(name, service, "nobody listens")
                reason = f"the way is open, but nobody in {name} listens on {packet.protocol} port {packet.port}"
                verdict, cause = Verdict.REFUSED, Cause.NO_LISTENER
        lost = self._way_back(namespace, packet)
        return lost or self._end(verdict, cause, reason, namespace, packet)

    def _way_back(self, namespace: str, packet: Packet) -> Prediction | None:
        """None when the answer comes back."""
        answer = replace(
            packet, source=packet.destination, destination=packet.source, state="established", port=0, iif="", oif=""
        )
        if namespace in (HOST, self._origin.place):
            return None
        endpoints, version = self._topology.endpoints_of(namespace), packet.version
        way = next((one for one in endpoints if on_link(one, answer.destination)), None)
        way = way or next((one for one in endpoints if leads_out(one, version)), None)
        name = self._name(namespace)
        if way is None:
            self._hop(f"{name}, way back", f"route to {answer.destination}", "none")
            reason = f"{name} has no route back to {answer.destination}"
            return self._end(Verdict.DROPPED, Cause.NO_WAY_BACK, reason, namespace, packet)
        if self._topology.networks[way.network_id].driver is not Driver.BRIDGE:
            return None  # onto the LAN, past the host
        bridge = self._topology.networks[way.network_id].bridge_name
        if bridge == self._from_interface and not packet.translated:
            return None  # bridged, as it came
        answer = replace(answer, iif=bridge)
        hooks = ["prerouting", "forward" if self._from_interface else "input"]
        for hook in hooks:
            passage = self._rules.at(hook, replace(answer, oif=self._from_interface if hook == "forward" else ""))
            if passage.verdict != "accept":
                self._decisions(passage.decisions, prefix="way back, ")
                return self._end(
                    Verdict.DROPPED, Cause.NO_WAY_BACK, f"the answer of {name} is dropped", namespace, packet
                )
        return None

    # --- small steps ------------------------------------------------------------------------------------------------

    def _hook(self, hook: str, packet: Packet) -> tuple[Packet, Prediction | None]:
        passage = self._rules.at(hook, packet)
        self._decisions(passage.decisions)
        if passage.verdict == "accept":
            if hook in ("input", "forward") and not passage.decisions:
                self._hop(f"firewall, {hook}", f"no rule of table inet {self._topology.table} applies", "accept")
            return passage.packet, None
        decision = passage.decisions[-1]
        verdict = Verdict.REFUSED if passage.verdict == "reject" else Verdict.DROPPED
        reason = decision.comment or f"rule {decision.rule!r}"
        return passage.packet, self._end(verdict, Cause.RULE, reason)

    def _decisions(self, decisions: tuple[Decision, ...], prefix: str = "") -> None:
        for one in decisions:
            where = one.hook if one.chain == one.hook else f"{one.hook}/{one.chain}"
            self._hop(f"{prefix}firewall, {where}", one.rule, one.action, one.comment)
            self._decision = one

    def _hop(self, where: str, rule: str, decision: str, comment: str = "") -> None:
        self._hops.append(Hop(where, rule, decision, comment))

    def _end(
        self, verdict: Verdict, cause: Cause, reason: str, place: str | None = None, packet: Packet | None = None
    ) -> Prediction:
        decision = self._decision if cause in (Cause.RULE, Cause.NO_WAY_BACK) else None
        return Prediction(self._asked, verdict, cause, reason, tuple(self._hops), place, packet, decision)

    def _bridge_to(self, address: str) -> str:
        network = self._topology.network_reached(address)
        return network.bridge_name if network else OUTSIDE

    def _host_source(self, address: str, oif: str) -> str:
        if oif == "lo":
            return address
        network = self._topology.network_reached(address)
        if network is not None:
            return next(pool.gateway for pool in network.subnets if contains(pool.subnet, address))
        return next(iter(self._topology.host_addresses(6 if ":" in address else 4)), "")

    def _name(self, namespace: str) -> str:
        if namespace == HOST:
            return "host"
        members = self._topology.members_of(namespace)
        return members[0].name if members else namespace[:12]


def outside_address(topology: Topology, version: int) -> str:
    """An address that is neither the host's nor on one of its networks (RFC 5737, RFC 3849)."""
    candidates = ("2001:db8::1", "2001:db8:1::1") if version == 6 else ("198.51.100.1", "203.0.113.1", "192.0.2.1")
    return next(
        one for one in candidates if one not in topology.host.addresses and topology.network_around(one) is None
    )
