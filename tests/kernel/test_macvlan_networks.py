"""Macvlan networks with real interfaces on a LAN of namespaces, and real sockets."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from network_lab import Lab, command, container, lab, move

from tare.errors import Conflict, Forbidden, InvalidArgument, NotFound, TareError, Unsupported
from tare.kernel.namespaces import create_network_namespace, remove_network_namespace, run_in_network_namespace
from tare.network import macvlan_links, netlink
from tare.network.model import Network, PortRequest

pytestmark = pytest.mark.root

_ = lab  # the fixture


@dataclass
class Lan:
    """A LAN: the engine's host is on it with ``parent`` (address .1), a machine with ``inside`` (.2, and a WAN)."""

    parent: str
    inside: Path
    network: str

    @property
    def subnet(self) -> str:
        return f"{self.network}.0/24"

    @property
    def neighbour(self) -> str:
        return f"{self.network}.2"

    @property
    def wan(self) -> str:
        return "198.51.100.7"


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    path, parent = tmp_path / "lan", f"mv{secrets.token_hex(4)}"
    network = f"10.233.{secrets.randbelow(250)}"
    create_network_namespace(path)
    try:
        command("ip", "link", "add", parent, "type", "veth", "peer", "name", f"{parent}p")
        move(f"{parent}p", path)
        command("ip", "addr", "add", f"{network}.1/24", "dev", parent)
        command("ip", "link", "set", parent, "up")
        command("ip", "addr", "add", f"{network}.2/24", "dev", f"{parent}p", inside=path)
        command("ip", "link", "set", f"{parent}p", "up", inside=path)
        command("ip", "addr", "add", "198.51.100.7/32", "dev", "lo", inside=path)
        run_in_network_namespace(path, lambda: netlink.settle(f"{parent}p"))
        netlink.settle(parent)
        yield Lan(parent, path, network)
    finally:
        subprocess.run(["ip", "link", "del", parent], check=False, capture_output=True)
        remove_network_namespace(path)


async def make(lab: Lab, lan: Lan, name: str = "home", *, mode: str = "", **options: object) -> Network:
    """A macvlan network on the LAN, whose router is the neighbour."""
    given = {"parent": lan.parent, **({"macvlan_mode": mode} if mode else {})}
    settings: dict[str, object] = {
        "subnet": lan.subnet,
        "gateway": lan.neighbour,
        "ip_range": f"{lan.network}.128/25",
        "options": given,
    }
    return await lab.service.create_network(name, driver="macvlan", **{**settings, **options})  # type: ignore[arg-type]


def routes(lab: Lab, name: str) -> list[str]:
    return command("ip", "route", inside=lab.inside(name)).splitlines()


def link(lab: Lab, name: str, interface: str = "eth0") -> str:
    return command("ip", "-d", "link", "show", "dev", interface, inside=lab.inside(name))


def has_kind(kind: str, **options: str) -> bool:
    """Whether the kernel has interfaces of this kind."""
    words = [word for pair in options.items() for word in pair]
    done = subprocess.run(["ip", "link", "add", "tarekind0", "type", kind, *words], check=False, capture_output=True)
    if done.returncode == 0:
        command("ip", "link", "del", "tarekind0")
    return done.returncode == 0


async def test_containers_are_machines_of_the_lan_and_the_host_is_apart(lab: Lab, lan: Lan) -> None:
    network = await make(lab, lan)
    assert network.macvlan is not None
    assert (network.macvlan.parent, network.macvlan.mode, network.macvlan.made) == (lan.parent, "bridge", False)
    table = command("nft", "list", "table", "inet", lab.table)
    login, logout = await lab.run("login", "home"), await lab.run("logout", "home")
    await asyncio.to_thread(run_in_network_namespace, lan.inside, lambda: lab.serve(8000))

    assert login == f"{lan.network}.128"
    assert await lab.reach(lab.inside("logout"), login) == logout
    assert await lab.reach(lan.inside, login) == lan.neighbour
    assert await lab.reach(lab.inside("login"), lan.neighbour, 8000) == login
    assert await lab.reach(lab.inside("login"), lan.wan, 8000) == login  # through the LAN's router, without NAT

    lab.serve(21351, f"{lan.network}.1")
    assert await lab.reach(lan.inside, f"{lan.network}.1", 21351) == lan.neighbour
    assert await lab.reach(lab.inside("login"), f"{lan.network}.1", 21351) == "-"  # the kernel's rule for macvlan
    assert await lab.reach(None, login) == "-"

    assert f"default via {lan.neighbour} dev eth0" in routes(lab, "login")[0]
    assert "macvlan mode bridge" in link(lab, "login")
    assert "02:42:0a:e9" in link(lab, "login")
    assert command("nft", "list", "table", "inet", lab.table) == table  # the bridges' firewall has no part in this


async def test_modes_keep_containers_apart_as_the_kernel_does(lab: Lab, lan: Lan) -> None:
    for mode in ("private", "vepa"):
        await make(lab, lan, mode, mode=mode)
        login, _logout = await lab.run("login", mode), await lab.run("logout", mode, port=0)
        assert await lab.reach(lab.inside("logout"), login) == "-"
        assert await lab.reach(lan.inside, login) == lan.neighbour
        for name in ("login", "logout"):
            await lab.service.detach(container(name), mode)
        await lab.service.remove_network(mode)


async def test_passthru_has_the_parent_for_itself(lab: Lab, lan: Lan) -> None:
    network = await make(lab, lan, mode="passthru")
    with pytest.raises(
        Conflict, match=f"macvlan network {network.id} is already using parent interface {lan.parent} in"
    ):
        await make(lab, lan, "other", subnet="10.234.0.0/24", gateway=None, ip_range=None)
    with pytest.raises(Conflict, match="cannot use mode passthru, macvlan network"):
        await make(lab, lan, "other", mode="passthru", subnet="10.234.0.0/24", gateway=None, ip_range=None)

    login = await lab.run("login", "home")
    assert await lab.reach(lan.inside, login) == lan.neighbour
    with pytest.raises(InvalidArgument, match="failed to create the macvlan port: invalid argument") as caught:
        await lab.run("logout", "home")
    assert caught.value.code == "macvlan-refused"
    assert [item.container_name for item in await lab.service.all_endpoints()] == ["login"]

    for _round in range(3):  # the parent is free at once for the next
        await lab.service.detach_all(container("login"))
        await lab.service.remove_sandbox(container("login"))
        await lab.run("login", "home", port=0)


async def test_an_internal_network_has_no_way_out_and_needs_no_gateway(lab: Lab, lan: Lan) -> None:
    network = await make(lab, lan, internal=True, gateway=None, ip_range=None)
    assert [(pool.gateway, pool.gateway_shown) for pool in network.subnets] == [("", False)]
    login = await lab.run("login", "home", address=f"{lan.network}.9")
    logout = await lab.run("logout", "home", address=f"{lan.network}.1", port=0)
    await asyncio.to_thread(run_in_network_namespace, lan.inside, lambda: lab.serve(8000))
    assert await lab.reach(lab.inside("logout"), login) == logout
    assert await lab.reach(lab.inside("login"), lan.wan, 8000) == "-"
    assert [line.split()[0] for line in routes(lab, "login")] == [lan.subnet]


async def test_networks_are_joined_and_left_while_running_and_ports_follow_the_route(lab: Lab, lan: Lan) -> None:
    await make(lab, lan)
    shop = await lab.service.create_network("shop")
    request = PortRequest(container_port=80, host_port=21352)
    address = await lab.run("login", "shop", ports=(request,))
    assert await lab.reach(None, "127.0.0.1", 21352) == shop.gateway

    endpoint = await lab.service.attach(
        container("login"), "login", "home", address=f"{lan.network}.77", mac="02:11:22:33:44:55", gateway_priority=1
    )
    await lab.service.republish(container("login"), [request])
    assert (endpoint.interface, endpoint.mac) == ("eth1", "02:11:22:33:44:55")
    assert "02:11:22:33:44:55" in link(lab, "login", "eth1")
    assert f"default via {lan.neighbour} dev eth1" in routes(lab, "login")[0]
    assert await lab.reach(lan.inside, f"{lan.network}.77") == lan.neighbour
    assert await lab.service.published(container("login")) == []
    assert await lab.reach(None, "127.0.0.1", 21352) == "-"
    assert await lab.reach(None, address) == shop.gateway

    await lab.service.detach(container("login"), "home")
    await lab.service.republish(container("login"), [request])
    assert await lab.reach(lan.inside, f"{lan.network}.77") == "-"
    assert f"default via {shop.gateway} dev eth0" in routes(lab, "login")[0]
    assert await lab.reach(None, "127.0.0.1", 21352) == shop.gateway

    await lab.run("logout", "home", port=0, ports=(PortRequest(container_port=80, host_port=21352),))
    assert await lab.service.published(container("logout")) == []  # no ports of the host lead there, as in Docker


async def test_names_resolve_on_macvlan_networks(lab: Lab, lan: Lan) -> None:
    await make(lab, lan)
    login = await lab.run("login", "home", port=0, aliases=("web",))
    logout = await lab.run("logout", "home", port=0, aliases=("web",))
    assert await lab.ask("login", "logout") == ("NOERROR", [logout])
    assert await lab.ask("logout", "web") == ("NOERROR", sorted([login, logout]))
    await lab.service.detach_all(container("logout"))
    assert await lab.ask("login", "web") == ("NOERROR", [login])


async def test_the_lan_learns_at_once_that_an_address_has_moved(lab: Lab, lan: Lan) -> None:
    await make(lab, lan)
    await lab.run("login", "home", address=f"{lan.network}.50", mac="02:00:00:00:00:01")
    assert await lab.reach(lan.inside, f"{lan.network}.50") == lan.neighbour
    await lab.service.detach(container("login"), "home")

    changes = subprocess.Popen(
        ["nsenter", f"--net={lan.inside}", "ip", "monitor", "neigh"], stdout=subprocess.PIPE, text=True
    )
    assert changes.stdout is not None
    try:
        killer = threading.Timer(20, changes.kill)
        killer.start()
        await lab.run("logout", "home", port=0, address=f"{lan.network}.50", mac="02:00:00:00:00:02")
        line = await asyncio.to_thread(next, (row for row in changes.stdout if "02:00:00:00:00:02" in row), "")
        assert line.startswith(f"{lan.network}.50 ")
    finally:
        killer.cancel()
        changes.kill()
        changes.wait()
        changes.stdout.close()


async def test_everything_stands_after_a_restart_and_what_is_broken_is_mended(lab: Lab, lan: Lan) -> None:
    await make(lab, lan)
    login, logout = await lab.run("login", "home"), await lab.run("logout", "home", port=0)
    await lab.service.stop(remove_kernel_state=False)
    index = link(lab, "login").split(":")[0]
    command("ip", "link", "del", "eth0", inside=lab.inside("logout"))
    lab.service = lab.again()
    await lab.service.start()
    assert link(lab, "login").split(":")[0] == index
    assert await lab.reach(lab.inside("logout"), login) == logout
    assert f"default via {lan.neighbour} dev eth0" in routes(lab, "logout")[0]
    assert await lab.ask("login", "logout") == ("NOERROR", [logout])

    command("ip", "link", "set", "eth0", "down", inside=lab.inside("logout"))  # as when a crash came in between
    await lab.service.stop(remove_kernel_state=False)
    lab.service = lab.again()
    await lab.service.start()
    assert await lab.reach(lab.inside("logout"), login) == logout


async def test_parents_that_no_network_knows_go_at_the_start_and_others_stay(lab: Lab, lan: Lan) -> None:
    ours, theirs = f"mx{secrets.token_hex(4)}", f"my{secrets.token_hex(4)}"
    try:
        for name, alias in ((ours, lab.table), (theirs, "tare-ffffff")):
            command("ip", "link", "add", name, "type", "bridge")
            command("ip", "link", "set", name, "alias", alias)
        await lab.service.stop(remove_kernel_state=False)
        lab.service = lab.again()
        await lab.service.start()
        left = command("ip", "-br", "link")
        assert ours not in left
        assert theirs in left
    finally:
        for name in (ours, theirs):
            subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)


async def test_a_parent_that_is_gone_or_taken_is_named_and_nothing_is_half_made(lab: Lab, lan: Lan) -> None:
    await make(lab, lan)
    other, bridge = f"mx{secrets.token_hex(4)}", f"my{secrets.token_hex(4)}"
    command("ip", "link", "add", other, "type", "veth", "peer", "name", f"{other}p")
    command("ip", "link", "add", bridge, "type", "bridge")
    try:
        options = {"parent": other}
        await lab.service.create_network("busy", driver="macvlan", subnet="10.234.0.0/24", options=options)
        command("ip", "link", "set", other, "master", bridge)
        with pytest.raises(Conflict, match="failed to create the macvlan port: device or resource busy"):
            await lab.run("login", "busy")
        command("ip", "link", "del", other)
        with pytest.raises(NotFound, match=f"the requested parent interface {other} was not found"):
            await lab.run("login", "busy")
    finally:
        subprocess.run(["ip", "link", "del", other], check=False, capture_output=True)
        command("ip", "link", "del", bridge)
    assert await lab.service.all_endpoints() == []
    assert await lab.db.read(lambda db: db.execute("SELECT * FROM addresses").fetchall()) == []
    assert await lab.run("login", "home", port=0) == f"{lan.network}.128"
    await lab.service.remove_network("busy")


BAD_PARENTS = {
    "nope": (InvalidArgument, "invalid subinterface vlan name nope, example formatting is eth0.10"),
    "nope.10": (NotFound, "-o parent interface was not found on the host: nope"),
    "nope.4095": (NotFound, "-o parent interface was not found on the host: nope"),
    ".10": (NotFound, "-o parent interface was not found on the host: "),
    "PARENT.x": (InvalidArgument, "unable to parse a valid vlan id from: x (ex. eth0.10 for vlan 10)"),
    "PARENT.": (InvalidArgument, "unable to parse a valid vlan id from:  (ex. eth0.10 for vlan 10)"),
    "PARENT.4095": (InvalidArgument, "vlan id must be between 1-4094, received: 4095"),
    "PARENT.0": (InvalidArgument, "vlan id must be between 1-4094, received: 0"),
    "PARENT.1.2": (InvalidArgument, "required interface name format is: name.vlan_id, ex. eth0.10 for vlan 10,"),
    "../eth0": (InvalidArgument, "required interface name format is: name.vlan_id"),
    "a b": (InvalidArgument, "invalid subinterface vlan name a b,"),
    "lo": (InvalidArgument, "loopback interface is not a valid macvlan parent link"),
}


async def test_parents_that_cannot_be_are_refused_and_leave_nothing(lab: Lab, lan: Lan) -> None:
    for parent, (kind, message) in BAD_PARENTS.items():
        with pytest.raises(TareError) as caught:
            await make(lab, lan, options={"parent": parent.replace("PARENT", lan.parent)})
        assert type(caught.value) is kind
        assert str(caught.value).startswith(message), parent
        assert caught.value.code == "macvlan-parent"
    with pytest.raises(InvalidArgument, match="requested macvlan mode 'ipvlan' is not valid, 'bridge' mode is the"):
        await make(lab, lan, mode="ipvlan")
    await make(lab, lan, "first")
    with pytest.raises(Forbidden, match="Pool overlaps"):
        await make(lab, lan, "second")
    assert [network.name for network in await lab.service.list_networks() if not network.predefined] == ["first"]
    names = [line.split()[0].split("@")[0] for line in command("ip", "-br", "link").splitlines()]
    assert [name for name in names if name.startswith(lan.parent)] == [lan.parent]
    assert await macvlan_links.made_parents(lab.table) == []


@pytest.mark.parametrize(("kind", "options"), [("vlan", "{parent}.10"), ("dummy", "")])
async def test_a_parent_that_the_engine_makes_goes_with_its_network(
    lab: Lab, lan: Lan, kind: str, options: str
) -> None:
    parent = options.format(parent=lan.parent)
    given = {"parent": parent} if parent else {}
    if not has_kind(kind, **({"link": lan.parent, "id": "10"} if kind == "vlan" else {})):
        words = f"failed to create {parent} vlan link: operation not supported" if parent else "operation not supported"
        with pytest.raises(Unsupported, match=f"^{words}.*module {'8021q' if parent else 'dummy'}"):
            await lab.service.create_network("home", driver="macvlan", subnet="10.234.7.0/24", options=given)
        assert [network.name for network in await lab.service.list_networks() if not network.predefined] == []
        return
    network = await lab.service.create_network("home", driver="macvlan", subnet="10.234.7.0/24", options=given)
    assert network.macvlan is not None
    name = network.macvlan.parent
    assert name == (parent or f"dm-{network.id[:12]}")
    assert network.macvlan.made
    assert await macvlan_links.made_parents(lab.table) == [name]
    login, logout = await lab.run("login", "home"), await lab.run("logout", "home", port=0)
    assert await lab.reach(lab.inside("logout"), login) == logout

    command("ip", "link", "del", name)  # as after a reboot of the host
    await lab.service.stop(remove_kernel_state=False)
    lab.service = lab.again()
    await lab.service.start()
    assert await lab.reach(lab.inside("logout"), login) == logout
    for one in ("login", "logout"):
        await lab.service.detach(container(one), "home")
    if parent:  # it passes to another network that is on it
        options_ = {"parent": parent}
        await lab.service.create_network("second", driver="macvlan", subnet="10.234.8.0/24", options=options_)
        await lab.service.remove_network("home")
        assert await macvlan_links.made_parents(lab.table) == [name]
        await lab.service.remove_network("second")
    else:
        await lab.service.remove_network("home")
    assert name not in command("ip", "-br", "link")


async def test_a_subnet_of_its_own_choice_keeps_clear_of_the_host(lab: Lab, lan: Lan) -> None:
    network = await lab.service.create_network("home", driver="macvlan", options={"parent": lan.parent})
    assert network.subnets[0].subnet.startswith(lab.pool)
    assert network.gateway == network.subnets[0].subnet.replace(".0/24", ".1")
    assert not network.subnet_given
