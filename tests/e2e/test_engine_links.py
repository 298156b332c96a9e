"""Legacy links: hosts lines and variables on the network bridge, private aliases on networks of the user's."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

RUN = ("run", "-d", "--name")
SLEEP = ("busybox", "sleep", "1000")


@pytest.fixture
def clean(host: EngineProcess) -> Iterator[EngineProcess]:
    yield host
    host.remove_containers()


def address(host: EngineProcess, name: str) -> str:
    return host.text("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name)


def links(host: EngineProcess, name: str) -> list[str] | None:
    found: list[str] | None = json.loads(host.text("inspect", "-f", "{{json .HostConfig.Links}}", name))
    return found


def hosts(host: EngineProcess, name: str) -> list[str]:
    return host.text("exec", name, "cat", "/etc/hosts").splitlines()[6:-1]


def test_a_link_gives_hosts_lines_variables_and_names(clean: EngineProcess) -> None:
    host = clean
    host.docker(*RUN, "db", "-e", "PASSWORD=x", "--expose", "5432", "-h", "dbhost", *SLEEP)
    host.docker(*RUN, "web", "--link", "db:main-db", "--link", "db", "-e", "DB_NAME=mine", *SLEEP)
    there = address(host, "db")
    assert hosts(host, "web") == [f"{there}\tmain-db dbhost db", f"{there}\tdb dbhost"]
    assert links(host, "web") == ["/db:/web/main-db", "/db:/web/db"]
    for command in (("exec", "web", "env"), ("exec", "web", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ")):
        told = host.text(*command).splitlines()
        assert f"MAIN_DB_PORT_5432_TCP=tcp://{there}:5432" in told
        assert "MAIN_DB_ENV_PASSWORD=x" in told
        assert "DB_NAME=mine" in told, "the container's own variable wins"
    assert host.text("exec", "web", "ping", "-c1", "-W2", "main-db")
    shown = host.text("ps", "--no-trunc", "--filter", "name=db", "--format", "{{.Names}}").splitlines()
    assert "db,web/db,web/main-db" in shown
    assert host.text("inspect", "-f", "{{.Name}}", "web/main-db") == "/db"


def test_links_follow_restarts_and_names_and_keep_from_starting(clean: EngineProcess) -> None:
    host = clean
    host.docker(*RUN, "db", "-h", "dbhost", *SLEEP)
    host.docker(*RUN, "web", "--link", "db:main", *SLEEP)
    before = address(host, "db")
    host.docker("stop", "-t0", "db")
    host.docker(*RUN, "taker", *SLEEP)  # has the address now
    host.docker("start", "db")
    assert address(host, "db") != before
    assert hosts(host, "web") == [f"{address(host, 'db')}\tmain dbhost db"]

    host.docker("rename", "db", "base")
    assert links(host, "web") == ["/base:/web/main"]
    host.docker("rm", "-f", "base")
    host.docker("stop", "-t0", "web")
    refused = host.docker("start", "web", check=False)
    assert refused.returncode == 1
    assert b"Cannot link to a non running container: /base AS /web/main" in refused.stderr
    host.docker("rm", "--link", "web/main")
    assert links(host, "web") is None
    host.docker("start", "web")
    assert hosts(host, "web") == []


def test_private_aliases_on_networks_with_names(clean: EngineProcess) -> None:
    host = clean
    host.docker("network", "create", "linked")
    try:
        host.docker(*RUN, "db", "--network", "linked", *SLEEP)
        host.docker(*RUN, "web", "--network", "linked", "--link", "db:Main", *SLEEP)
        host.docker(*RUN, "other", "--network", "linked", *SLEEP)
        assert host.text("exec", "web", "ping", "-c1", "-W2", "main")
        assert host.docker("exec", "other", "ping", "-c1", "-W2", "main", check=False).returncode == 1
        assert links(host, "web") is None
        assert host.text("inspect", "-f", "{{json .NetworkSettings.Networks.linked.Links}}", "web") == '["db:Main"]'
        host.docker("network", "connect", "--link", "db:mine", "linked", host.text("create", *SLEEP))
        assert b"not found" not in host.tare("network", "inspect", "linked").stdout
    finally:
        host.remove_containers()
        host.docker("network", "rm", "linked")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--link", "nobody:x"), b"could not get container for nobody: No such container: nobody"),
        (("--link", ":x"), b'could not get container for : invalid name or ID supplied: ""'),
        (("--link", "a:b:c"), b"bad format for links: a:b:c"),
        (("--link", "nobody:x", "--network", "host"), b"host type networking can't be used with links"),
    ],
)
@pytest.mark.parametrize("client", ["docker", "tare"])
def test_what_cannot_be_linked(host: EngineProcess, client: str, options: tuple[str, ...], words: bytes) -> None:
    run = host.docker if client == "docker" else host.tare
    refused = run("run", "--rm", *options, "busybox", "true", check=False)
    assert refused.returncode == 125
    assert words in refused.stderr
    assert not host.text("ps", "-aq", "--filter", "name=x")


def test_host_gateway_is_an_address_of_the_host_everywhere(host: EngineProcess) -> None:
    bridge = host.text("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge")
    for mode in ("bridge", "host", "none"):
        text = host.text(
            "run", "--rm", "--network", mode, "--add-host", "up:host-gateway", "busybox", "cat", "/etc/hosts"
        )
        assert f"{bridge}\tup" in text.splitlines()
