from __future__ import annotations

from dataclasses import replace as with_changes

import msgspec

from tare.network.model import Driver, Network, PublishedPort, Subnet
from tare.network.ruleset import Detour, FirewallState, Forwarding, network_elements, render, render_change, shape

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
    assert render_change("add", "tare", [*WEB.elements(), *local.elements()]) == (
        "add element inet tare published_everywhere { tcp . 8080 : 10.0.0.2 . 80 }\n"
        "add element inet tare published_at { tcp . 127.0.0.1 . 8080 : 10.0.0.2 . 80 }\n"
    )
    assert render_change("delete", "tare", WEB.elements()) == (
        "delete element inet tare published_everywhere { tcp . 8080 }\n"
    )


def test_a_range_is_one_element_and_a_moved_one_an_element_for_each_port() -> None:
    port = msgspec.structs.replace(WEB.port, container_port=8080, count=10_000)
    assert list(Forwarding(port, "10.0.0.2").elements()) == [
        ("ranges", "tcp . 0.0.0.0/0 . 8080-18079 : 10.0.0.2"),
        ("offered", "tcp . 0.0.0.0/0 . 8080-18079"),
    ]
    moved = Forwarding(msgspec.structs.replace(WEB.port, host_address="::", count=3), "fd00::2")
    assert [element for name, element in moved.elements() if name == "published_everywhere6"] == [
        "tcp . 8080 : fd00::2 . 80",
        "tcp . 8081 : fd00::2 . 81",
        "tcp . 8082 : fd00::2 . 82",
    ]


def test_sources_are_elements_too() -> None:
    limited = Forwarding(msgspec.structs.replace(WEB.port, sources=("10.0.0.0/8", "192.0.2.1/32")), "10.0.0.2")
    assert list(limited.elements())[2:] == [
        ("limited", "tcp . 0.0.0.0/0 . 8080"),
        ("permitted", "tcp . 10.0.0.0/8 . 0.0.0.0/0 . 8080"),
        ("permitted", "tcp . 192.0.2.1/32 . 0.0.0.0/0 . 8080"),
    ]


def test_the_hosts_firewall_is_asked_only_where_that_is_wanted() -> None:
    direct = render("tare", FirewallState((SHOP,), (WEB,)))
    assert "table ip tare {" not in direct
    assert "dup to" not in direct
    assert "mark" not in direct
    detour = Detour("tare-out", "tare-back", 0x74000007)
    asking = render("tare", FirewallState((SHOP,), (WEB,), detour))
    assert 'iifname "tare-back" jump arriving' in asking
    assert f'iifname "tare-back" meta mark set {0x74000007} comment' in asking
    assert 'iifname "tare-back" meta mark set 0 comment' in asking
    assert 'dup to fe80::1 device "tare-out" drop' in asking
    assert "elements = { tcp . 0.0.0.0/0 . 8080 }" in asking
    assert render_change("add", "tare", WEB.elements(), detour).splitlines()[1] == (
        "add element ip tare offered { tcp . 0.0.0.0/0 . 8080 }"
    )


def test_a_table_of_the_same_shape_is_filled_where_it_is() -> None:
    empty, full = FirewallState(), FirewallState((SHOP,), (WEB,))
    assert shape(render("tare", empty)) == shape(render("tare", full, kept=True))
    assert shape(render("tare", empty)) != shape(render("tare", with_changes(empty, detour=Detour("a", "b"))))
    assert "delete table inet" in render("tare", full)
    kept = render("tare", full, kept=True)
    assert "delete table inet" not in kept
    assert {line.split()[-1] for line in kept.splitlines() if line.startswith(("flush set", "flush map"))} == {
        name.split()[1] for name in shape(kept)["table inet tare"] if name.startswith(("set ", "map "))
    }
