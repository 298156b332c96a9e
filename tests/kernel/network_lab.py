"""A laboratory for the engine's networks: namespaces as containers and neighbours, with servers and clients in them."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dnslib import RCODE, DNSRecord

from tare.kernel.namespaces import create_network_namespace, remove_network_namespace, run_in_network_namespace
from tare.network import netlink
from tare.network.model import AddressPool, NetworkSettings
from tare.network.service import NetworkService
from tare.store.database import Database


def command(*argv: str, inside: Path | None = None) -> str:
    prefix = ["nsenter", f"--net={inside}"] if inside else []
    return subprocess.run([*prefix, *argv], check=True, capture_output=True, text=True).stdout


@dataclass
class Lab:
    """An engine's networks with namespaces as containers; ``serve`` answers each connection with the peer's address."""

    root: Path
    db: Database
    instance: str
    service: NetworkService
    settings: NetworkSettings
    pool: str
    links: list[str] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def table(self) -> str:
        return f"tare-{self.instance}"

    def inside(self, name: str) -> Path:
        return self.service.sandbox_path(container(name))

    async def run(self, name: str, network: str, *, port: int = 80, **options: object) -> str:
        """A container that serves ``port``; its address."""
        await self.service.create_sandbox(container(name))
        endpoint = await self.service.attach(container(name), name, network, **options)  # type: ignore[arg-type]
        self.links.append(endpoint.host_interface)
        if port:
            await asyncio.to_thread(run_in_network_namespace, self.inside(name), lambda: self.serve(port))
        return endpoint.address

    def serve(self, port: int, address: str = "0.0.0.0") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family)
        self.sockets.append(listener)

        def work() -> None:
            while True:
                try:
                    connection, peer = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(peer[0].encode())

        threading.Thread(target=work, daemon=True).start()

    async def reach(self, source: Path | None, address: str, port: int = 80, *, within: float = 0.5) -> str:
        """What the server at the address says, or ``"-"`` when it cannot be reached, from a namespace or the host.

        A first packet that is lost is sent again after a second: ``within`` more than that where one must get through.
        """

        def dial() -> str:
            try:
                with socket.create_connection((address, port), timeout=within) as connection:
                    return connection.recv(100).decode()
            except OSError:
                return "-"

        if source is None:
            return await asyncio.to_thread(dial)
        return await asyncio.to_thread(run_in_network_namespace, source, dial)

    async def ask(self, name: str, question: str, kind: str = "A", *, tcp: bool = False) -> tuple[str, list[str]]:
        def work() -> bytes:
            return bytes(DNSRecord.question(question, kind).send("127.0.0.11", 53, timeout=5, tcp=tcp))

        record = DNSRecord.parse(await asyncio.to_thread(run_in_network_namespace, self.inside(name), work))
        return RCODE[record.header.rcode], sorted(str(entry.rdata) for entry in record.rr)

    def again(self) -> NetworkService:
        return NetworkService(self.db, self.root / "run", self.instance, self.settings)

    def remains(self) -> list[str]:
        links = [line.split()[0] for line in command("ip", "-br", "link").splitlines()]
        names = [line.split("@")[0] for line in links]
        found = [name for name in names if name.startswith(f"tr{self.instance}-") or name in self.links]
        found += [line for line in command("nft", "list", "tables").splitlines() if self.table in line]
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.root) in line]
        return found


def container(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


NAMES = ("login", "logout", "payment", "extra")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    db = await Database.open(tmp_path / "data" / "tare.db")

    def seed(connection: object) -> None:
        connection.execute("INSERT INTO blobs VALUES ('i', 1, 'x', 0)")  # type: ignore[attr-defined]
        connection.execute("INSERT INTO images VALUES ('i', 0, 0)")  # type: ignore[attr-defined]
        for name in NAMES:
            row = (container(name), name, "i", "created", 0.0, "{}")
            connection.execute("INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?)", row)  # type: ignore[attr-defined]

    await db.write(seed)
    instance = secrets.token_hex(3)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # nobody answers there: refused at once
    second = 128 + secrets.randbelow(100)  # engines of tests that run at the same time keep apart
    pools = (AddressPool(base=f"10.{second}.0.0/16", size=24),)
    settings = NetworkSettings(default_address_pools=pools, resolv_conf=str(tmp_path / "resolv.conf"))
    service = NetworkService(db, tmp_path / "run", instance, settings)
    made = Lab(tmp_path, db, instance, service, settings, f"10.{second}")
    try:
        await service.start()
        yield made
    finally:
        for listener in made.sockets:
            if listener.type == socket.SOCK_STREAM:
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        await made.service.stop(remove_kernel_state=True)
        await db.close()
    assert made.remains() == []


@contextmanager
def neighbour(tmp_path: Path, network: str) -> Iterator[tuple[Path, str]]:
    """A machine on a LAN of its own with the host: its namespace and the host's address there."""
    path, name = tmp_path / "neighbour", f"nb{secrets.token_hex(4)}"
    create_network_namespace(path)
    try:
        command("ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p")
        move(f"{name}p", path)
        command("ip", "addr", "add", f"{network}.1/24", "dev", name)
        command("ip", "link", "set", name, "up")
        command("ip", "addr", "add", f"{network}.2/24", "dev", f"{name}p", inside=path)
        command("ip", "link", "set", f"{name}p", "up", inside=path)
        run_in_network_namespace(path, lambda: netlink.settle(f"{name}p"))
        netlink.settle(name)
        yield path, f"{network}.1"
    finally:
        subprocess.run(["ip", "link", "del", name], check=False, capture_output=True)
        remove_network_namespace(path)


def move(interface: str, path: Path) -> None:
    """Move an interface into a namespace kept at a path (ip(8) wants a pid or a name under /run/netns)."""
    started, done = threading.Event(), threading.Event()
    identifiers: list[int] = []

    def stay() -> None:
        def work() -> None:
            identifiers.append(threading.get_native_id())
            started.set()
            done.wait(10)

        run_in_network_namespace(path, work)

    thread = threading.Thread(target=stay)
    thread.start()
    started.wait(10)
    try:
        command("ip", "link", "set", interface, "netns", str(identifiers[0]))
    finally:
        done.set()
        thread.join()
