"""The volumes service."""

from __future__ import annotations

from collections.abc import Mapping

from tare.engine.events import Events
from tare.engine.requests import Filters
from tare.errors import Conflict, InvalidArgument
from tare.volumes.catalogue import Volume, VolumeCatalogue


class Volumes:
    """Make, list and remove volumes."""

    def __init__(self, volumes: VolumeCatalogue, events: Events) -> None:
        self._volumes = volumes
        self._events = events

    async def create(
        self,
        name: str,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume, or return the one of that name. Raises InvalidArgument, NotFound for the driver."""
        volume = await self._volumes.create(name or None, driver or "local", dict(options or {}), dict(labels or {}))
        self._events.publish("volume", "create", volume.name, {"driver": volume.driver})
        return volume

    async def inspect(self, name: str) -> Volume:
        """Find by name. Raises NotFound."""
        return await self._volumes.get(name)

    def mountpoint(self, name: str) -> str:
        """Where the volume's data are on the host."""
        return str(self._volumes.path(name))

    async def usage(self, name: str) -> int:
        """Bytes on disk. Raises NotFound."""
        return await self._volumes.usage(name)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove. Raises NotFound, Conflict naming the containers that use it."""
        await self._volumes.remove(name, force=force)
        self._events.publish("volume", "destroy", name, {"driver": "local"})

    async def prune(self, filters: Filters | None = None) -> tuple[list[str], int]:
        """Remove unused anonymous volumes, with filter ``all`` named ones too; returns names and bytes freed."""
        values = dict(filters or {})
        everything = (values.pop("all", None) or ["false"])[0].lower() in ("true", "1")
        removed, freed = [], 0
        for volume in await self.list(values):
            if volume.users or not (everything or volume.anonymous):
                continue
            size = await self._volumes.usage(volume.name)
            try:
                await self.remove(volume.name)
            except Conflict:
                continue  # a container took it meanwhile
            removed.append(volume.name)
            freed += size
        return removed, freed

    async def list(self, filters: Filters | None = None) -> list[Volume]:
        """Volumes, by name. Filters: name, driver, dangling, label."""
        chosen = await self._volumes.list()
        for key, values in (filters or {}).items():
            if key == "name":
                chosen = [volume for volume in chosen if any(value in volume.name for value in values)]
            elif key == "driver":
                chosen = [volume for volume in chosen if volume.driver in values]
            elif key == "dangling":
                wanted = values[0].lower() in ("true", "1")
                chosen = [volume for volume in chosen if (not volume.users) is wanted]
            elif key in ("label", "label!", "all"):
                chosen = [volume for volume in chosen if key == "all" or _labelled(volume, values) is (key == "label")]
            else:
                raise InvalidArgument(f"invalid filter '{key}'")
        return chosen


def _labelled(volume: Volume, wanted: list[str]) -> bool:
    for item in wanted:
        key, equals, value = item.partition("=")
        if key not in volume.labels or (equals and volume.labels[key] != value):
            return False
    return True
