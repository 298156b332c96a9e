"""Tracked connections, found and forgotten in a namespace of the test's own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.kernel import conntrack
from tare.kernel.conntrack import Connection
from tare.kernel.namespaces import create_network_namespace, remove_network_namespace, run_in_network_namespace

pytestmark = pytest.mark.root

# Nothing is tracked where no rule asks for it.
RULES = """
table inet tracking {
  chain output { type nat hook output priority -100; ip daddr 127.0.0.1 udp dport 5300 dnat ip to 127.0.0.2:5301; }
  chain input { type filter hook input priority filter; ct state new accept; }
}
"""
LOOPBACK, LOOPBACK6 = ("127.0.0.1", 5300), ("::1", 5302)


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[Path]:
    """A namespace with a loopback that tracks connections."""
    path = tmp_path / "netns"
    create_network_namespace(path)
    try:
        subprocess.run(["nsenter", f"--net={path}", "nft", "-f", "-"], input=RULES, text=True, check=True)
        yield path
    finally:
        remove_network_namespace(path)


@contextlib.contextmanager
def talking(namespace: Path) -> Iterator[None]:
    """A datagram of each IP version and a connection of TCP, while the block runs."""

    def opened(family: int, kind: int, bound: tuple[str, int], asked: tuple[str, int]) -> list[socket.socket]:
        server, client = socket.socket(family, kind), socket.socket(family, kind)
        server.bind(bound)
        if kind == socket.SOCK_STREAM:
            server.listen()
        client.connect(asked)
        if kind == socket.SOCK_DGRAM:
            client.send(b"hello")
            server.settimeout(10)
            assert server.recv(10) == b"hello"
        return [server, client]

    def work() -> list[socket.socket]:
        return [
            *opened(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.2", 5301), LOOPBACK),
            *opened(socket.AF_INET6, socket.SOCK_DGRAM, LOOPBACK6, LOOPBACK6),
            *opened(socket.AF_INET, socket.SOCK_STREAM, LOOPBACK, LOOPBACK),
        ]

    with contextlib.ExitStack() as stack:
        for one in run_in_network_namespace(namespace, work):
            stack.enter_context(one)
        yield


UDP = Connection("udp", "127.0.0.1", 5300, "127.0.0.2", 5301, translated=True)
UDP6 = Connection("udp", "::1", 5302, "::1", 5302, translated=False)
TCP = Connection("tcp", "127.0.0.1", 5300, "127.0.0.1", 5300, translated=False)


def test_connections_are_chosen_by_version_protocol_and_who_answers(namespace: Path) -> None:
    with talking(namespace):

        def seen(version: int, **choice: str) -> set[Connection]:
            found: list[Connection] = []
            run_in_network_namespace(
                namespace,
                lambda: conntrack.forget(lambda one: found.append(one) or False, version, **choice),  # type: ignore[func-returns-value]
            )
            return set(found)

        assert seen(4) == {UDP, TCP}
        assert seen(6) == {UDP6}
        assert seen(4, protocol="udp") == {UDP}
        assert seen(4, protocol="tcp", answering="127.0.0.1") == {TCP}
        assert seen(4, answering="127.0.0.2") == {UDP}
        assert seen(6, answering="::1", protocol="udp") == {UDP6}
        assert seen(6, answering="::2") == set()


def test_what_is_forgotten_is_gone_and_the_rest_stays(namespace: Path) -> None:
    with talking(namespace):

        def forgotten(version: int) -> list[Connection]:
            return run_in_network_namespace(
                namespace, lambda: conntrack.forget(lambda one: one.protocol == "udp", version)
            )

        assert forgotten(4) == [UDP]
        assert forgotten(4) == []
        assert forgotten(6) == [UDP6]
        left = run_in_network_namespace(namespace, lambda: conntrack.forget(lambda _: True, 4))
        assert left == [TCP]
