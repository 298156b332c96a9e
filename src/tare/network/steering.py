"""Keeps the firewall's table in line with the database: small changes as elements, all of it when something is off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from tare.network import records
from tare.network.firewall import Firewall, NftError
from tare.network.model import Network
from tare.network.ruleset import Forwarding, Opening, network_elements
from tare.store.database import Database


class Steering:
    """Applies changes that are already committed to the database."""

    def __init__(self, db: Database, table: str) -> None:
        self._db = db
        self._firewall = Firewall(table)
        self._lock = asyncio.Lock()

    async def replace(self) -> None:
        """Rebuild the whole table from the database."""
        async with self._lock:
            await self._replace()

    async def ensure(self) -> bool:
        """Rebuild the table when others flushed it; returns whether that was needed."""
        async with self._lock:
            return await self._firewall.ensure(await self._db.read(records.firewall_state))

    async def remove(self) -> None:
        """Delete the table."""
        async with self._lock:
            await self._firewall.remove()

    async def add_network(self, network: Network) -> None:
        """Let the rules cover a new bridge network."""
        await self._change("add", network_elements(network))

    async def remove_network(self, network: Network) -> None:
        """Forget a bridge network."""
        await self._change("delete", network_elements(network))

    async def publish(self, forwardings: Iterable[Forwarding]) -> None:
        """Open published ports."""
        await self._change("add", [forwarding.element() for forwarding in forwardings])

    async def unpublish(self, forwardings: Iterable[Forwarding]) -> None:
        """Close published ports; their rows may still be there."""
        await self._change("delete", [forwarding.element() for forwarding in forwardings])

    async def open(self, openings: Iterable[Opening]) -> None:
        """Let the outside reach ports at the addresses of containers."""
        await self._change("add", [opening.element() for opening in openings])

    async def close(self, openings: Iterable[Opening]) -> None:
        """Undo :meth:`open`; their rows may still be there."""
        await self._change("delete", [opening.element() for opening in openings])

    async def _change(self, verb: str, elements: list[tuple[str, str]]) -> None:
        if not elements:
            return
        async with self._lock:
            try:
                if await self._firewall.intact():
                    await (self._firewall.add if verb == "add" else self._firewall.delete)(elements)
                    return
            except NftError:  # out of step with the table: the whole state repairs that
                pass
            await self._replace()

    async def _replace(self) -> None:
        await self._firewall.replace(await self._db.read(records.firewall_state))
