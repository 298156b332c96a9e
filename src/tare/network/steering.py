"""Keeps the firewall's tables in line with the database: small changes as elements, all of it when something is off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from tare.base.shielding import to_end
from tare.errors import TareError, Unsupported
from tare.network import flows, records
from tare.network.firewall import Firewall, NftError
from tare.network.firewall_features import missing_features
from tare.network.firewall_watch import Culprit, FirewallWatch
from tare.network.model import Network
from tare.network.openings import Opening
from tare.network.ruleset import Detour, FirewallState, Forwarding, network_elements
from tare.store.database import Database

logger = logging.getLogger(__name__)

REPAIR_SECONDS = 0.5


class Steering:
    """Applies changes that are already committed to the database."""

    def __init__(self, db: Database, table: str, detour: Detour | None = None) -> None:
        self._db = db
        self._firewall = Firewall(table)
        self._detour = detour
        self._lock = asyncio.Lock()
        self._watch = FirewallWatch(table, self._changed)
        self._repair: asyncio.Task[None] | None = None
        self._repaired = -REPAIR_SECONDS
        self._again = False

    def watch(self) -> None:
        """From now on put back what others change. Logs when the kernel does not tell of changes."""
        try:
            self._watch.start()
        except OSError as error:
            logger.warning("changes of the firewall by others will go unnoticed: %s", error)

    async def unwatch(self) -> None:
        """Leave the table to others."""
        self._watch.stop()
        if self._repair is not None:
            self._repair.cancel()
            await asyncio.wait([self._repair])

    def _changed(self, culprit: Culprit) -> None:
        if self._repair is None or self._repair.done():
            logger.warning("%s has changed nftables table %s: restoring it", culprit, self._firewall.table)
            self._repair = asyncio.get_running_loop().create_task(self._repair_now())
        else:
            self._again = True

    async def _repair_now(self) -> None:
        """Restore the tables; when others insist, once in REPAIR_SECONDS."""
        loop = asyncio.get_running_loop()
        self._again = True
        while self._again:
            await asyncio.sleep(max(0.0, self._repaired + REPAIR_SECONDS - loop.time()))
            self._again = False
            try:
                await self.replace()
            except TareError:
                logger.exception(
                    "nftables table %s cannot be restored: published ports are closed", self._firewall.table
                )
            self._repaired = loop.time()

    @property
    def table(self) -> str:
        """The table's name."""
        return self._firewall.table

    async def replace(self) -> None:
        """Rebuild the whole table from the database. Raises NftError, Unsupported naming what the kernel lacks."""
        async with self._lock:
            try:
                await self._replace()
            except NftError as error:
                lacking = await asyncio.to_thread(missing_features)
                if not lacking:
                    raise
                raise Unsupported(
                    f"the firewall cannot be set up: the kernel lacks {', '.join(lacking)}",
                    hint="load the modules (`modprobe -a nf_tables nft_nat nft_masq nft_ct nft_fib_inet`)",
                    code="kernel-feature-missing",
                ) from error

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
        await self._change("add", [element for forwarding in opened for element in forwarding.elements()])
        await _forget(flows.forget_earlier, opened)

    async def unpublish(self, forwardings: Iterable[Forwarding]) -> None:
        """Close published ports; their rows may still be there."""
        closed = list(forwardings)
        await self._change("delete", [element for forwarding in closed for element in forwarding.elements()])
        await _forget(flows.forget_closed, closed)

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
                await (self._firewall.add if verb == "add" else self._firewall.delete)(elements)
            except NftError:  # out of step with the table, or it was flushed: the whole state repairs that
                await self._replace()

    async def _replace(self) -> None:
        await self._firewall.replace(await self._state())

    async def _state(self) -> FirewallState:
        return replace(await self._db.read(records.firewall_state), detour=self._detour)


async def _forget(work: Callable[[list[Forwarding]], int], forwardings: list[Forwarding]) -> None:
    """Forget connections that the rules no longer lead where they go; without that they time out by themselves."""
    if not forwardings:
        return
    try:
        await to_end(asyncio.to_thread(work, forwardings))
    except OSError as error:  # a kernel without nf_conntrack_netlink
        logger.warning("clients of published ports may go on to reach who had them before: conntrack: %s", error)
