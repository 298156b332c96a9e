"""Gateway modes: the elements that the firewall gets, and what is predicted from them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from network_topologies import endpoint, network, port, topology

from tare.errors import InvalidArgument, Unsupported
from tare.network.explanation import explain, read_question
from tare.network.exposure import UNPROTECTED, exposures
from tare.network.model import OpenPort
from tare.network.openings import openings
from tare.network.probes import Attempt, Kind
from tare.network.proving import Observation
from tare.network.reachability import Cause, Predictor, Verdict
from tare.network.request import read_options
from tare.network.topology import Topology

R, D = Verdict.REACHABLE, Verdict.DROPPED
OPTION = "com.docker.network.bridge.gateway_mode_ipv4"
WEB = OpenPort(protocol="tcp", port=80)


def place(mode: str, *opened: OpenPort, internal: bool = False) -> Topology:
    """Login, which serves the ports 80 and 81, on a network of a mode, payment on another that is always nat."""
    shop = network("shop", 0, options={OPTION: mode}, internal=internal)
    bank = network("bank", 1)
    login = endpoint("login", shop, 2, open_ports=opened)
    published = [] if mode in ("routed", "isolated") else [(login, port(8080, 80))]
    listening = {"login": [("tcp", "0.0.0.0", 80), ("tcp", "0.0.0.0", 81)]}
    return topology([shop, bank], [login, endpoint("payment", bank, 2)], published=published, listening=listening)


def verdict(where: Topology, source: str, target: str, service: str = "") -> Verdict:
    return explain(Predictor(where), read_question(source, target, service)).prediction.verdict


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("nat", {"outside": (D, D, D), "payment": (D, D, D), "host": (R, R, R)}),
        ("nat-unprotected", {"outside": (R, R, R), "payment": (D, D, D), "host": (R, R, R)}),
        ("routed", {"outside": (R, D, R), "payment": (R, D, R), "host": (R, R, R)}),
    ],
)
def test_what_reaches_a_containers_own_address(mode: str, expected: Mapping[str, tuple[Verdict, ...]]) -> None:
    """Port 80, which ``-p`` names, port 81, which it does not, and an echo request."""
    where = place(mode, *([WEB] if mode == "routed" else []))
    for source, verdicts in expected.items():
        found = tuple(verdict(where, source, "10.0.0.2", service) for service in ("80", "81", ""))
        assert found == verdicts, source


def test_what_leaves_a_routed_network_keeps_its_address() -> None:
    def leaving(mode: str) -> str:
        prediction = explain(Predictor(place(mode)), read_question("login", "outside", "443")).prediction
        assert prediction.delivered is not None
        return prediction.delivered.source

    assert leaving("routed") == "10.0.0.2"
    assert leaving("nat") == leaving("nat-unprotected") == "192.168.7.5"


def test_nobody_has_a_way_into_an_isolated_network() -> None:
    """The host has no address there, so that what it sends goes elsewhere."""
    where = place("isolated", internal=True)
    for source in ("host", "outside", "payment"):
        prediction = explain(Predictor(where), read_question(source, "10.0.0.2", "80")).prediction
        assert (prediction.verdict, prediction.cause) == (D, Cause.NO_ROUTE), source
        assert "no address on network shop" in prediction.reason
        attempt = Attempt(Kind.CONNECT, "10.0.0.2", 80)
        ends = {one: Observation(source, "login-id", attempt, prediction, one).agrees for one in Verdict}
        assert ends == {one: one is not R for one in Verdict}  # others, where it went, may refuse it


def test_open_ports_may_have_sources() -> None:
    where = place("routed", msgspec.structs.replace(WEB, sources=("203.0.113.0/24",)))
    assert verdict(where, "203.0.113.9", "10.0.0.2", "80") is R
    assert verdict(where, "198.51.100.9", "10.0.0.2", "80") is D


def elements(*opened: OpenPort) -> list[tuple[str, str]]:
    return [one.element() for one in openings(endpoint("login", network("shop", 0), 2, open_ports=opened))]


def test_a_range_is_one_element_and_what_overlaps_is_cut_in_pieces() -> None:
    span = OpenPort(protocol="tcp", port=80, count=10)
    assert elements(span) == [("opened", "10.0.0.2 . tcp . 80-89")]
    assert elements(WEB, WEB) == [("opened", "10.0.0.2 . tcp . 80")]
    assert elements(span, OpenPort(protocol="tcp", port=85, count=10)) == [("opened", "10.0.0.2 . tcp . 80-94")]
    assert elements(WEB, OpenPort(protocol="tcp", port=82), OpenPort(protocol="udp", port=80)) == [
        ("opened", "10.0.0.2 . tcp . 80"),
        ("opened", "10.0.0.2 . tcp . 82"),
        ("opened", "10.0.0.2 . udp . 80"),
    ]
    assert elements(
        msgspec.structs.replace(span, sources=("10.9.0.0/24", "fd00::/64")),
        OpenPort(protocol="tcp", port=89, sources=("10.9.1.0/24",)),
        WEB,
    ) == [
        ("opened", "10.0.0.2 . tcp . 80"),
        ("opened_to", "10.9.0.0/24 . 10.0.0.2 . tcp . 81-88"),
        ("opened_to", "10.9.0.0/23 . 10.0.0.2 . tcp . 89"),
    ]
    assert elements(msgspec.structs.replace(WEB, sources=("fd00::/64",))) == []  # nobody of IPv4


def test_exposure_lists_what_the_outside_reaches_at_containers_addresses() -> None:
    def found(where: Topology) -> list[tuple[str, int, bool, tuple[str, ...], str]]:
        every = exposures(Predictor(where), {})
        return [(one.address, one.port, one.listening, one.sources, one.risk) for one in every if one.kind == "address"]

    limited = OpenPort(protocol="tcp", port=90, sources=("10.9.0.0/24",))
    assert found(place("routed", WEB, limited)) == [
        ("10.0.0.2", 80, True, (), ""),
        ("10.0.0.2", 90, False, ("10.9.0.0/24",), ""),
    ]
    assert found(place("nat-unprotected")) == [
        ("10.0.0.2", 80, True, (), UNPROTECTED),
        ("10.0.0.2", 81, True, (), UNPROTECTED),
    ]
    assert found(place("nat")) == []


def test_modes_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="can only be used for an internal network"):
        read_options({OPTION: "isolated"}, 1500)
    read_options({OPTION: "isolated"}, 1500, internal=True)
    with pytest.raises(InvalidArgument, match="unknown gateway mode bridged"):
        read_options({OPTION: "bridged"}, 1500)
    with pytest.raises(Unsupported, match="gateway mode routed is not available for IPv6"):
        read_options({OPTION.replace("ipv4", "ipv6"): "routed"}, 1500)
    read_options({OPTION.replace("ipv4", "ipv6"): "nat"}, 1500)
