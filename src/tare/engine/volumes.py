"""The volumes service."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tare.engine.events import Events
from tare.engine.prune_filters import labels_fit
from tare.engine.requests import Filters
from tare.engine.volume_copies import VolumeCopies
from tare.engine.volume_files import VolumeFiles
from tare.errors import Conflict, InvalidArgument, NotFound
from tare.store.database import Database
from tare.volumes.catalogue import Volume, VolumeCatalogue
from tare.volumes.protection import Protections

_LIST_FILTERS = ("dangling", "name", "driver", "label")
_PRUNE_FILTERS = ("label", "label!", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUser:
    """A container that has a volume: its names, state, and where the volume is mounted in it."""

    id: str
    name: str
    status: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUsage:
    """Who uses a volume and what it takes, in bytes on disk; ``size`` -1 when nobody asked."""

    volume: Volume
    users: tuple[VolumeUser, ...]
    protected: bool
    snapshots: int
    snapshots_size: int
    size: int = -1


class Volumes:
    """Make, list, protect and remove volumes; :attr:`copies` has their snapshots and backups, :attr:`files` theirs."""

    def __init__(
        self, db: Database, volumes: VolumeCatalogue, copies: VolumeCopies, files: VolumeFiles, events: Events
    ) -> None:
        self._db = db
        self._volumes = volumes
        self._protections = Protections(db)
        self._events = events
        self.copies = copies
        self.files = files

    async def create(
        self,
        name: str,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume, or return the one of that name. Raises InvalidArgument, NotFound for the driver."""
        known = {volume.name for volume in await self._volumes.list()} if name else set()
        volume = await self._volumes.create(name or None, driver or "local", dict(options or {}), dict(labels or {}))
        if volume.name not in known:
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

    async def protect(self, name: str) -> None:
        """From now on the volume cannot be removed or pruned, also not by force. Raises NotFound."""
        await self._protections.protect(name)
        self._events.publish("volume", "protect", name)

    async def unprotect(self, name: str) -> None:
        """End the protection. Raises NotFound."""
        await self._protections.unprotect(name)
        self._events.publish("volume", "unprotect", name)

    async def usages(
        self, filters: Filters | None = None, *, name: str | None = None, size: bool = False
    ) -> list[VolumeUsage]:
        """The volumes with who uses them, with ``size`` also how big they are. ``name``: that one; raises NotFound."""
        chosen = [await self.inspect(name)] if name else await self.list(filters)
        users, protected = await self._users(), await self._protections.names()
        snapshots = await self.copies.usage()
        found = []
        for volume in chosen:
            count, taken = snapshots.get(volume.name, (0, 0))
            found.append(
                VolumeUsage(
                    volume=volume,
                    users=tuple(users.get(volume.name, ())),
                    protected=volume.name in protected,
                    snapshots=count,
                    snapshots_size=taken,
                    size=await self._volumes.usage(volume.name) if size else -1,
                )
            )
        return found

    async def _users(self) -> dict[str, list[VolumeUser]]:
        query = (
            "SELECT v.volume, c.id, c.name, c.status, v.destination FROM container_volumes v"
            " JOIN containers c ON c.id = v.container ORDER BY c.name, v.destination"
        )

        def read(connection: sqlite3.Connection) -> dict[str, list[VolumeUser]]:
            users: dict[str, list[VolumeUser]] = {}
            for volume, identifier, name, status, destination in connection.execute(query):
                user = VolumeUser(id=identifier, name=name, status=status, destination=destination)
                users.setdefault(volume, []).append(user)
            return users

        return await self._db.read(read)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove. Raises NotFound (not with ``force``), Conflict naming the containers or snapshots that keep it."""
        try:
            driver = (await self._volumes.get(name)).driver
        except NotFound:
            if force:
                return
            raise
        await self._volumes.remove(name, force=force)
        self._events.publish("volume", "destroy", name, {"driver": driver})

    async def prune(self, filters: Filters | None = None) -> tuple[list[str], int]:
        """Remove unused anonymous volumes, with filter ``all`` named ones too; returns names and bytes freed.

        Volumes that are protected or have snapshots stay. Raises InvalidArgument for an unknown filter.
        """
        values = dict(filters or {})
        _check_filters(values, _PRUNE_FILTERS)
        everything = _everything(values)
        kept = await self._protections.names() | (await self.copies.usage()).keys()
        removed, freed = [], 0
        for volume in await self._volumes.list():
            if volume.users or volume.name in kept or not (everything or volume.anonymous):
                continue
            if not labels_fit(volume.labels, values):
                continue
            try:
                size = await self._volumes.usage(volume.name)
                await self.remove(volume.name)
            except (Conflict, NotFound):
                continue  # a container took it meanwhile, or somebody removed it
            removed.append(volume.name)
            freed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return removed, freed

    async def list(self, filters: Filters | None = None) -> list[Volume]:
        """Volumes, by name. Filters: name, driver, dangling, label. Raises InvalidArgument for another."""
        return [*(await self.list_with_warnings(filters))[0]]

    async def list_with_warnings(self, filters: Filters | None = None) -> tuple[Sequence[Volume], Sequence[str]]:
        """The same, and a sentence for each driver that does not answer, whose own volumes may be missing."""
        values = filters or {}
        _check_filters(values, _LIST_FILTERS)
        wanted = _boolean(values, "dangling")
        chosen = []
        volumes, warnings = await self._volumes.list_with_warnings()
        for volume in volumes:
            fits = (
                (not values.get("name") or any(_named(volume.name, value) for value in values["name"]))
                and (not values.get("driver") or volume.driver in values["driver"])
                and (wanted is None or (not volume.users) is wanted)
                and labels_fit(volume.labels, values)
            )
            if fits:
                chosen.append(volume)
        return chosen, warnings


def _check_filters(filters: Filters, known: tuple[str, ...]) -> None:
    for key in filters:
        if key not in known:
            raise InvalidArgument(f"invalid filter '{key}'")


def _everything(filters: Filters) -> bool:
    values = filters.get("all")
    if not values:
        return False
    if values[0].lower() not in ("true", "1", "t", "false", "0", "f"):
        parsing = f'strconv.ParseBool: parsing "{values[0]}": invalid syntax'
        raise InvalidArgument(f"invalid filter 'all': {parsing}")
    return values[0].lower() in ("true", "1", "t")


def _boolean(filters: Filters, key: str) -> bool | None:
    values = filters.get(key)
    if not values:
        return None
    if values[0] in ("true", "1"):
        return True
    if values[0] in ("false", "0"):
        return False
    raise InvalidArgument(f"invalid filter '{key}=[{' '.join(values)}]'")


def _named(name: str, wanted: str) -> bool:
    """Docker takes the value as a regular expression, or as the text itself where it is none."""
    try:
        return wanted == name or re.search(wanted, name) is not None
    except re.error:
        return wanted == name
