from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.cli.network_options import networking, read_driver_options, read_network, read_pool
from tare.errors import InvalidArgument

NOTHING: dict[str, Any] = {
    "network": (), "network_alias": (), "ip": "", "ip6": "", "mac_address": "", "link_local_ip": (), "link": (),
}  # fmt: skip


def test_a_network_with_its_settings() -> None:
    text = "name=shop,alias=a,alias=b,ip=10.0.0.9,mac-address=02:42:0a:00:00:09,driver-opt=K=v,gw-priority=-3"
    assert read_network(text) == {
        "Target": "shop",
        "Aliases": ["a", "b"],
        "IPAMConfig": {"IPv4Address": "10.0.0.9"},
        "MacAddress": "02:42:0a:00:00:09",
        "DriverOpts": {"k": "v"},
        "GwPriority": -3,
        "Links": [],
    }
    assert read_network("shop")["Target"] == "shop"
    quoted = 'name=shop,"driver-opt=com.docker.network.endpoint.sysctls=a=1,b=2"'
    assert read_network(quoted)["DriverOpts"] == {"com.docker.network.endpoint.sysctls": "a=1,b=2"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name=a,nonsense=1", "invalid field key nonsense"),
        ("alias=a", "network name/id is not specified"),
        ("name=a,driver-opt=b", "invalid key value pair format in driver options"),
        ("name=a,gw-priority=x", r"invalid gw-priority \(x\): invalid syntax"),
        ("name=a,mac-address=x", "x is not a valid mac address"),
    ],
)
def test_networks_that_cannot_be_read(text: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        read_network(text)


@given(st.text(max_size=60))
def test_any_text_is_a_network_or_refused(text: str) -> None:
    try:
        read_network(text)
    except InvalidArgument as error:
        assert error.message


def test_options_without_a_network_are_those_of_the_first() -> None:
    assert networking(NOTHING) == ("default", {})
    mode, endpoints = networking({**NOTHING, "network": ("a", "b"), "ip": "10.0.0.2", "network_alias": ("x",)})
    assert mode == "a"
    assert endpoints == {"a": {"Aliases": ["x"], "IPAMConfig": {"IPv4Address": "10.0.0.2"}}, "b": None}
    assert networking({**NOTHING, "mac_address": "02:42:00:00:00:01"}) == (
        "default",
        {"default": {"MacAddress": "02:42:00:00:00:01"}},
    )


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"network": ("a", "a")}, 'network "a" is specified multiple times'),
        ({"network": ("host", "a")}, "cannot attach both user-defined and non-user-defined network-modes"),
        ({"network": ("a", "container:b")}, "cannot attach both user-defined and non-user-defined"),
        ({"network_alias": ("x",)}, "aliases are only supported for user-defined networks"),
        ({"network": ("host",), "network_alias": ("x",)}, "aliases are only supported for user-defined networks"),
        ({"network": ("name=a,ip=10.0.0.1",), "ip": "10.0.0.2"}, "both --ip and per-network IPv4 address"),
        ({"network": ("name=a,alias=x",), "network_alias": ("y",)}, "both --network-alias and per-network alias"),
    ],
)
def test_options_that_contradict_each_other(asked: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        networking({**NOTHING, **asked})


def test_pools() -> None:
    assert read_pool((), (), (), ()) == []
    assert read_pool(("10.1.0.0/24",), ("10.1.0.9",), ("10.1.0.128/25",), ("p=10.1.0.7",)) == [
        {
            "Subnet": "10.1.0.0/24",
            "Gateway": "10.1.0.9",
            "IPRange": "10.1.0.128/25",
            "AuxiliaryAddresses": {"p": "10.1.0.7"},
        }
    ]
    assert read_pool(("nonsense",), (), (), ()) == [{"Subnet": "nonsense"}]  # the engine says what is wrong


@pytest.mark.parametrize(
    ("subnets", "gateways", "ranges", "aux", "why"),
    [
        ((), ("10.1.0.1",), (), (), "every ip-range or gateway must have a corresponding subnet"),
        (("10.1.0.0/24",), ("10.2.0.1",), (), (), "no matching subnet for gateway 10.2.0.1"),
        (("10.1.0.0/24",), (), ("10.0.0.0/8",), (), "no matching subnet for range 10.0.0.0/8"),
        (("10.1.0.0/24",), (), ("10.1.0.0/16",), (), "no matching subnet for range 10.1.0.0/16"),
        (("10.1.0.0/24",), (), ("x",), (), "invalid CIDR address: x"),
        (("10.1.0.0/24",), (), (), ("a=10.2.0.1",), "no matching subnet for aux-address 10.2.0.1"),
        (("10.1.0.0/24", "10.1.0.0/25"), (), (), (), "multiple overlapping subnet configuration"),
        (("10.1.0.0/24", "10.1.0.0/24"), (), (), (), "multiple overlapping subnet configuration"),
    ],
)
def test_pools_that_do_not_fit(
    subnets: tuple[str, ...], gateways: tuple[str, ...], ranges: tuple[str, ...], aux: tuple[str, ...], why: str
) -> None:
    with pytest.raises(InvalidArgument, match=why):
        read_pool(subnets, gateways, ranges, aux)


def test_driver_options() -> None:
    assert read_driver_options(("a=b", "c=")) == {"a": "b", "c": ""}
    with pytest.raises(InvalidArgument, match="invalid key/value pair format in driver options"):
        read_driver_options(("a",))
