"""Published ports with real sockets: ranges, sources, IPv6, SCTP, the host's own firewall, tables that others touch."""

# ruff: noqa: F811 - lab is a fixture

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from network_lab import Lab, command, lab, neighbour  # noqa: F401 - lab is a fixture

from tare.errors import Conflict, InvalidArgument
from tare.kernel.namespaces import run_in_network_namespace
from tare.network.model import PortRequest, detour_mark

pytestmark = pytest.mark.root


@contextlib.contextmanager
def echoing(namespace: Path, ports: range) -> Iterator[None]:
    """UDP sockets on all of the ports in a namespace; each answers with the number that it is bound to."""

    def bind(port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("0.0.0.0", port))
        return sock

    sockets = run_in_network_namespace(
        namespace, lambda: {(sock := bind(port)).fileno(): (sock, port) for port in ports}
    )
    wake, woken = socket.socketpair()
    poll = select.epoll()
    for descriptor in (*sockets, woken.fileno()):
        poll.register(descriptor, select.EPOLLIN)

    def work() -> None:
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == woken.fileno():
                    return
                sock, port = sockets[descriptor]
                _, peer = sock.recvfrom(100)
                sock.sendto(str(port).encode(), peer)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        wake.send(b"x")
        thread.join()
        poll.close()
        for sock in (*(sock for sock, _ in sockets.values()), wake, woken):
            sock.close()


def answers(address: str, ports: range) -> dict[int, int]:
    """What the ports of an address answer, asked one after the other."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        for port in ports:
            sock.sendto(b"?", (address, port))
            data, _ = sock.recvfrom(100)
            found[port] = int(data)
    return found


def elements(lab: Lab, name: str) -> str:
    listing = command("nft", "list", "set" if name in {"limited", "permitted"} else "map", "inet", lab.table, name)
    return listing.partition("elements = ")[2]


async def test_ten_thousand_ports_are_one_row_and_one_element(lab: Lab) -> None:
    network = await lab.service.create_network("shop")
    wanted = range(15000, 25000)
    request = PortRequest(protocol="udp", container_port=15000, host_port=15000, count=len(wanted))
    await lab.run("login", "shop", port=0, ports=(request,))
    assert elements(lab, "ranges").count("15000-24999") == 1
    (published,) = await lab.service.published(b"login".hex().ljust(64, "0"))
    assert published.count == 10_000
    with echoing(lab.inside("login"), wanted):
        assert await asyncio.to_thread(answers, network.gateway, wanted) == {port: port for port in wanted}

    taken = PortRequest(protocol="udp", container_port=9, host_port=24999)
    with pytest.raises(Conflict, match="port is already allocated"):
        await lab.run("logout", "shop", port=0, ports=(taken,))
    await lab.run("extra", "shop", port=0, ports=(msgspec.structs.replace(taken, host_port=25000),))
    await lab.service.detach_all(b"login".hex().ljust(64, "0"))
    assert "15000" not in elements(lab, "ranges")


async def test_a_range_that_is_moved_reaches_the_right_ports(lab: Lab) -> None:
    network = await lab.service.create_network("shop")
    request = PortRequest(protocol="udp", container_port=2000, host_port=27500, count=300)
    await lab.run("login", "shop", port=0, ports=(request,))
    with echoing(lab.inside("login"), range(2000, 2300)):
        found = await asyncio.to_thread(answers, network.gateway, range(27500, 27800))
    assert found == {27500 + offset: 2000 + offset for offset in range(300)}


async def test_a_port_of_a_range_that_a_process_has_is_named(lab: Lab) -> None:
    await lab.service.create_network("shop")
    with socket.create_server(("127.0.0.1", 27433)):
        request = PortRequest(container_port=27400, host_port=27400, count=100)
        with pytest.raises(Conflict, match=r":27433:.*address already in use") as caught:
            await lab.run("login", "shop", ports=(request,))
        assert "pid" in caught.value.hint


async def test_only_the_named_sources_come(lab: Lab, tmp_path: Path) -> None:
    await lab.service.create_network("shop")
    with neighbour(tmp_path, "10.241.7") as (machine, host):
        open_to = {"from": ("10.241.7.0/24", "10.241.0.0/16"), "others": ("192.0.2.0/24", "fd00::/8")}
        ports = [
            PortRequest(container_port=80, host_port=27610 + number, sources=sources)
            for number, sources in enumerate(open_to.values())
        ]
        await lab.run("login", "shop", ports=ports)
        reached = [await lab.reach(machine, host, 27610 + number) for number in range(2)]
        assert reached == ["10.241.7.2", "-"], "the client's address arrives, others are kept out"
        assert await lab.reach(None, "127.0.0.1", 27611) != "-", "the host itself may"
        assert elements(lab, "permitted").count("10.241.0.0/16") == 1
    for address in ("", "127.0.0.1"):
        foreign = PortRequest(container_port=80, host_port=27613, host_address=address, sources=("fd00::/8",))
        with pytest.raises(InvalidArgument, match=r"nobody could come: no source of fd00::/8"):
            await lab.run("logout", "shop", ports=(foreign,))
    with pytest.raises(InvalidArgument, match=r"invalid source 10\.0\.0\.1/8"):
        await lab.run("logout", "shop", ports=(PortRequest(container_port=80, sources=("10.0.0.1/8",)),))


async def assert_both_families_arrive(lab: Lab, tmp_path: Path) -> None:
    await lab.service.create_network("six", ipv6=True)
    await lab.run("login", "six", port=0, ports=(PortRequest(container_port=80, host_port=27621),))
    listener = run_in_network_namespace(
        lab.inside("login"), lambda: socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
    )
    lab.sockets.append(listener)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listener.accept()
                with connection:
                    connection.sendall(peer[0].encode())

    threading.Thread(target=serve, daemon=True).start()
    with neighbour(tmp_path, "10.241.8") as (machine, host):
        interface = command("ip", "-br", "-4", "addr", "show", "to", f"{host}/32").split("@")[0]
        command("ip", "addr", "add", "fd77:8::1/64", "dev", interface, "nodad")
        inside = command("ip", "-br", "link", "show", "type", "veth", inside=machine).split("@")[0]
        command("ip", "addr", "add", "fd77:8::2/64", "dev", inside, "nodad", inside=machine)
        assert await lab.reach(machine, host, 27621, within=5) == "::ffff:10.241.8.2"
        assert await lab.reach(machine, "fd77:8::1", 27621, within=5) == "fd77:8::2", "the client's address arrives"
        assert await lab.reach(None, "fd77:8::1", 27621, within=5) != "-"


async def test_ports_of_both_families(lab: Lab, tmp_path: Path) -> None:
    await assert_both_families_arrive(lab, tmp_path)
    await lab.service.create_network("four")
    published = await lab.service.published(b"login".hex().ljust(64, "0"))
    assert {(port.host_address, port.host_port) for port in published} == {("0.0.0.0", 27621), ("::", 27621)}
    with pytest.raises(InvalidArgument, match="the container has no IPv6 address"):
        await lab.run("logout", "four", ports=(PortRequest(container_port=80, host_port=27622, host_address="::"),))


async def test_sctp(lab: Lab) -> None:
    await lab.service.create_network("shop")
    await lab.run("login", "shop", ports=(PortRequest(protocol="sctp", container_port=80, host_port=27631),))
    assert "sctp . 27631" in elements(lab, "published_everywhere")
    try:
        probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    except OSError:
        pytest.skip("this kernel has no SCTP sockets; the rule is there")
    with probe:
        probe.settimeout(5)

        def listen() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
            made.bind(("0.0.0.0", 80))
            made.listen()
            return made

        with run_in_network_namespace(lab.inside("login"), listen):
            await asyncio.to_thread(probe.connect, ("127.0.0.1", 27631))


@pytest.fixture
async def respectful(lab: Lab) -> Lab:
    """The lab with an engine that asks the host's own firewall."""
    await lab.service.stop(remove_kernel_state=True)
    lab.settings = msgspec.structs.replace(lab.settings, respect_host_firewall=True)
    lab.service = lab.again()
    await lab.service.start()
    return lab


@contextlib.contextmanager
def host_firewall(name: str, interface: str, *rules: str) -> Iterator[None]:
    """A firewall of the host's own before one interface: what no rule accepts is dropped, as ufw and firewalld do."""
    try:
        command("nft", f"add table inet {name}")
        command("nft", f"add chain inet {name} input {{ type filter hook input priority filter; policy accept; }}")
        for rule in (*rules, "drop"):
            command("nft", f'add rule inet {name} input iifname "{interface}" {rule}')
        yield
    finally:
        command("nft", f"delete table inet {name}")


async def test_the_hosts_firewall_governs_published_ports(respectful: Lab, tmp_path: Path) -> None:
    lab = respectful
    await lab.service.create_network("shop")
    ports = [PortRequest(container_port=80, host_port=port) for port in (27641, 27642)]
    await lab.run("login", "shop", ports=ports)
    with neighbour(tmp_path, "10.241.9") as (machine, host):
        interface = command("ip", "-br", "-4", "addr", "show", "to", f"{host}/32").split("@")[0]
        assert await lab.reach(machine, host, 27641, within=5) == "10.241.9.2", (
            "no firewall, no limit; the source arrives"
        )
        with host_firewall(f"{lab.table}-fw", interface, "tcp dport 27641 accept"):
            assert await lab.reach(machine, host, 27641, within=5) == "10.241.9.2"
            assert await lab.reach(machine, host, 27642) == "-"
            assert await lab.reach(None, "127.0.0.1", 27642) != "-"
        assert await lab.reach(machine, host, 27642, within=5) == "10.241.9.2"


async def test_the_hosts_firewall_lets_both_families_in(respectful: Lab, tmp_path: Path) -> None:
    await assert_both_families_arrive(respectful, tmp_path)


REVERSE_PATH_FILTER = """
table inet strict {
  chain prerouting {
    type filter hook prerouting priority raw + 10; policy accept;
    fib saddr . mark . iif oif missing counter drop
  }
}
"""


@pytest.mark.parametrize("rp_filter", [1, 2])
def test_filters_of_reverse_paths_let_the_detour_pass(rp_filter: int, tmp_path: Path) -> None:
    """The tests of the host's firewall once more, on a host whose sysctl is as ufw (1) or systemd (2) sets it, and
    that has the filter of firewalld: in a network namespace of their own, as these are settings of all interfaces."""
    rules = tmp_path / "strict.nft"
    rules.write_text(REVERSE_PATH_FILTER)
    steps = (
        "mount -t sysfs sysfs /sys && ip link set lo up",
        f"echo {rp_filter} > /proc/sys/net/ipv4/conf/all/rp_filter",
        f"nft -f {rules}",
        f'exec "{sys.executable}" -m pytest -q --noconftest -p no:cacheprovider -k the_hosts_firewall "{__file__}"',
    )
    ended = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-ec", "\n".join(steps)],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout


async def test_without_the_setting_it_does_not(lab: Lab, tmp_path: Path) -> None:
    await lab.service.create_network("shop")
    await lab.run("login", "shop", ports=(PortRequest(container_port=80, host_port=27651),))
    with neighbour(tmp_path, "10.241.10") as (machine, host):
        interface = command("ip", "-br", "-4", "addr", "show", "to", f"{host}/32").split("@")[0]
        with host_firewall(f"{lab.table}-fw", interface):
            assert await lab.reach(machine, host, 27651) == "10.241.10.2"


async def test_the_detour_goes_with_the_setting(respectful: Lab) -> None:
    lab = respectful
    mark = f"{detour_mark(lab.instance):#x}"

    def rules() -> str:
        found = [*command("ip", "-4", "rule").splitlines(), *command("ip", "-6", "rule").splitlines()]
        return "\n".join(rule for rule in found if f"fwmark {mark}" in rule or f"iif tr{lab.instance}-back" in rule)

    assert rules().count(mark) >= 2 and rules().count("lookup main") == 2
    await lab.service.stop(remove_kernel_state=False)
    lab.settings = msgspec.structs.replace(lab.settings, respect_host_firewall=False)
    lab.service = lab.again()
    await lab.service.start()
    assert f"tr{lab.instance}-out" not in command("ip", "-br", "link")
    assert f"table ip {lab.table}" not in command("nft", "list", "tables")
    assert rules() == ""


@pytest.mark.parametrize("damage", ["flush table", "delete table", "flush map", "add rule", "add chain"])
async def test_what_others_do_to_the_table_is_undone(lab: Lab, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    await lab.service.create_network("shop")
    await lab.run("login", "shop", ports=(PortRequest(container_port=80, host_port=27661),))
    arguments = {
        "flush map": ["flush", "map", "inet", lab.table, "published_everywhere"],
        "add chain": [
            "add",
            "chain",
            "inet",
            lab.table,
            "foreign",
            "{ type filter hook output priority 0; policy drop; }",
        ],
        "add rule": ["insert", "rule", "inet", lab.table, "output", "tcp", "dport", "27661", "drop"],
    }
    with caplog.at_level(logging.WARNING):
        command("nft", *arguments.get(damage, [*damage.split(), "inet", lab.table]))
        async with asyncio.timeout(10):
            while await lab.reach(None, "127.0.0.1", 27661) == "-" or "restoring" not in caplog.text:
                await asyncio.sleep(0.02)
    assert "nft (pid" in caplog.text
    assert "27661" in elements(lab, "published_everywhere")
    listing = command("nft", "list", "table", "inet", lab.table)
    assert "dport 27661" not in listing
    assert "foreign" not in listing


async def test_changes_lose_no_connection(lab: Lab) -> None:
    await lab.service.create_network("shop")
    await lab.run("login", "shop", ports=(PortRequest(container_port=80, host_port=27671),))
    done = threading.Event()
    failures: list[OSError] = []
    made = [0]

    def knock() -> None:
        while not done.is_set():
            try:
                with socket.create_connection(("127.0.0.1", 27671), timeout=5) as connection:
                    connection.recv(100)
                made[0] += 1
            except OSError as error:
                failures.append(error)

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        for number in range(40):
            name = f"n{number}"
            await lab.service.create_network(name)
            await lab.service.remove_network(name)
            for _ in range(3):
                await lab.service._steering.replace()  # the largest change there is
    finally:
        done.set()
        await asyncio.to_thread(thread.join)
    assert not failures
    assert made[0] > 20
