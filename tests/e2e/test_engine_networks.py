"""Containers that reach each other, and those that must not."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SERVE = ("busybox", "sh", "-c", 'mkdir /www; echo "I am $WHO" > /www/index.html; exec httpd -f -p 80 -h /www')


@pytest.fixture
def networks(host: EngineProcess) -> Iterator[tuple[str, str]]:
    """Two networks of the user's."""
    for name in ("front", "back"):
        host.docker("network", "create", name)
    yield "front", "back"
    host.remove_containers()
    host.docker("network", "rm", "front", "back")


def fetch(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode().strip()


def wget(host: EngineProcess, name: str, target: str) -> tuple[bool, str]:
    ended = host.docker("exec", name, "timeout", "3", "wget", "-q", "-O", "-", f"http://{target}/", check=False)
    return ended.returncode == 0, (ended.stdout + ended.stderr).decode().strip()


def serve(host: EngineProcess, name: str, *options: str) -> None:
    host.docker("run", "-d", "--name", name, "-e", f"WHO={name}", *options, *SERVE)
    script = "until wget -q -O /dev/null http://127.0.0.1/; do :; done"
    host.docker("exec", name, "timeout", "10", "sh", "-c", script)


def address(host: EngineProcess, name: str, network: str) -> str:
    return host.text("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', name)


def test_names_on_a_network_of_the_users(host: EngineProcess, networks: tuple[str, str]) -> None:
    serve(host, "web", "--network", "front", "--network-alias", "www")
    host.docker("run", "-d", "--name", "visitor", "--network", "front", "busybox", "sleep", "1000")
    assert wget(host, "visitor", "web") == (True, "I am web")
    assert wget(host, "visitor", "www") == (True, "I am web")
    short = host.text("inspect", "-f", "{{.Id}}", "web")[:12]
    assert wget(host, "visitor", short) == (True, "I am web")
    assert wget(host, "visitor", "ghost")[0] is False
    host.docker("rename", "web", "site")
    assert wget(host, "visitor", "site") == (True, "I am web")
    assert wget(host, "visitor", "web")[0] is False


def test_default_bridge_has_addresses_but_no_names(host: EngineProcess) -> None:
    serve(host, "web")
    host.docker("run", "-d", "--name", "visitor", "busybox", "sleep", "1000")
    assert wget(host, "visitor", address(host, "web", "bridge")) == (True, "I am web")
    assert wget(host, "visitor", "web")[0] is False


def test_networks_are_apart(host: EngineProcess, networks: tuple[str, str]) -> None:
    serve(host, "web", "--network", "front")
    host.docker("run", "-d", "--name", "other", "--network", "back", "busybox", "sleep", "1000")
    assert wget(host, "other", "web")[0] is False
    assert wget(host, "other", address(host, "web", "front"))[0] is False


def test_connect_and_disconnect_while_running(host: EngineProcess, networks: tuple[str, str]) -> None:
    serve(host, "web", "--network", "front")
    host.docker("run", "-d", "--name", "other", "--network", "back", "busybox", "sleep", "1000")
    host.docker("network", "connect", "--alias", "extra", "back", "web")
    assert wget(host, "other", "web") == (True, "I am web")
    assert wget(host, "other", "extra") == (True, "I am web")
    members = json.loads(host.docker("network", "inspect", "-f", "{{json .Containers}}", "back").stdout)
    assert sorted(member["Name"] for member in members.values()) == ["other", "web"]
    host.docker("network", "disconnect", "back", "web")
    assert wget(host, "other", "web")[0] is False
    assert "back" not in host.text("inspect", "-f", "{{json .NetworkSettings.Networks}}", "web")
    again = host.docker("network", "disconnect", "back", "web", check=False)
    assert (again.returncode, b"is not connected to" in again.stderr) == (1, True)


def test_published_port_reaches_the_container(host: EngineProcess) -> None:
    serve(host, "web", "-p", "127.0.0.1::80")
    place = host.text("port", "web", "80/tcp")
    assert place.startswith("127.0.0.1:")
    assert fetch(f"http://{place}/") == "I am web"
    assert f"{place}->80/tcp" in host.text("ps", "--format", "{{.Ports}}")
    host.docker("stop", "-t", "0", "web")
    with pytest.raises(OSError, match="refused"):
        fetch(f"http://{place}/")


def test_port_published_by_another_container(host: EngineProcess) -> None:
    serve(host, "web", "-p", "127.0.0.1::80")
    port = host.text("port", "web", "80/tcp").rpartition(":")[2]
    refused = host.docker("run", "--name", "late", "-p", f"127.0.0.1:{port}:80", *SERVE, check=False)
    assert refused.returncode == 125
    assert port in refused.stderr.decode()
    assert "port is already allocated" in refused.stderr.decode()
    assert fetch(f"http://127.0.0.1:{port}/") == "I am web"


def test_no_network_and_host_network(host: EngineProcess) -> None:
    listing = ("busybox", "ls", "/sys/class/net")
    assert host.text("run", "--rm", "--network", "none", *listing).split() == ["lo"]
    seen = host.text("run", "--rm", "--network", "host", "busybox", "cat", "/proc/net/dev")
    with open("/proc/net/dev") as device_list:
        mine = {line.split(":")[0].strip() for line in device_list if ":" in line}
    assert {line.split(":")[0].strip() for line in seen.splitlines() if ":" in line} >= mine - {"veth"} - {
        name for name in mine if name.startswith(("tv", "tr"))
    }


def test_shared_network_namespace(host: EngineProcess) -> None:
    serve(host, "web")
    shared = ("run", "--rm", "--network", "container:web", "busybox", "wget", "-q", "-O", "-", "http://127.0.0.1/")
    assert host.text(*shared) == "I am web"


def test_fixed_address_and_subnet(host: EngineProcess) -> None:
    host.docker("network", "create", "--subnet", "10.213.7.0/24", "planned")
    try:
        shown = host.text("run", "--rm", "--network", "planned", "--ip", "10.213.7.99", "busybox", "ip", "-4", "addr")
        assert "10.213.7.99/24" in shown
        refused = host.docker("network", "create", "--subnet", "10.213.7.0/25", "clash", check=False)
        assert (refused.returncode, b"overlap" in refused.stderr) == (1, True)
        outside = host.docker("run", "--rm", "--network", "planned", "--ip", "10.9.9.9", "busybox", check=False)
        assert outside.returncode == 125
    finally:
        host.docker("network", "rm", "planned")


def test_network_in_use_and_predefined_networks_are_kept(host: EngineProcess, networks: tuple[str, str]) -> None:
    host.docker("run", "-d", "--network", "front", "busybox", "sleep", "1000")
    refused = host.docker("network", "rm", "front", check=False)
    assert (refused.returncode, b"has active endpoints" in refused.stderr) == (1, True)
    refused = host.docker("network", "rm", "bridge", check=False)
    assert (refused.returncode, b"pre-defined network" in refused.stderr) == (1, True)
    twice = host.docker("network", "create", "front", check=False)
    assert (twice.returncode, b"network with name front already exists" in twice.stderr) == (1, True)
    assert b"network ghost not found" in host.docker("network", "inspect", "ghost", check=False).stderr


def test_ranges_and_sources_of_published_ports(host: EngineProcess) -> None:
    ports = ("-p", "27701-27705:27701-27705/udp", "-p", "127.0.0.1:27710:80", "-p", "27711:81,from=192.0.2.0/24")
    try:
        host.tare("run", "-d", "--name", "many", *ports, "busybox", "sleep", "1000")
        shown = host.text("ps", "--format", "{{.Ports}}", "--filter", "name=many")
        for part in ("127.0.0.1:27710->80/tcp", "0.0.0.0:27711->81/tcp", "0.0.0.0:27701-27705->27701-27705/udp"):
            assert part in shown
        assert host.text("port", "many", "27703/udp") == "0.0.0.0:27703"
        bindings = json.loads(host.text("inspect", "-f", "{{json .NetworkSettings.Ports}}", "many"))
        assert bindings["27705/udp"] == [{"HostIp": "0.0.0.0", "HostPort": "27705"}]
        asked = json.loads(host.tare("inspect", "many").stdout)[0]["HostConfig"]["PortBindings"]
        assert asked["81/tcp"] == [{"HostIp": "", "HostPort": "27711", "From": ["192.0.2.0/24"]}]
        assert asked["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "27710"}]
    finally:
        host.remove_containers()
    for wrong, words in (
        ("8080:80,from=", "invalid publish"),
        ("8080:80,to=1.2.3.4", "invalid publish"),
        ("8080:80,from=x", "x"),
    ):
        refused = host.tare("run", "--rm", "-p", wrong, "busybox", "true", check=False)
        assert refused.returncode == 125
        assert words in refused.stderr.decode()
