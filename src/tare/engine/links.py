"""Legacy links: on the network ``bridge``, which has no names, a container learns of others by ``--link``.

The owner of a link gets the target's address in ``/etc/hosts`` and in environment variables. User-defined networks
have private aliases instead, which the name server answers (``EndpointSettings.Links``).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tare.engine.link_environment import link_variables
from tare.engine.paths import EnginePaths
from tare.errors import Conflict, InvalidArgument, NotFound
from tare.model import ContainerStatus
from tare.model.container import Container, HostConfig
from tare.network.model import PREDEFINED
from tare.network.service import NetworkService
from tare.store.database import Database

_decoder = msgspec.json.Decoder(Container)


class Link(NamedTuple):
    """One container known to another as ``alias``; ``name`` is the target's as it is called now, or was last."""

    alias: str
    target: str
    name: str


class Links:
    """Who is linked to whom, and what that means for hosts files and environments."""

    def __init__(self, db: Database, network: NetworkService, paths: EnginePaths) -> None:
        self._db = db
        self._network = network
        self._paths = paths

    async def of(self, container_id: str) -> list[Link]:
        """The links that a container has."""
        return await self._db.read(lambda connection: _links_of(connection, container_id))

    async def names(self) -> dict[str, list[str]]:
        """By container: the names that links give it, ``/owner/alias``."""

        def query(connection: sqlite3.Connection) -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            rows = connection.execute(
                "SELECT target, '/' || containers.name || '/' || alias FROM container_links"
                " JOIN containers ON containers.id = container_links.container ORDER BY 2"
            )
            for target, name in rows:
                found.setdefault(target, []).append(name)
            return found

        return await self._db.read(query)

    async def with_environment(self, container: Container) -> Container:
        """The container with the variables of its links in front of its own, which win.

        Raises Conflict when a target does not run.
        """
        targets = await self._targets(container)
        if not targets:
            return container
        own = container.config.env or []
        given = {variable.partition("=")[0] for variable in own}
        told = [
            variable
            for link, target, address in targets
            for variable in link_variables(
                container.name, link.alias, address, target.config.exposed_ports or (), target.config.env or ()
            )
            if variable.partition("=")[0] not in given
        ]
        return msgspec.structs.replace(container, config=msgspec.structs.replace(container.config, env=[*told, *own]))

    async def hosts(self, container: Container) -> list[tuple[str, str]]:
        """The lines of the container's hosts file that its links make: names and address."""
        lines = []
        for link, target, address in await self._targets(container):
            names = [link.alias, target.config.hostname, *([link.name] if link.alias != link.name else [])]
            lines.append((" ".join(names), address))
        return lines

    async def follow(self, container: Container) -> None:
        """Let the hosts files of running owners say where ``container``, which has just started, is now."""
        owners = await self._db.read(lambda connection: _owners_of(connection, container.id))
        if not owners:
            return
        address = await self._address(container.id)
        for owner, aliases in owners.items():
            path = self._paths.container(owner) / "hosts"
            await asyncio.to_thread(_point_at, path, dict.fromkeys(aliases, address))

    async def remove(self, reference: str) -> None:
        """Remove the link ``owner/alias``. Raises NotFound, Conflict for what is a container's own name."""
        owner, slash, alias = reference.removeprefix("/").partition("/")

        def delete(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT id FROM containers WHERE name=? OR id=?", (owner, owner)).fetchone()
            if row is None:
                raise NotFound(f"No such container: {reference}", code="no-such-container")
            if not slash:
                raise Conflict("Conflict, cannot remove the default link name of the container", code="no-link")
            done = connection.execute("DELETE FROM container_links WHERE container=? AND alias=?", (row[0], alias))
            if not done.rowcount:
                raise NotFound(f"No such container: {reference.removeprefix('/')}", code="no-link")
            return str(row[0])

        container_id = await self._db.write(delete)
        path = self._paths.container(container_id or "") / "hosts"
        await asyncio.to_thread(_point_at, path, {alias: None})

    async def _targets(self, container: Container) -> list[tuple[Link, Container, str]]:
        """The links with the documents and addresses of their targets, all of which run. Raises Conflict."""

        def query(connection: sqlite3.Connection) -> list[tuple[Link, Container | None]]:
            return [(link, _document(connection, link.target)) for link in _links_of(connection, container.id)]

        found = []
        for link, target in await self._db.read(query):
            if target is None or not ContainerStatus(target.state.status).is_live:
                raise Conflict(
                    f"Cannot link to a non running container: /{link.name} AS /{container.name}/{link.alias}",
                    hint=f"start {link.name} first, or remove the link with `rm --link {container.name}/{link.alias}`",
                    code="link-target-stopped",
                )
            found.append((link, target, await self._address(target.id)))
        return [(link, target, address) for link, target, address in found if address]

    async def _address(self, container_id: str) -> str:
        """A container's address on the network ``bridge``; empty when it has none there."""
        for endpoint in await self._network.endpoints_of_container(container_id):
            if endpoint.network_name == "bridge":
                return endpoint.address
        return ""


def wanted_links(host: HostConfig) -> list[tuple[str, str]]:
    """The links that a new container asks for, as pairs of target and alias; the first of an alias counts.

    As in Docker, those of a container on a user-defined network mean nothing here. Raises InvalidArgument.
    """
    if host.network_mode not in (*PREDEFINED, "default", ""):
        return []
    pairs: dict[str, str] = {}
    for text in host.links or []:
        target, alias = read_link(text)
        pairs.setdefault(alias, target)
    return [(target, alias) for alias, target in pairs.items()]


def read_link(text: str) -> tuple[str, str]:
    """``target:alias`` or ``target``; an inspected ``/target:/owner/alias`` too. Raises InvalidArgument."""
    parts = text.split(":")
    if not text or len(parts) > 2:
        raise InvalidArgument(f"bad format for links: {text}", hint="write CONTAINER:ALIAS", code="bad-link")
    target = parts[0].removeprefix("/")
    alias = parts[1].rpartition("/")[2] if len(parts) == 2 else ""
    return target, alias or target


def _links_of(connection: sqlite3.Connection, container_id: str) -> list[Link]:
    rows = connection.execute(
        "SELECT alias, target, target_name FROM container_links WHERE container=? ORDER BY rowid", (container_id,)
    )
    return [Link(*row) for row in rows]


def _owners_of(connection: sqlite3.Connection, target: str) -> Mapping[str, Sequence[str]]:
    """The running containers that have links to ``target``, with their aliases of it."""
    owners: dict[str, list[str]] = {}
    rows = connection.execute(
        "SELECT container, alias, status FROM container_links JOIN containers ON containers.id = container"
        " WHERE target=?",
        (target,),
    )
    for owner, alias, status in rows:
        if ContainerStatus(status).is_live:
            owners.setdefault(owner, []).append(alias)
    return owners


def _document(connection: sqlite3.Connection, container_id: str) -> Container | None:
    row = connection.execute("SELECT document FROM containers WHERE id=?", (container_id,)).fetchone()
    return _decoder.decode(row[0]) if row else None


def _point_at(hosts: Path, addresses: Mapping[str, str | None]) -> None:
    """Rewrite, in place, the lines whose first name is an alias: None removes them; all others stay."""
    try:
        text = hosts.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return
    lines = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[1] not in addresses:
            lines.append(line)
        elif address := addresses[words[1]]:
            lines.append("\t".join([address, " ".join(words[1:])]))
    hosts.write_text("\n".join(lines) + "\n", errors="surrogateescape")
