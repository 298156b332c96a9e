"""Keeps the firewall's table in line with the database: small changes as elements, all of it when something is off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from tare.base.shielding import to_end
from tare.network import flows, records
from tare.network.firewall import Firewall, NftError
from tare.network.model import Network
from tare.network.ruleset import Forwarding, network_elements
from tare.store.database import Database

logger = logging.getLogger(__name__)


class Steering:
    """Applies changes that are already committed to the database."""

    def __init__(self, db: Database, table: str) -> None:
        self._db = db
        self._firewall = Firewall(table)
        self._lock = asyncio.Lock()

    @property
    def table(self) -> str:
        """The table's name."""
        return self._firewall.table

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
        opened = list(forwardings)
        await self._change("add", [forwarding.element() for forwarding in opened])
        await _forget(flows.forget_earlier, opened)

    async def unpublish(self, forwardings: Iterable[Forwarding]) -> None:
        """Close published ports; their rows may still be there."""
        closed = list(forwardings)
        await self._change("delete", [forwarding.element() for forwarding in closed])
        await _forget(flows.forget_closed, closed)

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


async def _forget(work: Callable[[list[Forwarding]], int], forwardings: list[Forwarding]) -> None:
    """Forget connections that the rules no longer lead where they go; without that they time out by themselves."""
    if not forwardings:
        return
    try:
        await to_end(asyncio.to_thread(work, forwardings))
    except OSError as error:  # a kernel without nf_conntrack_netlink
        logger.warning("clients of published ports may go on to reach who had them before: conntrack: %s", error)
