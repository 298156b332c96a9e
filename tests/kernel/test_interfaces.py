"""Addresses and routes of the host are those that ip(8) shows."""

from __future__ import annotations

import json
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from tare.kernel import interfaces
from tare.kernel.namespaces import run_in_network_namespace

pytestmark = pytest.mark.root


def shown(*argv: str) -> Any:
    """What ``ip -json`` prints."""
    done = subprocess.run(["ip", "-json", "-4", *argv], check=True, capture_output=True)
    return json.loads(done.stdout or b"[]")


def block(held: interfaces.Held) -> IPv4Network:
    return IPv4Network((held.first, 32 - (held.last - held.first).bit_length()))


def test_addresses_and_routes_are_those_of_ip(tmp_path_factory: pytest.TempPathFactory) -> None:
    name = f"tare-if-{tmp_path_factory.getbasetemp().name[-8:]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    inside = ["ip", "-n", name]
    try:
        for line in (
            "link set lo up",
            "link add br-a type bridge",
            "addr add 10.1.2.3/29 dev br-a",
            "addr add 10.1.3.1/32 dev br-a",
            "link set br-a up",
            "link add br-down type bridge",
            "addr add 10.9.0.1/16 dev br-down",
            "route add 10.200.0.0/14 dev br-a",
            "route add blackhole 10.220.0.0/16",
            "route add default via 10.1.2.4",
        ):
            subprocess.run([*inside, *line.split()], check=True)
        path = Path("/run/netns", name)
        found = run_in_network_namespace(path, lambda: (interfaces.ipv4_addresses(), interfaces.ipv4_routes()))
        addresses = {
            (link["ifname"], IPv4Network((item["local"], item["prefixlen"]), strict=False))
            for link in shown("-n", name, "addr")
            for item in link["addr_info"]
        }
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)
    assert {(item.interface, block(item)) for item in found[0]} == addresses
    assert ("br-down", IPv4Network("10.9.0.0/16")) in addresses
    assert {(item.interface, block(item)) for item in found[1]} == {
        ("br-a", IPv4Network("10.1.2.0/29")),
        ("br-a", IPv4Network("10.200.0.0/14")),
        ("*", IPv4Network("10.220.0.0/16")),
    }
