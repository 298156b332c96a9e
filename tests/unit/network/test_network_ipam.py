from __future__ import annotations

import sqlite3
from importlib import resources
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tare.errors import Exhausted, Forbidden, InvalidArgument
from tare.network.ipam import Taken, allocate, choose_subnet, place_subnet
from tare.network.model import AddressPool, Driver, Network, Subnet
from tare.network.records import insert_network, network_ranges
from tare.network.request import NetworkRequest, PoolRequest, check_addresses


def taken(*ranges: str) -> list[Taken]:
    return [Taken.of(IPv4Network(text), f"owner of {text}") for text in ranges]


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
    owned = [Taken.of(IPv4Network((0x0A090000 + low, size), strict=False), "x") for low, size in ranges]
    try:
        chosen = choose_subnet((AddressPool(base="10.9.0.0/16", size=22),), owned).network
    except Exhausted:
        pieces = IPv4Network("10.9.0.0/16").subnets(new_prefix=22)
        assert all(any(item.network.overlaps(piece) for item in owned) for piece in pieces)
        return
    assert not any(item.network.overlaps(chosen) for item in owned)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"subnet": "10.0.0.0"}, r"invalid subnet 10\.0\.0\.0: invalid CIDR block notation"),
        ({"subnet": "10.0.0.5/24"}, r"invalid subnet 10\.0\.0\.5/24: it should be 10\.0\.0\.0/24"),
        ({"subnet": "300.0.0.0/24"}, "invalid subnet 300.*: invalid CIDR block notation"),
        ({"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"}, r"10\.0\.1\.1: parent subnet .* doesn't contain this"),
        ({"subnet": "10.0.0.0/24", "gateway": "gate"}, "invalid gateway gate: invalid address"),
        ({"subnet": "10.0.0.0/24", "ip_range": "10.0.1.0/28"}, "doesn't contain ip-range"),
        ({"subnet": "10.0.0.0/24", "ip_range": "10.0.0.0/16"}, "CIDR block is bigger than its parent subnet"),
        ({"subnet": "10.0.0.0/24", "ip_range": "10.0.0.1/25"}, r"it should be 10\.0\.0\.0/25"),
        ({"subnet": "10.0.0.0/24", "aux_addresses": {"a": "10.1.0.1"}}, "invalid auxiliary address a: parent subnet"),
        ({"gateway": "10.0.0.1"}, "invalid subnet : invalid CIDR"),
        ({"subnet": "10.0.0.5/24", "gateway": "x"}, r"\* invalid subnet .*\n\* invalid gateway x"),
    ],
)
def test_bad_addresses_are_all_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as error:
        check_addresses(NetworkRequest(name="x", pools=[PoolRequest(**given)]))
    assert error.value.code == "bad-network-config"


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"subnet": "10.0.0.0/31"}, InvalidArgument, "no room for a gateway"),
        ({"subnet": "127.9.0.0/16"}, InvalidArgument, "not a range that containers can use"),
        (
            {"subnet": "10.0.0.0/24", "gateway": "10.0.0.255"},
            Forbidden,
            r"allocate gateway \(10\.0\.0\.255\)",
        ),
        ({"subnet": "10.0.0.0/24", "aux_addresses": {"a": "10.0.0.1"}}, Forbidden, r"secondary ip address \(a:10\.0"),
        ({"subnet": "10.0.0.0/24", "aux_addresses": {"a": "10.0.0.0"}}, Forbidden, "Address already in use"),
    ],
)
def test_subnets_that_cannot_be(given: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        place_subnet(PoolRequest(**given), [])


def test_an_overlap_names_the_owner() -> None:
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space") as error:
        place_subnet(PoolRequest(subnet="10.0.0.0/24"), taken("10.0.0.0/16"))
    assert error.value.code == "subnet-overlap"
    assert "10.0.0.0/24 overlaps 10.0.0.0/16 of owner of 10.0.0.0/16" in error.value.hint


def test_a_gateway_is_chosen_when_none_is_given() -> None:
    assert place_subnet(PoolRequest(subnet="10.0.0.0/24"), []).gateway == "10.0.0.1"
    asked = PoolRequest(subnet="10.0.0.0/24", gateway="10.0.0.9", ip_range="10.0.0.64/26")
    assert place_subnet(asked, []).gateway == "10.0.0.9"
    ranged = PoolRequest(subnet="10.0.0.0/24", ip_range="10.0.0.64/26")
    assert place_subnet(ranged, []).gateway == "10.0.0.64"


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
        ("10.0.0.7", Forbidden, "10.0.0.7 on network shop is reserved"),
        ("10.0.0.1", Forbidden, "10.0.0.1 on network shop is the gateway"),
        ("10.0.1.7", InvalidArgument, "is not in subnet"),
        ("10.0.0.0", Forbidden, "Address already in use"),
        ("x", InvalidArgument, "invalid address x"),
    ):
        with pytest.raises(kind, match=message):
            allocate(connection, network, None, wanted)


SMALL_POOLS = (AddressPool(base="10.40.0.0/24", size=29), AddressPool(base="10.41.0.0/26", size=28))


class Addresses(RuleBasedStateMachine):
    """Networks come and go in small pools, endpoints on them as well: what is given, is given once."""

    def __init__(self) -> None:
        super().__init__()
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        schema = resources.files("tare.store.schema").joinpath("0001_foundation.sql").read_text()
        self.connection.executescript(schema)
        self.connection.execute("PRAGMA foreign_keys=OFF")  # addresses stand for endpoints here
        self.networks: dict[str, Network] = {}
        self.given: dict[str, set[str]] = {}
        self.number = 0

    def teardown(self) -> None:
        self.connection.close()

    @rule()
    def add_network(self) -> None:
        self.number += 1
        try:
            subnet = choose_subnet(SMALL_POOLS, network_ranges(self.connection))
        except Exhausted:
            assert len(self.networks) == 32 + 4
            return
        name = f"n{self.number}"
        network = Network(id=f"{self.number:064x}", name=name, driver=Driver.BRIDGE, created="", subnets=(subnet,))
        insert_network(self.connection, network, float(self.number))
        self.networks[name], self.given[name] = network, set()

    @precondition(lambda self: self.networks)
    @rule(data=st.data())
    def give_address(self, data: st.DataObject) -> None:
        network = self.networks[data.draw(st.sampled_from(sorted(self.networks)))]
        whole = network.subnets[0].network
        try:
            address = allocate(self.connection, network, f"e{self.number}", None)
        except Exhausted:
            assert len(self.given[network.name]) == whole.num_addresses - 3  # two edges and the gateway
            return
        assert address not in self.given[network.name]
        assert IPv4Address(address) in whole
        assert address != network.gateway
        self.given[network.name].add(address)

    @precondition(lambda self: any(self.given.values()))
    @rule(data=st.data())
    def release_address(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(name for name, given in self.given.items() if given)))
        address = data.draw(st.sampled_from(sorted(self.given[name])))
        gone = self.connection.execute(
            "DELETE FROM addresses WHERE network=? AND address=?", (self.networks[name].id, address)
        )
        assert gone.rowcount == 1
        self.given[name].discard(address)

    @precondition(lambda self: not all(self.given.values()))
    @rule(data=st.data())
    def remove_network(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(name for name, given in self.given.items() if not given)))
        self.connection.execute("DELETE FROM networks WHERE id=?", (self.networks.pop(name).id,))
        del self.given[name]

    @invariant()
    def nothing_overlaps_and_all_is_known(self) -> None:
        spans = sorted(
            (int(pool.network.network_address), int(pool.network.broadcast_address))
            for network in self.networks.values()
            for pool in network.subnets
        )
        assert all(earlier[1] < later[0] for earlier, later in pairwise(spans))
        stored = self.connection.execute("SELECT count(*) FROM addresses").fetchone()[0]
        assert stored == sum(map(len, self.given.values()))


TestAddresses = Addresses.TestCase
TestAddresses.settings = settings(max_examples=30, stateful_step_count=60, deadline=None)


def test_the_first_gap_among_thousands_of_networks_is_chosen() -> None:
    pieces = list(IPv4Network("10.64.0.0/16").subnets(new_prefix=29))
    owned = [Taken.of(piece, "x") for number, piece in enumerate(pieces) if number != 4711]
    pool = AddressPool(base="10.64.0.0/16", size=29)
    assert choose_subnet((pool,), owned).network == pieces[4711]
    assert choose_subnet((pool,), owned[:2000]).network == pieces[2000]
    with pytest.raises(Exhausted):
        choose_subnet((pool,), [*owned, Taken.of(pieces[4711], "x")])
