"""Gateway modes of bridge networks, from a machine that routes to them."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from network_lab import Lab, command, container, lab, neighbour

from tare.errors import InvalidArgument
from tare.kernel.namespaces import run_in_network_namespace
from tare.network.model import OpenPort, PortRequest

pytestmark = pytest.mark.root

_ = lab  # the fixture
OPTION = "com.docker.network.bridge.gateway_mode_ipv4"


async def test_what_passes_in_each_mode_is_what_docker_lets_pass(lab: Lab) -> None:
    for mode in ("nat", "routed", "nat-unprotected"):
        await lab.service.create_network(mode, options={OPTION: mode})
    await lab.run("extra", "nat", port=0)
    request = PortRequest(container_port=80, host_port=7471)
    with neighbour(lab.root, "10.232.9") as (lan, host):
        await asyncio.to_thread(run_in_network_namespace, lan, lambda: lab.serve(8000))
        command("ip", "route", "add", f"{lab.pool}.0.0/16", "via", host, inside=lan)
        for mode, own, other, forwarded, across in (
            ("nat", "-", "-", "10.232.9.2", True),
            ("nat-unprotected", "10.232.9.2", "10.232.9.2", "10.232.9.2", False),
            ("routed", "10.232.9.2", "-", "-", True),
        ):
            address = await lab.run("login", mode, ports=(request,))
            await asyncio.to_thread(run_in_network_namespace, lab.inside("login"), lambda: lab.serve(81))
            assert await lab.reach(lan, address, 80) == own, mode
            assert await lab.reach(lan, address, 81) == other, mode
            assert await lab.reach(lan, host, 7471) == forwarded, mode
            assert (await lab.reach(lab.inside("extra"), address, 80) != "-") is across, mode
            assert (await lab.reach(lab.inside("extra"), address, 81) != "-") is (mode == "nat"), mode
            left_as = address if mode == "routed" else host
            assert await lab.reach(lab.inside("login"), "10.232.9.2", 8000) == left_as, mode
            assert await lab.reach(None, address, 81) != "-"
            await lab.service.detach(container("login"), mode)
            await lab.service.remove_sandbox(container("login"))


async def test_open_ports_follow_the_route_and_a_restart(lab: Lab) -> None:
    await lab.service.create_network("routed", options={OPTION: "routed"})
    shop = await lab.service.create_network("shop")
    request = PortRequest(container_port=80, host_port=7472)
    with neighbour(lab.root, "10.232.10") as (lan, host):
        command("ip", "route", "add", f"{lab.pool}.0.0/16", "via", host, inside=lan)
        address = await lab.run("login", "routed", ports=(request, request))
        endpoint = (await lab.service.all_endpoints())[0]
        assert endpoint.open_ports == (OpenPort(protocol="tcp", port=80),) * 2  # as often as asked for, as in Docker
        await lab.service.stop(remove_kernel_state=False)
        lab.service = lab.again()
        await lab.service.start()
        assert await lab.reach(lan, address) == "10.232.10.2"
        await lab.service.attach(container("login"), "login", "shop", gateway_priority=1)
        await lab.service.republish(container("login"), [request])
        assert await lab.reach(None, "127.0.0.1", 7472) == shop.gateway
        assert [item.open_ports for item in await lab.service.all_endpoints()] == [(), ()]
        await lab.service.detach(container("login"), "shop")
        await lab.service.republish(container("login"), [request])
        assert await lab.reach(lan, address) == "10.232.10.2"
        assert await lab.service.published(container("login")) == []


async def test_ranges_of_open_ports_and_their_sources(lab: Lab) -> None:
    """``from=`` holds for them, ranges that overlap are open as one, and all closes with the container."""
    await lab.service.create_network("routed", options={OPTION: "routed"})
    spans = (
        PortRequest(container_port=80, count=3),
        PortRequest(container_port=82, count=2),
        PortRequest(container_port=85, sources=("10.232.11.9", "fd00::/64")),
        PortRequest(container_port=86, sources=("10.232.11.0/24",)),
    )
    with neighbour(lab.root, "10.232.11") as (lan, host):
        command("ip", "route", "add", f"{lab.pool}.0.0/16", "via", host, inside=lan)
        address = await lab.run("login", "routed", ports=spans)
        for number in (83, 84, 85, 86):
            await asyncio.to_thread(run_in_network_namespace, lab.inside("login"), partial(lab.serve, number))
        reached = [number for number in (80, 83, 84, 85, 86) if await lab.reach(lan, address, number) != "-"]
        assert reached == [80, 83, 86]
        assert f"{address} . tcp . 80-83" in command("nft", "list", "table", "inet", lab.table)
        await lab.service.detach(container("login"), "routed")
        assert f"{address} ." not in command("nft", "list", "table", "inet", lab.table)


async def test_ipv6_of_a_routed_network_takes_ports_of_the_host(lab: Lab) -> None:
    shop = await lab.service.create_network("shop", ipv6=True)
    await lab.service.create_network("routed", ipv6=True, options={OPTION: "routed"})
    request = PortRequest(container_port=80, host_port=7473)

    async def published() -> list[str]:
        return sorted(port.host_address for port in await lab.service.published(container("login")))

    await lab.run("login", "routed", ports=(request,))
    assert await published() == ["::"]
    await lab.service.attach(container("login"), "login", "shop", gateway_priority=1)
    await lab.service.republish(container("login"), [request])
    assert await published() == ["0.0.0.0", "::"]
    assert await lab.reach(None, "127.0.0.1", 7473) == shop.gateway
    await lab.service.detach(container("login"), "shop")
    await lab.service.republish(container("login"), [request])
    assert [item.open_ports for item in await lab.service.all_endpoints()] == [(OpenPort(protocol="tcp", port=80),)]
    assert await published() == ["::"]


async def test_an_isolated_network_has_no_address_of_the_host(lab: Lab) -> None:
    with pytest.raises(InvalidArgument, match="gateway mode 'isolated' can only be used for an internal network"):
        await lab.service.create_network("inner", options={OPTION: "isolated"})
    with pytest.raises(InvalidArgument, match="unknown gateway mode Routed"):
        await lab.service.create_network("inner", options={OPTION: "Routed"})
    network = await lab.service.create_network("inner", internal=True, options={OPTION: "isolated"})
    login, logout = await lab.run("login", "inner"), await lab.run("logout", "inner", port=0)
    assert login.endswith(".1")
    assert "inet " not in command("ip", "addr", "show", "dev", network.bridge_name)
    assert await lab.reach(lab.inside("logout"), login) == logout
    assert await lab.reach(None, login) == "-"
