"""Engines killed between any two steps in database and kernel while networks are made, joined, left and removed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crash_points import CrashingEngine

pytestmark = [pytest.mark.root, pytest.mark.e2e]

FIRST_TO_LAST = 80  # more steps than any operation has
STRIDE = int(os.environ.get("TARE_TEST_CRASH_STRIDE", "12"))
"""Every how many steps the engine is killed; 1 tries every step and takes minutes."""

PORTS = ("-p", "27801:80", "-p", "27802-27805:27802-27805/udp", "-p", "127.0.0.1:27806:81,from=10.0.0.0/8")


@pytest.fixture(scope="module")
def own(busybox_tar: bytes) -> Iterator[CrashingEngine]:
    engine = CrashingEngine.make()
    assert isinstance(engine, CrashingEngine)
    engine.starts.mkdir()
    engine.import_busybox(busybox_tar)
    yield engine
    engine.stop()


@pytest.fixture(autouse=True)
def _nothing_left(own: CrashingEngine) -> Iterator[None]:
    yield
    own.plan.unlink(missing_ok=True)
    if own.process is not None and own.process.poll() is not None:
        own.begin_again()
    own.remove_containers()
    for name in own.text("network", "ls", "-q", "--filter", "type=custom").split():
        own.docker("network", "rm", name)


def crash_points(own: CrashingEngine, operation: Callable[[], object]) -> Iterator[int]:
    """Kill the engine at each of the steps of ``operation`` that are tried; yields when it runs again."""
    for step in range(1, FIRST_TO_LAST, STRIDE):
        own.crash_at(step)
        operation()
        crashed = own.has_crashed()
        if crashed:
            own.begin_again()
        yield step
        if not crashed:
            return


def rows(own: CrashingEngine, query: str) -> list[Any]:
    with sqlite3.connect(f"file:{own.data_root}/tare.db?mode=ro", uri=True) as database:
        return database.execute(query).fetchall()


def shown(*argv: str) -> Any:
    return json.loads(subprocess.run(argv, check=True, capture_output=True).stdout or b"[]")


def elements(own: CrashingEngine, kind: str, *names: str) -> int:
    """How many elements sets or maps have, those of both families."""
    return sum(_elements(own, kind, f"{name}{suffix}") for name in names for suffix in ("", "6"))


def _elements(own: CrashingEngine, kind: str, name: str) -> int:
    listing = shown("nft", "-j", "list", kind, "inet", f"tare-{own.instance}", name)
    found = next(item[kind] for item in listing["nftables"] if kind in item)
    return len(found.get("elem", []))


def assert_agreement(own: CrashingEngine) -> None:
    """Interfaces and rules are those of the rows, and rows are whole."""
    networks = [json.loads(row[0]) for row in rows(own, "SELECT document FROM networks")]
    endpoints = [json.loads(row[0]) for row in rows(own, "SELECT document FROM endpoints")]
    links = {link["ifname"]: link for link in shown("ip", "-j", "-d", "link")}
    bridges = {one["bridge_name"] for one in networks if one["bridge_name"]}
    assert {name for name in links if name.startswith(f"tr{own.instance}-")} == bridges
    parents = {one["macvlan"]["parent"] for one in networks if one.get("macvlan") and one["macvlan"]["made"]}
    assert {name for name, link in links.items() if link.get("ifalias") == f"tare-{own.instance}"} == parents
    ports = {name for name, link in links.items() if link.get("master") in bridges}
    assert ports == {one["host_interface"] for one in endpoints if one.get("host_interface")}
    held = {(one["network_id"], one[key]) for one in endpoints for key in ("address", "address6") if one.get(key)}
    assert set(rows(own, "SELECT network, address FROM addresses WHERE endpoint IS NOT NULL")) == held

    assert _elements(own, "set", "bridges") == len(bridges)
    published = rows(own, "SELECT count, host_port = container_port, sources FROM published_ports")
    assert elements(own, "map", "ranges") == sum(1 for count, equal, _ in published if count > 1 and equal)
    assert elements(own, "map", "published_everywhere", "published_at") == sum(
        count for count, equal, _ in published if count == 1 or not equal
    )
    assert elements(own, "set", "limited") == sum(1 for _, _, sources in published if sources)


@pytest.fixture
def wire(own: CrashingEngine) -> Iterator[str]:
    """An interface for macvlan networks to stand on."""
    name = f"tc{own.instance}"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    yield name
    subprocess.run(["ip", "link", "del", name], check=True)


@pytest.mark.parametrize("driver", ["bridge", "macvlan"])
def test_killed_while_a_network_is_made_and_removed(own: CrashingEngine, wire: str, driver: str) -> None:
    options: tuple[str, ...] = ("-d", "macvlan", "--subnet", "10.249.7.0/24", "-o", f"parent={wire}")
    if driver == "bridge":
        options = ("--ipv6",)
    for _ in crash_points(own, lambda: own.docker("network", "create", *options, "torn", check=False)):
        assert_agreement(own)
        own.docker("network", "rm", "torn", check=False)
        assert_agreement(own)
        own.docker("network", "create", *options, "torn")  # whatever was left of it is not in the way
        own.docker("network", "rm", "torn")
    own.docker("network", "create", *options, "torn")
    for _ in crash_points(own, lambda: own.docker("network", "rm", "torn", check=False)):
        assert_agreement(own)
        own.docker("network", "create", *options, "torn", check=False)
    own.docker("network", "rm", "torn", check=False)


def test_killed_while_a_container_joins_and_leaves(own: CrashingEngine) -> None:
    own.docker("network", "create", "--ipv6", "second")
    own.tare("run", "-d", "--name", "one", *PORTS, "busybox", "sleep", "1000")
    for _ in crash_points(own, lambda: own.docker("network", "connect", "second", "one", check=False)):
        assert_agreement(own)
        assert own.state("one") == "running"
        own.docker("network", "disconnect", "second", "one", check=False)
        assert_agreement(own)
    own.docker("network", "connect", "second", "one")
    for _ in crash_points(own, lambda: own.docker("network", "disconnect", "second", "one", check=False)):
        assert_agreement(own)
        assert own.state("one") == "running"
        own.docker("network", "connect", "second", "one", check=False)
        assert_agreement(own)


def test_killed_while_ports_are_published_and_closed(own: CrashingEngine) -> None:
    own.tare("create", "--name", "one", *PORTS, "busybox", "sleep", "1000")
    for _ in crash_points(own, lambda: own.docker("start", "one", check=False)):
        assert_agreement(own)
        own.docker("start", "one")
        assert_agreement(own)
        assert len(rows(own, "SELECT 1 FROM published_ports")) == 3
        own.docker("stop", "-t0", "one")
        assert rows(own, "SELECT 1 FROM published_ports") == []
        assert_agreement(own)
    for _ in crash_points(own, lambda: own.docker("stop", "-t0", "one", check=False)):
        own.docker("stop", "-t0", "one")
        assert_agreement(own)
        own.docker("start", "one")
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "1\n"
