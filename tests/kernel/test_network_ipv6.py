"""Networks of both families, and of IPv6 alone: addresses, routes, isolation, names, with real packets."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from network_lab import Lab, command, container, lab, move, neighbour  # noqa: F401 - lab is a fixture

from tare.errors import Exhausted, Forbidden, InvalidArgument
from tare.kernel.namespaces import create_network_namespace, remove_network_namespace, run_in_network_namespace
from tare.network import netlink
from tare.network.model import AddressPool
from tare.network.request import PoolRequest
from tare.network.service import NetworkService

pytestmark = pytest.mark.root

ROUTER, HOST = "fe80::1", "fe80::2"


@pytest.fixture(name="dual")
async def dual_lab(lab: Lab) -> Lab:  # noqa: F811
    """A lab whose pools of IPv6 are its own, so that engines of tests that run at the same time keep apart."""
    pools = (*lab.settings.default_address_pools, AddressPool(base=f"{prefix(lab)}::/48", size=64))
    lab.settings = msgspec.structs.replace(lab.settings, default_address_pools=pools)
    lab.service = await restarted(lab)
    return lab


async def restarted(dual: Lab) -> NetworkService:
    await dual.service.stop(remove_kernel_state=False)
    again = dual.again()
    await again.start()
    return again


def prefix(dual: Lab) -> str:
    """The first 48 bits of the lab's addresses: the engine's six hex digits are in them."""
    return canonical(f"fd5a:{dual.instance[:4]}:{dual.instance[4:]}00")


def canonical(prefix48: str) -> str:
    """Three groups of an address as they are written: without leading zeros."""
    return ":".join(f"{int(group, 16):x}" for group in prefix48.split(":"))


async def run6(dual: Lab, name: str, network: str, **options: Any) -> str:
    """A container that serves port 80 over IPv6; its address."""
    await dual.service.create_sandbox(container(name))
    endpoint = await dual.service.attach(container(name), name, network, **options)
    dual.links.append(endpoint.host_interface)
    await asyncio.to_thread(run_in_network_namespace, dual.inside(name), lambda: dual.serve(80, "::"))
    return endpoint.address6


async def reach(source: Path | None, address: str, port: int = 80, *, seconds: float = 5.0) -> str:
    """What the server at the address says, from a namespace or the host; ``"-"`` when there is no answer in time.

    A neighbour whose question got lost, because the asked one was just about to listen, is asked again after a second.
    """

    def dial() -> str:
        try:
            with socket.create_connection((address, port), timeout=seconds) as connection:
                return connection.recv(100).decode()
        except OSError:
            return "-"

    if source is None:
        return await asyncio.to_thread(dial)
    return await asyncio.to_thread(run_in_network_namespace, source, dial)


async def dropped(source: Path | None, address: str, port: int = 80) -> bool:
    """Whether a connection is not answered."""
    return await reach(source, address, port, seconds=0.5) == "-"


def routes(path: Path) -> list[str]:
    """The gateways of a namespace's default routes, IPv4 first."""
    found = []
    for family in ("-4", "-6"):
        shown = json.loads(command("ip", "-j", family, "route", "show", "default", inside=path) or "[]")
        found += [route["gateway"] for route in shown]
    return found


@contextmanager
def neighbour6(dual: Lab, number: int) -> Iterator[tuple[Path, str, str]]:
    """A machine on a LAN with the host, over IPv6: its namespace, the host's address there and its own."""
    with neighbour(dual.root, f"10.233.{number}") as (path, _):
        inner = command("ip", "-br", "link", inside=path).splitlines()[1].split("@")[0].split()[0]
        outer = inner.removesuffix("p")
        net = canonical(f"fd5b:{dual.instance[:4]}:{dual.instance[4:]}{number:02x}")
        command("ip", "addr", "add", f"{net}::1/64", "dev", outer, "nodad")
        command("ip", "addr", "add", f"{net}::2/64", "dev", inner, "nodad", inside=path)
        yield path, f"{net}::1", f"{net}::2"


async def test_containers_of_one_network_reach_each_other_and_others_do_not(dual: Lab) -> None:
    shop = await dual.service.create_network("shop", ipv6=True)
    bank = await dual.service.create_network("bank", ipv6=True)
    assert (shop.pool6.subnet, bank.pool6.subnet) == (f"{prefix(dual)}::/64", f"{prefix(dual)}:1::/64")  # type: ignore[union-attr]
    login = await run6(dual, "login", "shop")
    logout = await run6(dual, "logout", "shop")
    payment = await run6(dual, "payment", "bank")
    assert login == f"{prefix(dual)}::2"

    assert await reach(dual.inside("login"), logout) == login
    assert await reach(dual.inside("logout"), login) == logout
    assert await dropped(dual.inside("login"), payment)
    assert await dropped(dual.inside("payment"), login)
    assert await reach(None, payment) == bank.gateway6  # the host reaches its containers

    for gateway in (shop.gateway6, bank.gateway6):
        dual.serve(47521, gateway)
    assert await reach(dual.inside("payment"), bank.gateway6, 47521) == payment
    assert await dropped(dual.inside("payment"), shop.gateway6, 47521)
    assert routes(dual.inside("login")) == [shop.gateway, shop.gateway6]


async def test_an_address_is_of_use_at_once(dual: Lab) -> None:
    await dual.service.create_network("shop", ipv6=True)
    await run6(dual, "login", "shop")
    shown = json.loads(command("ip", "-j", "-6", "addr", "show", "dev", "eth0", inside=dual.inside("login")))
    addresses = {item["scope"]: item for item in shown[0]["addr_info"]}
    assert sorted(addresses) == ["global", "link"]
    assert not any(item.get("tentative") for item in addresses.values())
    names = ("accept_dad", "accept_ra", "disable_ipv6")
    settings = [Path("/proc/sys/net/ipv6/conf/eth0", name) for name in names]
    read = await asyncio.to_thread(
        run_in_network_namespace, dual.inside("login"), lambda: [path.read_text().strip() for path in settings]
    )
    assert read == ["0", "0", "0"]

    await dual.service.create_network("old")
    await dual.run("payment", "old", port=0)
    assert "inet6" not in command("ip", "addr", "show", "dev", "eth0", inside=dual.inside("payment"))


async def test_a_network_of_ipv6_alone(dual: Lab) -> None:
    alone = await dual.service.create_network("alone", ipv4=False, ipv6=True)
    assert (alone.pool4, alone.gateway) == (None, "")
    login = await run6(dual, "login", "alone")
    logout = await run6(dual, "logout", "alone")
    endpoint = (await dual.service.endpoints_of_container(container("login")))[0]
    assert (endpoint.address, endpoint.prefix_len, endpoint.gateway) == ("", 0, "")
    assert (endpoint.address6, endpoint.prefix_len6, endpoint.gateway6) == (login, 64, alone.gateway6)
    assert await reach(dual.inside("logout"), login) == logout
    assert "inet " not in command("ip", "addr", "show", "dev", "eth0", inside=dual.inside("login"))
    assert await dual.ask("logout", "login", "AAAA") == ("NOERROR", [login])
    assert await dual.ask("logout", "login") == ("NOERROR", [])
    assert f"{login}\thost1\n" in await dual.service.hosts_file(container("login"), hostname="host1")
    assert "127.0.0.11" in await dual.service.resolv_conf(container("login"))


async def test_outside_is_reached_through_nat_and_nothing_comes_in(dual: Lab) -> None:
    shop = await dual.service.create_network("shop", ipv6=True)
    inner = await dual.service.create_network("inner", ipv6=True, internal=True)
    login = await run6(dual, "login", "shop")
    await run6(dual, "payment", "inner")
    extra = await run6(dual, "extra", "inner")
    with neighbour6(dual, 1) as (wan, host, there):
        await asyncio.to_thread(run_in_network_namespace, wan, lambda: dual.serve(8000, "::"))
        assert await reach(dual.inside("login"), there, 8000) == host  # masqueraded
        assert await dropped(dual.inside("payment"), there, 8000)
        command("ip", "-6", "route", "add", "default", "via", inner.gateway6, inside=dual.inside("payment"))
        assert await dropped(dual.inside("payment"), there, 8000)
        dual.serve(47541, "::")
        assert await dropped(dual.inside("payment"), inner.gateway6, 47541)
        assert await reach(dual.inside("login"), shop.gateway6, 47541) == login
        assert await reach(dual.inside("payment"), extra) != "-"
        assert await reach(None, extra) == inner.gateway6  # neighbours are found from the host's side, too

        command("ip", "-6", "route", "add", f"{prefix(dual)}::/48", "via", host, inside=wan)
        assert await dropped(wan, login)  # not by routing to the container
        assert await dropped(wan, extra)


async def test_icc_off_keeps_neighbours_apart(dual: Lab) -> None:
    options = {"com.docker.network.bridge.enable_icc": "false"}
    quiet = await dual.service.create_network("quiet", ipv6=True, options=options)
    login = await run6(dual, "login", "quiet")
    await run6(dual, "logout", "quiet")
    assert await dropped(dual.inside("logout"), login)
    dual.serve(47542, quiet.gateway6)
    assert await reach(dual.inside("logout"), quiet.gateway6, 47542) != "-"


async def test_each_family_has_a_default_route_of_its_own(dual: Lab) -> None:
    made = {
        name: await dual.service.create_network(name, ipv4=four, ipv6=six)
        for name, four, six in (("a4", True, False), ("b6", False, True), ("c46", True, True), ("d46", True, True))
    }
    path = dual.inside("login")
    await dual.run("login", "a4", port=0)
    assert routes(path) == [made["a4"].gateway]
    await dual.service.attach(container("login"), "login", "b6")
    assert routes(path) == [made["a4"].gateway, made["b6"].gateway6]
    await dual.service.attach(container("login"), "login", "d46")  # both families before one of them
    assert routes(path) == [made["d46"].gateway, made["d46"].gateway6]
    await dual.service.attach(container("login"), "login", "c46")  # then the name
    assert routes(path) == [made["c46"].gateway, made["c46"].gateway6]
    assert await marked(dual) == (["c46"], ["c46"])

    await dual.service.detach(container("login"), "c46")
    assert routes(path) == [made["d46"].gateway, made["d46"].gateway6]
    await dual.service.detach(container("login"), "d46")
    assert routes(path) == [made["a4"].gateway, made["b6"].gateway6]
    assert await marked(dual) == (["a4"], ["b6"])
    await dual.service.detach(container("login"), "b6")
    assert routes(path) == [made["a4"].gateway]


async def marked(dual: Lab) -> tuple[list[str], list[str]]:
    """The networks that the database says the routes of each family lead through."""
    mine = await dual.service.endpoints_of_container(container("login"))
    return (
        [item.network_name for item in mine if item.gateway and item.default_route],
        [item.network_name for item in mine if item.gateway6 and item.default_route6],
    )


async def test_priority_decides_for_both_families(dual: Lab) -> None:
    first = await dual.service.create_network("first", ipv6=True)
    await dual.service.create_network("alone", ipv4=False, ipv6=True)
    await dual.run("login", "first", port=0)
    await dual.service.attach(container("login"), "login", "alone", gateway_priority=5)
    alone = await dual.service.get_network("alone")
    assert routes(dual.inside("login")) == [first.gateway, alone.gateway6]


async def test_names_have_addresses_of_both_families(dual: Lab) -> None:
    await dual.service.create_network("shop", ipv6=True)
    login = await run6(dual, "login", "shop", aliases=("web",))
    logout = await run6(dual, "logout", "shop", aliases=("web",))
    four = {item.container_name: item.address for item in await dual.service.all_endpoints()}
    assert await dual.ask("logout", "login", "AAAA") == ("NOERROR", [login])
    assert await dual.ask("logout", "login") == ("NOERROR", [four["login"]])
    assert await dual.ask("login", "web", "AAAA") == ("NOERROR", sorted([login, logout]))
    reverse = IPv6Address(login).reverse_pointer
    assert await dual.ask("logout", reverse, "PTR") == ("NOERROR", ["login.shop."])
    hosts = (await dual.service.hosts_file(container("login"), hostname="host1")).splitlines()
    assert hosts[-2:] == [f"{four['login']}\thost1", f"{login}\thost1"]

    await dual.service.detach(container("login"), "shop")
    assert (await dual.ask("logout", "login", "AAAA"))[1] == []


async def test_addresses_that_are_asked_for(dual: Lab) -> None:
    base = f"{prefix(dual)}:77"
    pools = (
        PoolRequest(subnet=f"{dual.pool}.77.0/24", gateway=f"{dual.pool}.77.9"),
        PoolRequest(subnet=f"{base}::/64", ip_range=f"{base}::a0/126", aux_addresses={"printer": f"{base}::a2"}),
    )
    shop = await dual.service.create_network("shop", ipv6=True, pools=pools)
    assert (shop.gateway, shop.gateway6) == (f"{dual.pool}.77.9", f"{base}::a0")
    assert (shop.subnet_given, shop.subnet6_given) == (True, True)
    assert await run6(dual, "login", "shop", address6=f"{base.upper()}::FFFF") == f"{base}::ffff"
    assert await run6(dual, "logout", "shop") == f"{base}::a1"
    assert await run6(dual, "payment", "shop") == f"{base}::a3"  # a2 is the printer's; IPv6 has no broadcast

    await dual.service.create_sandbox(container("extra"))
    with pytest.raises(Exhausted, match="no available IPv6 addresses on network shop"):
        await dual.service.attach(container("extra"), "extra", "shop")
    for address, reason in ((f"{base}::a0", "is the gateway"), (f"{base}::a1", "belongs to container logout")):
        with pytest.raises(Forbidden, match="Address already in use") as refused:
            await dual.service.attach(container("extra"), "extra", "shop", address6=address)
        assert reason in refused.value.hint
    # nothing of these attempts is left: neither the endpoint nor the address of the other family
    assert await dual.service.endpoints_of_container(container("extra")) == []
    await dual.service.attach(container("extra"), "extra", "shop", address=f"{dual.pool}.77.4", address6=f"{base}::4")

    await dual.service.detach(container("login"), "shop")
    await dual.service.detach(container("extra"), "shop")
    again = await dual.service.attach(container("extra"), "extra", "shop", address6=f"{base}::ffff")
    assert (again.address, again.address6) == (f"{dual.pool}.77.1", f"{base}::ffff")


async def test_overlaps_name_what_is_in_the_way(dual: Lab) -> None:
    base = prefix(dual)
    await dual.service.create_network("shop", ipv6=True, pools=[PoolRequest(subnet=f"{base}:10::/64")])
    for subnet, owner in ((f"{base}:10::/80", "of network shop"), (f"{base}::/56", "of network shop")):
        with pytest.raises(Forbidden, match="Pool overlaps") as refused:
            await dual.service.create_network("other", ipv6=True, pools=[PoolRequest(subnet=subnet)])
        assert owner in refused.value.hint
    with neighbour6(dual, 2) as (_, host, there):
        lan = IPv6Network(f"{host}/64", strict=False)
        command("ip", "-6", "route", "add", f"{base}:4000::/52", "via", there)
        command("ip", "-6", "route", "add", "unreachable", f"{base}:8000::/52")  # a prefix that was delegated
        try:
            for subnet in (f"{lan}", f"{base}:4001::/64"):
                with pytest.raises(Forbidden, match="Pool overlaps") as refused:
                    await dual.service.create_network("other", ipv6=True, pools=[PoolRequest(subnet=subnet)])
                assert refused.value.code == "subnet-overlap"
            assert "the host's route via nb" in refused.value.hint
            await dual.service.create_network("other", ipv6=True, pools=[PoolRequest(subnet=f"{base}:8001::/64")])
        finally:
            command("ip", "-6", "route", "del", "unreachable", f"{base}:8000::/52")
    assert [network.name for network in await dual.service.list_networks()][3:] == ["shop", "other"]


@pytest.mark.parametrize(
    ("subnet", "message"),
    [
        ("ff05::/64", r"multicast subnet 'ff05::1/64' is not allowed"),
        ("fe80::/64", "not a range that containers can use"),
        ("::/64", "not a range that containers can use"),
        ("::ffff:10.9.0.0/112", "not a range that containers can use"),
        ("fd5a:1::/127", "no room for a gateway and a container"),
    ],
)
async def test_subnets_that_containers_cannot_use(dual: Lab, subnet: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as refused:
        await dual.service.create_network("shop", ipv6=True, pools=[PoolRequest(subnet=subnet)])
    assert refused.value.code == "bad-subnet"
    assert [network.name for network in await dual.service.list_networks()] == ["bridge", "host", "none"]


async def test_a_small_mtu_leaves_no_room_for_ipv6(dual: Lab) -> None:
    options = {"com.docker.network.driver.mtu": "1279"}
    with pytest.raises(InvalidArgument, match="MTU 1279 is too small for IPv6"):
        await dual.service.create_network("shop", ipv6=True, options=options)
    assert await dual.service.create_network("shop", options=options)


async def test_a_new_engine_brings_back_what_is_missing(dual: Lab) -> None:
    shop = await dual.service.create_network("shop", ipv6=True)
    login, logout = await run6(dual, "login", "shop"), await run6(dual, "logout", "shop")
    command("ip", "link", "del", shop.bridge_name)
    command("nft", "delete", "table", "inet", dual.table)
    dual.service = await restarted(dual)
    assert await reach(dual.inside("logout"), login) == logout
    assert await reach(None, login) == shop.gateway6
    assert routes(dual.inside("login")) == [shop.gateway, shop.gateway6]

    await dual.service.detach_all(container("login"))
    await dual.service.detach_all(container("logout"))
    await dual.service.remove_network("shop")
    assert prefix(dual) not in command("nft", "list", "table", "inet", dual.table)
    assert prefix(dual) not in command("ip", "-6", "route")


async def test_the_default_network_has_ipv6_where_it_is_configured(dual: Lab) -> None:
    assert (await dual.service.get_network("bridge")).pool6 is None
    dual.settings = msgspec.structs.replace(dual.settings, ipv6=True, default_subnet6=f"{prefix(dual)}:99::/64")
    dual.service = await restarted(dual)
    bridge = await dual.service.get_network("bridge")
    assert (bridge.ipv6, bridge.gateway6) == (True, f"{prefix(dual)}:99::1")
    assert await run6(dual, "login", "bridge") == f"{prefix(dual)}:99::2"
    async with dual.service.build_sandbox("step") as path:
        assert await reach(path, f"{prefix(dual)}:99::2") == f"{prefix(dual)}:99::3"

    dual.settings = msgspec.structs.replace(dual.settings, ipv6=False, default_subnet6="")
    dual.service = await restarted(dual)  # a container is on it: it stays as it is
    assert (await dual.service.get_network("bridge")).ipv6
    await dual.service.detach_all(container("login"))
    dual.service = await restarted(dual)
    bridge = await dual.service.get_network("bridge")
    assert (bridge.ipv6, bridge.pool6) == (False, None)
    assert prefix(dual) not in command("ip", "-6", "addr", "show", "dev", bridge.bridge_name)


async def test_a_container_without_ipv6_gets_no_address_of_it(dual: Lab) -> None:
    await dual.service.create_network("shop", ipv6=True)
    await dual.service.create_network("alone", ipv4=False, ipv6=True)
    assert await run6(dual, "login", "shop", ipv6=False) == ""
    assert "inet6" not in command("ip", "addr", "show", "dev", "eth0", inside=dual.inside("login"))
    with pytest.raises(InvalidArgument, match="has only IPv6, which the container has switched off"):
        await dual.service.attach(container("login"), "login", "alone", ipv6=False)
    assert len(await dual.service.endpoints_of_container(container("login"))) == 1


async def test_link_local_addresses(dual: Lab) -> None:
    await dual.service.create_network("shop", ipv6=True)
    await run6(dual, "login", "shop", link_local=("fe80::99", "169.254.9.9"))
    await run6(dual, "logout", "shop")
    assert await reach(dual.inside("logout"), "fe80::99%eth0") != "-"
    await dual.service.create_network("bank", ipv6=True)
    for network, address, fix in (("bank", "fd99::9", "it must be in 169"), ("bridge", "fe80::9", "has no IPv6 on")):
        with pytest.raises(InvalidArgument, match=f"invalid link local IP address: {address}") as refused:
            await dual.service.attach(container("login"), "login", network, link_local=(address,))
        assert fix in refused.value.hint


def advertisement() -> bytes:
    """A router's advertisement with a lifetime of half an hour and no prefix (RFC 4861, section 4.2)."""
    return struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)


def test_a_host_that_gets_its_route_by_advertisement_keeps_it(tmp_path: Path) -> None:
    host, router = tmp_path / "host", tmp_path / "router"
    for path in (host, router):
        create_network_namespace(path)
    try:
        command("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "lan", inside=host)
        move_between(host, "lan", router)
        for path, name, address in ((host, "uplink", HOST), (router, "lan", ROUTER)):
            prepare_link(path, name, address)
        run_in_network_namespace(host, lambda: netlink.settle("uplink"))
        run_in_network_namespace(router, lambda: netlink.settle("lan"))

        def advertise() -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
                raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
                raw.sendto(advertisement(), ("ff02::1", 0, 0, socket.if_nametoindex("lan")))

        run_in_network_namespace(router, advertise)
        assert routes(host) == [ROUTER]
        assert run_in_network_namespace(host, netlink._enable_forwarding6) == (True, ["uplink"])
        assert routes(host) == [ROUTER]
        forwarding = Path("/proc/sys/net/ipv6/conf/all/forwarding")
        assert run_in_network_namespace(host, forwarding.read_text) == "1\n"
        assert run_in_network_namespace(host, netlink._enable_forwarding6) == (False, [])
    finally:
        for path in (host, router):
            remove_network_namespace(path)


def prepare_link(path: Path, name: str, address: str) -> None:
    def settings() -> None:
        conf = Path("/proc/sys/net/ipv6/conf", name)
        (conf / "addr_gen_mode").write_text("1")  # no address of its own making, which would be tentative
        (conf / "accept_ra").write_text("1")

    run_in_network_namespace(path, settings)
    command("ip", "addr", "add", f"{address}/64", "dev", name, "nodad", inside=path)
    command("ip", "link", "set", name, "up", inside=path)


def move_between(source: Path, interface: str, target: Path) -> None:
    run_in_network_namespace(source, lambda: move(interface, target))


def test_without_ipv6_in_the_kernel_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "_IPV6", tmp_path)  # as with ipv6.disable=1, which no test can boot with
    with pytest.raises(netlink.Unsupported, match="the kernel has no IPv6"):
        netlink._enable_forwarding6()
