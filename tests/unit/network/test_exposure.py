"""What the world can reach, out of predictions: ranges port by port, and who may come."""

from __future__ import annotations

import msgspec
from network_topologies import LAN, endpoint, network, port, topology

from tare.network.exposure import EVERYWHERE, Exposure, exposures
from tare.network.model import PublishedPort
from tare.network.reachability import Predictor


def exposed(published: PublishedPort) -> list[Exposure]:
    bridge = network("bridge", 0)
    login = endpoint("login", bridge, 2)
    listening = {"login": [("tcp", "0.0.0.0", 80), ("tcp", "0.0.0.0", 81)]}
    return exposures(Predictor(topology([bridge], [login], published=[(login, published)], listening=listening)), {})


def test_a_range_is_listed_port_by_port() -> None:
    found = exposed(msgspec.structs.replace(port(8080, 80), count=3))
    assert [(one.port, one.container_port, one.listening) for one in found] == [
        (8080, 80, True),
        (8081, 81, True),
        (8082, 82, False),
    ]
    assert {one.risk for one in found} == {EVERYWHERE}


def test_a_port_for_some_sources_names_them_and_is_no_risk() -> None:
    (found,) = exposed(msgspec.structs.replace(port(8080, 80), sources=("203.0.113.0/24",)))
    assert (found.sources, found.risk, found.scope, found.listening) == (("203.0.113.0/24",), "", "outside", True)


def test_an_address_of_the_host_is_no_risk_and_loopback_is_for_the_host() -> None:
    assert [(one.scope, one.risk, one.listening) for one in exposed(port(8080, 80, LAN))] == [("outside", "", True)]
    assert [(one.scope, one.risk) for one in exposed(port(8080, 80, "127.0.0.1"))] == [("host", "")]
