"""Names as programs in containers see them: the files in /etc, the resolvers asked, the engine killed meanwhile."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from engine_process import EngineProcess
from tare.kernel.namespaces import run_in_network_namespace

pytestmark = [pytest.mark.root, pytest.mark.e2e]

QUERIES = 5000


@pytest.fixture
def networks(host: EngineProcess) -> Iterator[tuple[str, str]]:
    """Two networks of the user's, the second for nobody's eyes but its containers'."""
    host.docker("network", "create", "near")
    host.docker("network", "create", "--internal", "far")
    yield "near", "far"
    host.remove_containers()
    host.docker("network", "rm", "near", "far")


def address(host: EngineProcess, name: str, network: str) -> str:
    return host.text("inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', name)


def files(host: EngineProcess, name: str) -> tuple[list[str], str]:
    """What comes after the loopback names in /etc/hosts, and /etc/resolv.conf."""
    hosts = host.text("exec", name, "cat", "/etc/hosts").splitlines()
    assert hosts[0] == "127.0.0.1\tlocalhost"
    assert hosts[5].startswith("ff02::2")
    return hosts[6:], host.text("exec", name, "cat", "/etc/resolv.conf")


def test_files_follow_networks_and_edits_are_kept(host: EngineProcess, networks: tuple[str, str]) -> None:
    near, far = networks
    host.docker(
        "run", "-d", "--name", "box", "-h", "box.with.dots", "--add-host", "db:192.0.2.7", "busybox", "sleep", "1000"
    )
    on_bridge = f"{address(host, 'box', 'bridge')}\tbox.with.dots box"
    hosts, resolv = files(host, "box")
    assert hosts == ["192.0.2.7\tdb", on_bridge]
    assert "(legacy)" in resolv
    assert "127.0.0.11" not in resolv

    host.docker("exec", "box", "sh", "-c", "echo '192.0.2.8 mine' >> /etc/hosts")
    host.docker("network", "connect", near, "box")
    on_near = f"{address(host, 'box', near)}\tbox.with.dots box"
    hosts, resolv = files(host, "box")
    assert hosts == ["192.0.2.7\tdb", on_bridge, "192.0.2.8 mine", on_near]
    assert "nameserver 127.0.0.11\n" in resolv
    assert "# ExtServers: [host(" in resolv
    assert resolv.endswith("# Overrides: []\n# Option ndots from: internal")

    host.docker("network", "disconnect", "bridge", "box")
    assert files(host, "box") == (["192.0.2.7\tdb", "192.0.2.8 mine", on_near], resolv)
    host.docker("exec", "box", "sh", "-c", "echo '# mine' >> /etc/resolv.conf")
    host.docker("network", "connect", far, "box")
    host.docker("network", "disconnect", near, "box")
    hosts, changed = files(host, "box")
    assert hosts[2:] == [f"{address(host, 'box', far)}\tbox.with.dots box"]
    assert changed == f"{resolv}\n# mine"

    host.docker("restart", "-t", "0", "box")
    assert files(host, "box") == ([hosts[0], hosts[2]], resolv)
    assert host.text("exec", "box", "cat", "/etc/hostname") == "box.with.dots"


def test_names_are_shown_where_docker_shows_them(host: EngineProcess, networks: tuple[str, str]) -> None:
    host.docker(
        "run", "-d", "--name", "box", "-h", "front", "--network", "near", "--network-alias", "web",
        "--dns", "192.0.2.53", "--dns-search", "corp.example", "--dns-option", "ndots:2", "busybox", "sleep", "1000",
    )  # fmt: skip
    shown = json.loads(host.text("inspect", "-f", "{{json .NetworkSettings.Networks}}", "box"))["near"]
    short = host.text("inspect", "-f", "{{.Id}}", "box")[:12]
    assert shown["DNSNames"] == ["box", "web", short, "front"]
    resolv = files(host, "box")[1]
    assert "\nnameserver 127.0.0.11\nsearch corp.example\noptions ndots:2\n" in resolv
    assert "# ExtServers: [192.0.2.53]\n# Overrides: [nameservers search options]\n" in resolv


class Asker:
    """Asks for one name from inside a container, and remembers every answer that is not the right one."""

    def __init__(self, namespace: Path, name: str, right: str, *, tcp: bool) -> None:
        self._tcp = tcp
        self._right = ("NOERROR", [right])
        self._query = DNSRecord.question(name)
        self.wrong: list[object] = []
        self.halfway = threading.Event()
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        self._socket = run_in_network_namespace(namespace, lambda: socket.socket(socket.AF_INET, kind))
        self._socket.settimeout(10)
        self._socket.connect(("127.0.0.11", 53))
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        with self._socket:
            for number in range(QUERIES // 2):
                self._query.header.id = number
                try:
                    answer = DNSRecord.parse(self._exchange(bytes(self._query.pack())))
                except OSError as error:
                    self.wrong.append(error)
                    break
                seen = RCODE[answer.header.rcode], [str(entry.rdata) for entry in answer.rr if entry.rtype == QTYPE.A]
                if seen != self._right or answer.header.id != number:
                    self.wrong.append((number, seen))
                if number == QUERIES // 8:
                    self.halfway.set()
        self.halfway.set()

    def _exchange(self, query: bytes) -> bytes:
        if not self._tcp:
            self._socket.send(query)
            return self._socket.recv(512)
        self._socket.sendall(struct.pack("!H", len(query)) + query)
        with self._socket.makefile("rb") as stream:
            data = stream.read(struct.unpack("!H", stream.read(2))[0])
        assert isinstance(data, bytes)
        return data

    def end(self) -> list[object]:
        self._thread.join()
        return self.wrong


def test_an_engine_killed_and_started_in_the_middle_of_queries_goes_unnoticed(busybox_tar: bytes) -> None:
    engine = EngineProcess.make()
    try:
        engine.import_busybox(busybox_tar)
        engine.docker("network", "create", "shop")
        for name in ("asker", "login"):
            engine.docker("run", "-d", "--name", name, "--network", "shop", "busybox", "sleep", "1000")
        namespace = Path(f"/proc/{engine.text('inspect', '-f', '{{.State.Pid}}', 'asker')}/ns/net")
        right = address(engine, "login", "shop")
        askers = [Asker(namespace, "login", right, tcp=tcp) for tcp in (False, True)]
        for asker in askers:
            asker.halfway.wait()
        engine.restart(signal.SIGKILL)
        for asker in askers:
            assert asker.end() == []

        lock = engine.run_root / "dns.sock.lock"
        pid = int(lock.read_text())
        watch = os.pidfd_open(pid)
        signal.pidfd_send_signal(watch, signal.SIGKILL)
        wait_for_end(watch)
        engine.docker("run", "-d", "--name", "late", "--network", "shop", "busybox", "sleep", "1000")
        assert int(lock.read_text()) != pid
        assert right in engine.text("exec", "asker", "nslookup", "login", "127.0.0.11")
        engine.remove_containers()
        engine.docker("network", "rm", "shop")
    finally:
        engine.stop()


def wait_for_end(watch: int) -> None:
    """Wait for the end of a process by its pidfd, and close this."""
    assert select.select([watch], [], [], 30)[0]
    os.close(watch)
