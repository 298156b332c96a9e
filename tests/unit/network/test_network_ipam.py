from __future__ import annotations

import sqlite3
from importlib import resources
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.errors import Conflict, Exhausted, Forbidden, InvalidArgument
from tare.network.ipam import Taken, allocate, choose_subnet, validate_subnet
from tare.network.model import AddressPool, Driver, Network, Subnet
from tare.network.records import insert_network


def taken(*ranges: str) -> list[Taken]:
    return [Taken(IPv4Network(text), f"owner of {text}") for text in ranges]


def test_the_first_free_piece_is_chosen_across_pools() -> None:
    pools = (AddressPool(base="172.17.0.0/16", size=16), AddressPool(base="172.18.0.0/15", size=16))
    assert choose_subnet(pools, []).subnet == "172.17.0.0/16"
    assert choose_subnet(pools, taken("172.17.3.0/24")) == Subnet(subnet="172.18.0.0/16", gateway="172.18.0.1")
    assert choose_subnet(pools, taken("172.16.0.0/15", "172.18.0.0/16")).subnet == "172.19.0.0/16"


def test_exhausted_pools_name_a_range_in_the_way() -> None:
    with pytest.raises(Exhausted, match=r"fully subnetted; the last piece overlaps 10\.0\.0\.0/8 of owner of"):
        choose_subnet((AddressPool(base="10.1.0.0/16", size=24),), taken("10.0.0.0/8"))


@given(st.lists(st.tuples(st.integers(0, 2**16 - 1), st.integers(20, 32)), max_size=20))
def test_a_chosen_piece_never_overlaps(ranges: list[tuple[int, int]]) -> None:
    owned = [Taken(IPv4Network((0x0A090000 + low, size), strict=False), "x") for low, size in ranges]
    try:
        chosen = choose_subnet((AddressPool(base="10.9.0.0/16", size=22),), owned).network
    except Exhausted:
        pieces = IPv4Network("10.9.0.0/16").subnets(new_prefix=22)
        assert all(any(item.network.overlaps(piece) for item in owned) for piece in pieces)
        return
    assert not any(item.network.overlaps(chosen) for item in owned)


@pytest.mark.parametrize(
    ("subnet", "gateway", "ip_range", "message"),
    [
        ("10.0.0.0", None, None, "no prefix length"),
        ("10.0.0.5/24", None, None, r"it should be 10\.0\.0\.0/24"),
        ("300.0.0.0/24", None, None, "invalid subnet 300"),
        ("fd00::/64", None, None, "invalid subnet fd00"),
        ("10.0.0.0/31", None, None, "no room for a gateway"),
        ("127.9.0.0/16", None, None, "not a range that containers can use"),
        ("10.0.0.0/24", "10.0.1.1", None, r"gateway 10\.0\.1\.1 is not in subnet"),
        ("10.0.0.0/24", "10.0.0.255", None, "network or broadcast address"),
        ("10.0.0.0/24", "gate", None, "invalid gateway gate"),
        ("10.0.0.0/24", None, "10.0.1.0/28", "no matching subnet for range"),
    ],
)
def test_bad_requests(subnet: str, gateway: str | None, ip_range: str | None, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        validate_subnet(subnet, gateway, ip_range, [])


def test_an_overlap_names_the_owner() -> None:
    with pytest.raises(Forbidden, match=r"10\.0\.0\.0/24 overlaps 10\.0\.0\.0/16 of owner") as error:
        validate_subnet("10.0.0.0/24", None, None, taken("10.0.0.0/16"))
    assert error.value.code == "subnet-overlap"


def test_a_gateway_is_chosen_when_none_is_given() -> None:
    assert validate_subnet("10.0.0.0/24", None, None, []).gateway == "10.0.0.1"
    assert validate_subnet("10.0.0.0/24", "10.0.0.9", "10.0.0.64/26", []).gateway == "10.0.0.9"


@pytest.fixture
def connection() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.executescript(resources.files("tare.store.schema").joinpath("0001_foundation.sql").read_text())
    return made


def make_network(connection: sqlite3.Connection, subnet: str, ip_range: str = "") -> Network:
    gateway = str(IPv4Network(subnet).network_address + 1)
    pool = Subnet(subnet=subnet, gateway=gateway, ip_range=ip_range)
    network = Network(id="a" * 64, name="shop", driver=Driver.BRIDGE, created="", subnets=(pool,))
    insert_network(connection, network, 0.0)
    return network


def test_addresses_are_given_once_and_again_after_release(connection: sqlite3.Connection) -> None:
    network = make_network(connection, "10.0.0.0/29")
    given_out = [allocate(connection, network, None, None) for _ in range(5)]
    assert given_out == [f"10.0.0.{number}" for number in range(2, 7)]
    with pytest.raises(Exhausted, match="no available IPv4 addresses on network shop"):
        allocate(connection, network, None, None)
    connection.execute("DELETE FROM addresses WHERE address='10.0.0.4'")
    assert allocate(connection, network, None, None) == "10.0.0.4"


def test_a_wanted_address_is_checked(connection: sqlite3.Connection) -> None:
    network = make_network(connection, "10.0.0.0/24", "10.0.0.128/30")
    assert allocate(connection, network, None, "10.0.0.7") == "10.0.0.7"
    assert allocate(connection, network, None, None) == "10.0.0.128"
    for wanted, kind, message in (
        ("10.0.0.7", Conflict, "already in use on network shop"),
        ("10.0.0.1", Conflict, "already in use"),
        ("10.0.1.7", InvalidArgument, "is not in subnet"),
        ("10.0.0.0", InvalidArgument, "network or broadcast"),
        ("x", InvalidArgument, "invalid address x"),
    ):
        with pytest.raises(kind, match=message):
            allocate(connection, network, None, wanted)
