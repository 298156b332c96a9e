"""Volume drivers outside the engine: programs that speak Docker's volume plugin protocol."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tare.errors import InvalidArgument, NotFound, TareError, Unavailable
from tare.volumes.driver import Capabilities, Found, VolumeDriver, VolumeSpec
from tare.volumes.plugin_client import PluginAddress, PluginClient, PluginRefusal, PluginTimes, read_address

logger = logging.getLogger(__name__)

SOCKETS = Path("/run/docker/plugins")
SPECS = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))
_KIND = "VolumeDriver"


class PluginDriver:
    """One plugin as a volume driver (:class:`tare.volumes.driver.VolumeDriver`)."""

    def __init__(self, client: PluginClient) -> None:
        self.name = client.name
        self._client = client
        self._capabilities: Capabilities | None = None

    async def create(self, spec: VolumeSpec) -> None:
        """``/VolumeDriver.Create``."""
        await self._client.work(f"{_KIND}.Create", {"Name": spec.name, "Opts": dict(spec.options)})

    async def remove(self, spec: VolumeSpec) -> None:
        """``/VolumeDriver.Remove``; quiet when the plugin no longer knows the volume."""
        try:
            await self._client.work(f"{_KIND}.Remove", {"Name": spec.name})
        except PluginRefusal:
            if await self.find(spec) is not None:
                raise

    async def find(self, spec: VolumeSpec) -> Found | None:
        """``/VolumeDriver.Get``; a refusal means that there is no such volume, as in Docker."""
        try:
            answer = await self._client.ask(f"{_KIND}.Get", {"Name": spec.name})
        except PluginRefusal:
            return None
        document = answer.get("Volume")
        return _found(document) if isinstance(document, dict) and document.get("Name") else None

    def needs_mount(self, spec: VolumeSpec) -> bool:
        """Always: the protocol says that files are there between Mount and Unmount."""
        return True

    async def adopt(self, spec: VolumeSpec) -> None:
        """Nothing: the plugin looks after it."""

    async def mount(self, spec: VolumeSpec, reference: str) -> Path:
        """``/VolumeDriver.Mount``; the mount point must be an existing directory."""
        answer = await self._client.work(f"{_KIND}.Mount", {"Name": spec.name, "ID": reference})
        place = Path(str(answer.get("Mountpoint") or ""))
        if not place.is_absolute() or not await asyncio.to_thread(place.is_dir):
            raise Unavailable(
                f"{_KIND}.Mount: plugin {self.name!r} gives no directory of this host: {str(place)!r}",
                code="plugin-broken",
            )
        return place

    async def unmount(self, spec: VolumeSpec, reference: str, *, last: bool) -> None:
        """``/VolumeDriver.Unmount``."""
        await self._client.work(f"{_KIND}.Unmount", {"Name": spec.name, "ID": reference})

    async def list(self) -> Sequence[Found]:
        """``/VolumeDriver.List``."""
        answer = await self._client.ask(f"{_KIND}.List", {})
        return [_found(item) for item in answer.get("Volumes") or [] if isinstance(item, dict) and item.get("Name")]

    async def capabilities(self) -> Capabilities:
        """``/VolumeDriver.Capabilities``, asked once; plugins that do not know the call are local."""
        if self._capabilities is None:
            try:
                answer = await self._client.ask(f"{_KIND}.Capabilities", {})
            except PluginRefusal:
                answer = {}
            document = answer.get("Capabilities")
            scope = str(document.get("Scope") or "local").lower() if isinstance(document, dict) else "local"
            self._capabilities = Capabilities(
                scope="global" if scope == "global" else "local", measurable=False, listed=True
            )
        return self._capabilities


class Plugins:
    """The plugins of a host, found anew each time: they come and go while the engine runs."""

    def __init__(
        self, *, sockets: Path = SOCKETS, specs: Sequence[Path] = SPECS, times: PluginTimes | None = None
    ) -> None:
        self._sockets = sockets
        self._specs = specs
        self._times = times or PluginTimes()
        self._active: dict[PluginAddress, PluginDriver] = {}

    async def get(self, name: str) -> VolumeDriver:
        """The plugin of that name, activated.

        Raises NotFound in Docker's words when there is none, Unavailable when it does not answer.
        """
        places = {place.name: place for place in await asyncio.to_thread(self._places)}
        if name not in places:
            raise NotFound(
                f'error looking up volume plugin {name}: plugin "{name}" not found',
                hint=f"a plugin is a socket in {self._sockets}, or a .spec or .json file in"
                f" {' or '.join(map(str, self._specs))}",
                code="unknown-volume-driver",
            )
        return await self._activated(places[name])

    async def all(self) -> tuple[Sequence[VolumeDriver], Sequence[str]]:
        """Every volume plugin that answers, and a sentence for each one that does not."""
        places = await asyncio.to_thread(self._places)
        results = await asyncio.gather(*(self._activated(place) for place in places), return_exceptions=True)
        drivers: list[VolumeDriver] = []
        silent: list[str] = []
        for place, result in zip(places, results, strict=True):
            if isinstance(result, PluginDriver):
                drivers.append(result)
            elif isinstance(result, Unavailable):
                silent.append(str(result))
            elif not isinstance(result, NotFound):
                logger.warning("plugin %s: %s", place.name, result)
        return drivers, silent

    async def _activated(self, place: PluginAddress) -> PluginDriver:
        if (driver := self._active.get(place)) is not None:
            return driver
        client = PluginClient(place, self._times)
        try:
            implements = await client.activate()
        except PluginRefusal as error:
            raise Unavailable(
                f"error looking up volume plugin {place.name}: {error.message}", code="plugin-broken"
            ) from error
        except TareError as error:
            error.message = f"error looking up volume plugin {place.name}: {error.message}"
            raise
        if _KIND not in implements:
            raise NotFound(
                f"error looking up volume plugin {place.name}: plugin {place.name!r} does not implement {_KIND}",
                code="unknown-volume-driver",
            )
        return self._active.setdefault(place, PluginDriver(client))

    def _places(self) -> list[PluginAddress]:
        """Sockets first, then files, in Docker's order; the first of a name counts."""
        found: dict[str, PluginAddress] = {}
        if self._sockets.is_dir():
            for path in sorted([*self._sockets.glob("*.sock"), *self._sockets.glob("*/*.sock")]):
                nested = path.parent != self._sockets
                if path.is_socket() and (not nested or path.parent.name == path.stem):
                    found.setdefault(path.stem, PluginAddress(name=path.stem, address=f"unix://{path}"))
        for directory in self._specs:
            for path in sorted([*directory.glob("*.spec"), *directory.glob("*.json")]) if directory.is_dir() else ():
                try:
                    place = read_address(path)
                except InvalidArgument as error:
                    logger.warning("%s", error)
                    continue
                found.setdefault(place.name, place)
        return list(found.values())


def _found(document: Mapping[str, Any]) -> Found:
    created = 0.0
    if text := document.get("CreatedAt"):
        try:
            created = datetime.fromisoformat(str(text)).timestamp()
        except ValueError:
            logger.debug("a plugin's time cannot be read: %r", text)
    status = document.get("Status")
    return Found(
        name=str(document["Name"]),
        mountpoint=str(document.get("Mountpoint") or ""),
        created=created,
        status=status if isinstance(status, dict) else {},
    )
