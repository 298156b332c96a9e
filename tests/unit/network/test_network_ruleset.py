from __future__ import annotations

from dataclasses import replace as with_changes

import msgspec

from tare.network.model import Driver, Network, PublishedPort, Subnet
from tare.network.ruleset import FirewallState, Forwarding, network_elements, render, render_change

SHOP = Network(
    id="a" * 64,
    name="shop",
    driver=Driver.BRIDGE,
    created="",
    subnets=(Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1"),),
    bridge_name="tr-aaaaaaaaaaaa",
)
WEB = Forwarding(PublishedPort(protocol="tcp", host_address="0.0.0.0", host_port=8080, container_port=80), "10.0.0.2")


def test_the_ruleset_is_a_function_of_the_state_and_not_of_its_order() -> None:
    other = msgspec.structs.replace(SHOP, id="b" * 64, bridge_name="tr-bbbbbbbbbbbb")
    forward = FirewallState((SHOP, other), (WEB,))
    assert render("tare", forward) == render("tare", with_changes(forward, networks=(other, SHOP)))


def test_rules_do_not_grow_with_ports_and_networks() -> None:
    empty, full = render("tare", FirewallState()), render("tare", FirewallState((SHOP,), (WEB,)))
    assert full.split("  chain publish {", 1)[1] == empty.split("  chain publish {", 1)[1]
    assert empty.startswith("table inet tare\ndelete table inet tare\ntable inet tare {\n")
    assert "elements" not in empty
    assert "elements = { tcp . 8080 : 10.0.0.2 . 80 }" in full


def test_elements_of_a_network() -> None:
    bridge = '"tr-aaaaaaaaaaaa"'
    assert network_elements(SHOP) == [
        ("bridges", bridge),
        ("within", f"{bridge} . {bridge} : accept"),
        ("own_gateway", f"{bridge} . 10.0.0.1"),
        ("gateways", "10.0.0.1"),
        ("local_subnets", f"10.0.0.0/24 . {bridge}"),
        ("masqueraded", "10.0.0.0/24"),
    ]
    internal = msgspec.structs.replace(SHOP, internal=True, icc=False)
    assert ("internal", bridge) in network_elements(internal)
    assert "masqueraded" not in dict(network_elements(internal))
    assert ("within", f"{bridge} . {bridge} : goto only_published") in network_elements(internal)
    assert network_elements(msgspec.structs.replace(SHOP, driver=Driver.HOST)) == []


def test_changes_name_keys_only_when_they_delete() -> None:
    local = Forwarding(msgspec.structs.replace(WEB.port, host_address="127.0.0.1"), "10.0.0.2")
    assert render_change("add", "tare", [WEB.element(), local.element()]) == (
        "add element inet tare published_everywhere { tcp . 8080 : 10.0.0.2 . 80 }\n"
        "add element inet tare published_at { tcp . 127.0.0.1 . 8080 : 10.0.0.2 . 80 }\n"
    )
    assert render_change("delete", "tare", [WEB.element()]) == (
        "delete element inet tare published_everywhere { tcp . 8080 }\n"
    )
