"""Bridges, isolation, published ports and names with real interfaces, a real table and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from dnslib import QTYPE, RR, A, DNSRecord
from network_lab import Lab, command, container, lab, neighbour

from tare.errors import Conflict, Exhausted, Forbidden, InvalidArgument, NotFound
from tare.kernel.namespaces import (
    create_network_namespace,
    is_network_namespace,
    remove_network_namespace,
    run_in_network_namespace,
)
from tare.network import netlink
from tare.network.model import Network, PortRequest
from tare.network.service import NetworkService

pytestmark = pytest.mark.root

_ = lab  # the fixture


async def test_login_and_logout_reach_each_other_and_payment_is_apart(lab: Lab) -> None:
    shop, bank = await lab.service.create_network("shop"), await lab.service.create_network("bank")
    login = await lab.run("login", "shop")
    logout = await lab.run("logout", "shop")
    payment = await lab.run("payment", "bank")

    assert await lab.reach(lab.inside("login"), logout) == login
    assert await lab.reach(lab.inside("logout"), login) == logout
    assert await lab.reach(lab.inside("login"), payment) == "-"
    assert await lab.reach(lab.inside("payment"), login) == "-"
    assert await lab.reach(None, payment) == bank.gateway  # the host reaches its containers

    for gateway in (shop.gateway, bank.gateway):
        lab.serve(47321, gateway)
    assert await lab.reach(lab.inside("payment"), bank.gateway, 47321) == payment
    assert await lab.reach(lab.inside("payment"), shop.gateway, 47321) == "-"


async def test_a_bridge_keeps_its_mac_address_whoever_comes_and_goes(lab: Lab) -> None:
    """Else a container that stays sends to an address that is gone, until its neighbour entry times out."""
    shop = await lab.service.create_network("shop")
    address = Path("/sys/class/net", shop.bridge_name, "address")
    before = address.read_text()
    await lab.run("login", "shop")
    command("ip", "link", "set", lab.links[-1], "address", "02:00:00:00:00:01")  # as low as can be
    await lab.run("logout", "shop")
    assert address.read_text() == before
    lab.serve(47321, shop.gateway)
    assert await lab.reach(lab.inside("logout"), shop.gateway, 47321) != "-"
    await lab.service.detach(container("login"), "shop")
    assert address.read_text() == before
    assert await lab.reach(lab.inside("logout"), shop.gateway, 47321) != "-"


async def test_a_published_port_is_reached_from_everywhere_it_should_be(lab: Lab) -> None:
    await lab.service.create_network("shop")
    await lab.service.create_network("bank")
    requests = (
        PortRequest(container_port=80, host_port=47331),
        PortRequest(container_port=80, host_port=47332, host_address="127.0.0.1"),
        PortRequest(container_port=80),
    )
    address = await lab.run("login", "shop", ports=requests)
    logout = await lab.run("logout", "shop")
    payment = await lab.run("payment", "bank")
    published = await lab.service.published(container("login"))
    chosen = next(port.host_port for port in published if port.host_port not in {47331, 47332})
    assert 32768 <= chosen <= 60999

    gateway = (await lab.service.get_network("shop")).gateway
    for port in (47331, 47332, chosen):
        assert await lab.reach(None, "127.0.0.1", port) == gateway
    with neighbour(lab.root, "10.232.1") as (lan, host):
        assert await lab.reach(None, host, 47331) == host
        assert await lab.reach(lan, host, 47331) == "10.232.1.2"  # the client's address is kept
        assert await lab.reach(lan, host, 47332) == "-"
        assert await lab.reach(lab.inside("logout"), host, 47331) == gateway  # hairpin
        assert await lab.reach(lab.inside("login"), host, 47331) == gateway
        assert await lab.reach(lab.inside("payment"), host, 47331) == payment  # as everybody who reaches the host
        command("ip", "route", "add", f"{lab.pool}.0.0/16", "via", host, inside=lan)
        assert await lab.reach(lan, address) == "-"  # only published ports, not by routing to the container
        assert await lab.reach(lan, logout) == "-"
        command("ip", "addr", "del", "127.0.0.1/8", "dev", "lo", inside=lan)
        command("ip", "route", "add", "127.0.0.1", "via", host, inside=lan)
        assert await lab.reach(lan, "127.0.0.1", 47332) == "-"

    await lab.service.detach(container("login"), "shop")
    assert await lab.reach(None, "127.0.0.1", 47331) == "-"
    assert await lab.service.published(container("login")) == []


async def test_udp_clients_follow_the_published_port_and_not_the_address(lab: Lab) -> None:
    """The kernel goes on with what it knows of a client: another container would get what is sent to the one before."""
    await lab.service.create_network("shop")
    published = (PortRequest(container_port=80, host_port=47341, protocol="udp"),)

    def datagrams(address: tuple[str, int] | None = None) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        lab.sockets.append(made)
        made.settimeout(10)
        made.connect(address) if address else made.bind(("0.0.0.0", 80))
        return made

    async def served(name: str, **options: object) -> tuple[str, socket.socket]:
        address = await lab.run(name, "shop", port=0, **options)
        return address, await asyncio.to_thread(run_in_network_namespace, lab.inside(name), datagrams)

    with neighbour(lab.root, "10.232.3") as (lan, host):
        client = await asyncio.to_thread(run_in_network_namespace, lan, lambda: datagrams((host, 47341)))
        first, login = await served("login", ports=published)
        client.send(b"to login")
        assert login.recv(100) == b"to login"
        await lab.service.detach(container("login"), "shop")
        second, payment = await served("payment")
        assert second == first
        client.send(b"to nobody")
        with pytest.raises(ConnectionRefusedError):
            client.recv(100)
        _, logout = await served("logout", ports=published)
        client.send(b"to logout")
        assert logout.recv(100) == b"to logout"
        payment.setblocking(False)
        with pytest.raises(BlockingIOError):
            payment.recv(100)


async def test_a_neighbour_cannot_reach_loopback_ports_with_crafted_routes(lab: Lab) -> None:
    request = PortRequest(container_port=80, host_port=47333, host_address="127.0.0.1")
    await lab.run("login", "bridge", ports=(request,))
    with neighbour(lab.root, "10.232.2") as (lan, host):
        interface = command("ip", "-br", "link", inside=lan).splitlines()[1].split("@")[0].split()[0]

        def open_up() -> None:
            Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
            Path("/proc/sys/net/ipv4/conf", interface, "route_localnet").write_text("1")

        await asyncio.to_thread(run_in_network_namespace, lan, open_up)
        command("ip", "route", "del", "local", "127.0.0.0/8", "table", "local", inside=lan)
        command("ip", "route", "del", "local", "127.0.0.1", "table", "local", inside=lan)
        command("ip", "route", "add", "127.0.0.0/8", "via", host, "dev", interface, "src", "10.232.2.2", inside=lan)
        assert await lab.reach(lan, "127.0.0.1", 47333) == "-"
    assert await lab.reach(None, "127.0.0.1", 47333) != "-"


async def test_outside_is_reached_through_nat_but_not_from_an_internal_network(lab: Lab) -> None:
    await lab.service.create_network("shop")
    inner = await lab.service.create_network("inner", internal=True)
    await lab.run("login", "shop")
    await lab.run("payment", "inner")
    extra = await lab.run("extra", "inner")
    with neighbour(lab.root, "10.232.3") as (wan, host):
        await asyncio.to_thread(run_in_network_namespace, wan, lambda: lab.serve(8000))
        assert await lab.reach(lab.inside("login"), "10.232.3.2", 8000) == host  # masqueraded
        assert await lab.reach(lab.inside("payment"), "10.232.3.2", 8000) == "-"
        command("ip", "route", "add", "default", "via", inner.gateway, inside=lab.inside("payment"))
        assert await lab.reach(lab.inside("payment"), "10.232.3.2", 8000) == "-"
        lab.serve(47341)
        assert await lab.reach(lab.inside("payment"), inner.gateway, 47341) == "-"
        assert await lab.reach(lab.inside("payment"), extra) != "-"


async def test_names_resolve_on_user_defined_networks_only(lab: Lab) -> None:
    await lab.service.create_network("shop")
    await lab.service.create_network("bank")
    login = await lab.run("login", "shop", aliases=("web",))
    logout = await lab.run("logout", "shop", aliases=("web",))
    await lab.run("payment", "bank")
    await lab.run("extra", "bridge")

    assert await lab.ask("logout", "login") == ("NOERROR", [login])
    assert await lab.ask("logout", "LOGIN.shop", tcp=True) == ("NOERROR", [login])
    assert await lab.ask("logout", "web") == ("NOERROR", sorted([login, logout]))
    assert await lab.ask("logout", container("login")[:12]) == ("NOERROR", [login])
    assert await lab.ask("logout", "login", "AAAA") == ("NOERROR", [])
    reverse = ".".join(reversed(login.split("."))) + ".in-addr.arpa"
    assert await lab.ask("logout", reverse, "PTR") == ("NOERROR", ["login.shop."])
    assert (await lab.ask("payment", "login"))[0] == "SERVFAIL"  # asked on, and the host's resolver is not there

    await lab.service.rename(container("login"), "entrance")
    assert await lab.ask("logout", "entrance") == ("NOERROR", [login])
    assert (await lab.ask("logout", "login"))[1] == []
    assert "nameserver 127.0.0.11\n" in await lab.service.resolv_conf(container("login"))
    assert "127.0.0.11" not in await lab.service.resolv_conf(container("extra"))
    assert f"{login}\thost1" in await lab.service.hosts_file(container("login"), hostname="host1")


async def test_resolvers_of_its_own_are_asked_from_inside_a_container(lab: Lab) -> None:
    await lab.service.create_network("shop", internal=True)
    await lab.run("login", "shop", port=0, nameservers=("127.0.0.7", "127.0.0.8"), hostname="front")
    await lab.run("logout", "shop", port=0)

    def serve() -> socket.socket:
        """A resolver on the container's own loopback, where the host's cannot be meant."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.8", 53))
        lab.sockets.append(made)
        return made

    def answer(server: socket.socket) -> None:
        for _ in range(2):
            query, peer = server.recvfrom(512)
            reply = DNSRecord.parse(query).reply()
            reply.add_answer(RR("far.example", QTYPE.A, rdata=A("192.0.2.1"), ttl=0))
            server.sendto(bytes(reply.pack()), peer)

    server = await asyncio.to_thread(run_in_network_namespace, lab.inside("login"), serve)
    answering = threading.Thread(target=answer, args=(server,), daemon=True)
    answering.start()
    assert await lab.ask("login", "far.example") == ("NOERROR", ["192.0.2.1"])  # nobody answers at the first one
    assert await lab.ask("logout", "far.example") == ("NXDOMAIN", [])  # internal, without resolvers of its own
    assert (await lab.ask("logout", "front"))[0] == "NOERROR"
    lab.service = await restarted(lab)
    assert await lab.ask("login", "far.example") == ("NOERROR", ["192.0.2.1"])
    await asyncio.to_thread(answering.join)


async def restarted(lab: Lab) -> NetworkService:
    """The engine's networks after a restart, with everything in the kernel left as it was."""
    await lab.service.stop(remove_kernel_state=False)
    service = lab.again()
    await service.start()
    return service


async def test_what_does_not_exist_is_nxdomain_on_an_internal_network(lab: Lab) -> None:
    await lab.service.create_network("inner", internal=True)
    await lab.run("login", "inner")
    assert await lab.ask("login", "example.invalid") == ("NXDOMAIN", [])


async def test_everything_survives_a_restart_of_the_engine(lab: Lab) -> None:
    await lab.service.create_network("shop")
    login = await lab.run("login", "shop", ports=(PortRequest(container_port=80, host_port=47351),))
    logout = await lab.run("logout", "shop")
    await lab.service.stop(remove_kernel_state=False)
    assert await lab.reach(None, "127.0.0.1", 47351) != "-"
    assert await lab.ask("logout", "login") == ("NOERROR", [login])

    lab.service = lab.again()
    await lab.service.start()
    assert await lab.reach(None, "127.0.0.1", 47351) != "-"
    assert await lab.reach(lab.inside("login"), logout) == login
    assert await lab.ask("logout", "login") == ("NOERROR", [login])


async def test_a_lost_table_and_a_lost_bridge_come_back(lab: Lab) -> None:
    network = await lab.service.create_network("shop")
    await lab.run("login", "shop", ports=(PortRequest(container_port=80, host_port=47361),))
    await lab.service.stop(remove_kernel_state=False)
    command("nft", "delete", "table", "inet", lab.table)
    command("ip", "link", "del", network.bridge_name)
    stray = f"tr{lab.instance}-abcdef"
    command("ip", "link", "add", stray, "type", "bridge")
    lab.service = lab.again()
    await lab.service.start()
    assert await lab.reach(None, "127.0.0.1", 47361) != "-"
    assert stray not in await netlink.bridges()


async def test_a_killed_name_server_is_started_again(lab: Lab) -> None:
    await lab.service.create_network("shop")
    login = await lab.run("login", "shop")
    pid = int((lab.root / "run" / "dns.sock.lock").read_text())
    watch = os.pidfd_open(pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watch, ended.set)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(watch)
    os.close(watch)
    await lab.run("logout", "shop")
    assert await lab.ask("logout", "login") == ("NOERROR", [login])
    assert await lab.ask("login", "logout") != ("NOERROR", [])
    assert int((lab.root / "run" / "dns.sock.lock").read_text()) != pid


async def test_a_port_in_use_is_named_and_nothing_is_left(lab: Lab) -> None:
    network = await lab.service.create_network("shop")
    lab.serve(47371)
    request = PortRequest(container_port=80, host_port=47371)
    with pytest.raises(
        Conflict, match=r"failed to bind host port for 0\.0\.0\.0:47371:.*: address already in use"
    ) as e:
        await lab.run("login", "shop", ports=(request,))
    assert e.value.code == "port-in-use"
    assert f"pid {os.getpid()}" in e.value.hint
    assert await lab.service.endpoints_of_container(container("login")) == []
    assert await netlink.ports_of_bridge(network.bridge_name) == []

    await lab.run("logout", "shop", ports=(PortRequest(container_port=80, host_port=47372),))
    with pytest.raises(Conflict, match="port is already allocated") as e:
        await lab.run("login", "shop", ports=(PortRequest(container_port=81, host_port=47372),))
    assert "container logout" in e.value.hint
    with pytest.raises(InvalidArgument, match="cannot assign requested address"):
        request = PortRequest(container_port=80, host_port=47373, host_address="203.0.113.9")
        await lab.run("login", "shop", ports=(request,))


async def test_a_failing_step_undoes_the_ones_before(lab: Lab) -> None:
    network = await lab.service.create_network("shop")
    await lab.run("login", "shop", port=0)
    await lab.service.create_network("bank")
    bad = await lab.service.create_network("bad")
    await netlink.remove_link(bad.bridge_name)
    with pytest.raises(Exception, match=f"bridge {bad.bridge_name} not found"):
        await lab.service.attach(container("login"), "login", "bad")
    assert [item.network_id for item in await lab.service.endpoints_of_container(container("login"))] == [network.id]
    with pytest.raises(NotFound, match="has no network namespace"):
        await lab.service.attach(container("logout"), "logout", "shop")


async def test_networks_are_refused_for_the_right_reason(lab: Lab) -> None:
    service = lab.service
    network = await service.create_network("shop", subnet=f"{lab.pool}.77.0/24", ip_range=f"{lab.pool}.77.128/30")
    assert await service.get_network(network.id[:9]) == network
    with pytest.raises(Conflict, match="network with name shop already exists"):
        await service.create_network("shop")
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        await service.create_network("other", subnet=f"{lab.pool}.77.0/25")
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        await service.remove_network("bridge")
    with pytest.raises(NotFound, match="network nosuch not found"):
        await service.get_network("nosuch")
    await lab.run("login", "shop", address=f"{lab.pool}.77.9", port=0)
    with pytest.raises(Forbidden, match=r"10\.\d+\.77\.9 on network shop belongs to container login"):
        await lab.run("logout", "shop", address=f"{lab.pool}.77.9", port=0)
    with pytest.raises(Conflict, match="endpoint with name login already exists in network shop"):
        await service.attach(container("login"), "login", "shop")
    with pytest.raises(Forbidden, match=r'has active endpoints \(name:"login"'):
        await service.remove_network("shop")
    await service.detach_all(container("login"))
    await service.remove_network("shop")
    assert network.bridge_name not in await netlink.bridges()


async def test_options_are_checked_and_followed(lab: Lab) -> None:
    prefix = "com.docker.network"
    mine = f"nb{lab.instance}"
    network = await lab.service.create_network(
        "shop", options={f"{prefix}.bridge.name": mine, f"{prefix}.driver.mtu": "1400"}
    )
    assert network.bridge_name == mine
    await lab.run("login", "shop", port=0)
    assert " mtu 1400 " in command("ip", "link", "show", "eth0", inside=lab.inside("login"))
    for options, kind, message in (
        ({f"{prefix}.bridge.name": mine}, Conflict, "networks have same bridge name"),
        ({f"{prefix}.bridge.name": "a" * 16}, InvalidArgument, "numerical result out of range"),
        ({f"{prefix}.driver.mtu": "9"}, InvalidArgument, "68 to 65535"),
        ({f"{prefix}.bridge.enable_icc": "maybe"}, InvalidArgument, "failed to parse"),
    ):
        with pytest.raises(kind, match=message):
            await lab.service.create_network("other", options=options)
    with pytest.raises(NotFound, match='plugin "overlay" not found'):
        await lab.service.create_network("other", driver="overlay")
    assert [item.name for item in await lab.service.list_networks()] == ["bridge", "host", "none", "shop"]


async def test_attaching_that_is_cancelled_leaves_nothing(lab: Lab) -> None:
    network = await lab.service.create_network("shop")
    await lab.service.create_sandbox(container("login"))
    for turns in (*range(12), 50, 100, 200, 400, 800):
        task = asyncio.create_task(lab.service.attach(container("login"), "login", "shop"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
            await lab.service.detach(container("login"), "shop")  # it was quicker than the cancellation
        assert await lab.service.endpoints_of_container(container("login")) == []
        assert await netlink.ports_of_bridge(network.bridge_name) == []


async def test_an_exhausted_range_says_so_and_addresses_come_back(lab: Lab) -> None:
    await lab.service.create_network("tiny", subnet=f"{lab.pool}.88.0/30")
    first = await lab.run("login", "tiny", port=0)
    with pytest.raises(Exhausted, match="no available IPv4 addresses on network tiny"):
        await lab.run("logout", "tiny", port=0)
    await lab.service.detach_all(container("login"))
    assert await lab.run("logout", "tiny", port=0) == first


async def test_several_networks_and_the_default_route(lab: Lab) -> None:
    one, two = await lab.service.create_network("one"), await lab.service.create_network("two")
    await lab.run("login", "one", port=0)
    second = await lab.service.attach(container("login"), "login", "two")
    assert second.interface == "eth1"
    assert f"default via {one.gateway}" in command("ip", "route", inside=lab.inside("login"))
    await lab.service.detach(container("login"), "one")
    assert f"default via {two.gateway}" in command("ip", "route", inside=lab.inside("login"))
    with pytest.raises(NotFound, match="is not connected to network one"):
        await lab.service.detach(container("login"), "one")
    with pytest.raises(Conflict, match="cannot be connected to network host"):
        await lab.service.attach(container("login"), "login", "host")


async def test_the_default_route_follows_the_gateway_priority(lab: Lab) -> None:
    names = {name: await lab.service.create_network(name) for name in ("alpha", "beta", "gamma")}
    await lab.service.create_network("inner", internal=True)

    def route() -> str:
        return command("ip", "route", "show", "default", inside=lab.inside("login"))

    async def join(name: str, priority: int = 0) -> None:
        await lab.service.attach(container("login"), "login", name, gateway_priority=priority)

    async def holders() -> list[str]:
        found = await lab.service.endpoints_of_container(container("login"))
        return [endpoint.network_name for endpoint in found if endpoint.default_route]

    await lab.run("login", "beta", port=0)
    await join("inner", 9)  # has no gateway, whatever its priority
    assert f"via {names['beta'].gateway} " in route()
    await join("alpha")  # its name comes first
    assert f"via {names['alpha'].gateway} " in route()
    await join("gamma", 1)
    assert f"via {names['gamma'].gateway} " in route()
    assert await holders() == ["gamma"]
    for leaving, next_one in (("gamma", "alpha"), ("beta", "alpha")):
        await lab.service.detach(container("login"), leaving)
        assert f"via {names[next_one].gateway} " in route()
        assert await holders() == [next_one]
    await lab.service.detach(container("login"), "alpha")
    assert route() == ""
    assert await holders() == []


async def test_published_ports_follow_the_default_route(lab: Lab) -> None:
    for name in ("alpha", "beta"):
        await lab.service.create_network(name)
    request = PortRequest(container_port=80, host_address="127.0.0.1")
    await lab.run("login", "beta", ports=[request])

    async def holder() -> tuple[str, int, str]:
        for endpoint in await lab.service.endpoints_of_container(container("login")):
            if endpoint.default_route:
                network = endpoint.network_name
        (port,) = await lab.service.published(container("login"))
        return network, port.host_port, await lab.reach(None, "127.0.0.1", port.host_port)

    first = await holder()
    assert first[0] == "beta" and first[2] != "-"
    await lab.service.attach(container("login"), "login", "alpha")
    await lab.service.republish(container("login"), [request])
    moved = await holder()
    assert moved[:2] == ("alpha", first[1]) and moved[2] != "-"
    await lab.service.detach(container("login"), "alpha")
    await lab.service.republish(container("login"), [request])
    again = await holder()
    assert again[0] == "beta" and again[2] != "-"


async def test_auxiliary_addresses_are_never_given(lab: Lab) -> None:
    pool = f"{lab.pool}.99"
    await lab.service.create_network(
        "aux", subnet=f"{pool}.0/29", aux_addresses={"printer": f"{pool}.2", "scanner": f"{pool}.4"}
    )
    given = {await lab.run(name, "aux", port=0) for name in ("login", "logout")}
    assert given == {f"{pool}.3", f"{pool}.5"}
    await lab.service.create_sandbox(container("payment"))
    with pytest.raises(Forbidden, match=r"99\.4 on network aux is reserved"):
        await lab.service.attach(container("payment"), "payment", "aux", address=f"{pool}.4")


async def test_the_first_free_port_of_a_range_is_taken(lab: Lab) -> None:
    await lab.service.create_network("shop")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        first = min(taken.getsockname()[1], 65533)
        request = PortRequest(
            container_port=80, host_address="127.0.0.1", host_port=first, last_host_port=min(first + 20, 65535)
        )
        await lab.service.create_sandbox(container("login"))
        await lab.service.attach(container("login"), "login", "shop", ports=[request])
        (published,) = await lab.service.published(container("login"))
        assert first < published.host_port <= first + 20


async def test_icc_off_keeps_containers_of_one_network_apart(lab: Lab) -> None:
    await lab.service.create_network("quiet", options={"com.docker.network.bridge.enable_icc": "false"})
    await lab.run("login", "quiet")
    logout = await lab.run("logout", "quiet")
    assert await lab.reach(lab.inside("login"), logout) == "-"


async def test_a_build_sandbox_has_an_address_and_leaves_nothing(lab: Lab) -> None:
    network = await lab.service.get_network("bridge")
    async with lab.service.build_sandbox("step1") as path:
        assert f"default via {network.gateway}" in command("ip", "route", inside=path)
        lab.serve(47381, network.gateway)
        assert await lab.reach(path, network.gateway, 47381) != "-"
    assert not is_network_namespace(path)
    await lab.service.settle()
    assert await netlink.ports_of_bridge(network.bridge_name) == []
    assert await lab.db.read(lambda db: db.execute("SELECT count(*) FROM addresses").fetchone()[0]) == 0


async def test_what_a_crashed_build_step_left_is_removed_at_start(lab: Lab) -> None:
    manager = lab.service.build_sandbox("lost")
    path = await manager.__aenter__()
    await lab.service.stop(remove_kernel_state=False)
    lab.service = lab.again()
    await lab.service.start()
    network: Network = await lab.service.get_network("bridge")
    assert not is_network_namespace(path)
    assert await netlink.ports_of_bridge(network.bridge_name) == []
    await manager.__aexit__(None, None, None)


def test_functions_run_inside_and_errors_come_out(tmp_path: Path) -> None:
    path = tmp_path / "ns" / "one"
    create_network_namespace(path)
    try:
        interfaces: Callable[[], list[str]] = lambda: [name for _, name in socket.if_nameindex()]  # noqa: E731
        assert run_in_network_namespace(path, interfaces) == ["lo"]
        assert "lo" in interfaces()
        with pytest.raises(ZeroDivisionError):
            run_in_network_namespace(path, lambda: 1 // 0)
        with pytest.raises(FileExistsError):
            create_network_namespace(path)
    finally:
        remove_network_namespace(path)
    remove_network_namespace(path)
    with pytest.raises(NotFound, match="not found"):
        run_in_network_namespace(path, lambda: None)
