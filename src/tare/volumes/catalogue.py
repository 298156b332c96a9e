"""All volumes of one engine: rows of the database, and the drivers that hold the files."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tare.base.locks import KeyedLocks
from tare.errors import Conflict, NotFound, TareError
from tare.model import new_id
from tare.store.database import Database
from tare.store.usage import disk_usage
from tare.volumes.driver import Capabilities, Found, VolumeDriver, VolumeSpec
from tare.volumes.live_mounts import boot_id
from tare.volumes.local import DRIVER, LocalDriver, check_name
from tare.volumes.local_options import Ownership, parse_ownership
from tare.volumes.model import ANONYMOUS_LABEL, User, Volume
from tare.volumes.records import Guard, VolumeRecords

__all__ = ["Drivers", "Volume", "VolumeCatalogue"]

logger = logging.getLogger(__name__)


class Drivers(Protocol):
    """Drivers that come and go while the engine runs: plugins."""

    async def get(self, name: str) -> VolumeDriver:
        """The driver of that name. Raises NotFound, Unavailable."""
        ...

    async def all(self) -> tuple[Sequence[VolumeDriver], Sequence[str]]:
        """Those that answer, and a sentence for each one that does not."""
        ...


class VolumeCatalogue:
    """The volumes of one engine. ``root`` holds those of the local driver; ``plugins`` may be None."""

    def __init__(
        self, db: Database, root: Path, drivers: Iterable[VolumeDriver] = (), plugins: Drivers | None = None
    ) -> None:
        self.records = VolumeRecords(db)
        self.local = LocalDriver(root)
        self._drivers: dict[str, VolumeDriver] = {driver.name: driver for driver in (self.local, *drivers)}
        self._plugins = plugins
        self._locks = KeyedLocks()
        self._claims: dict[str, list[str]] = {}
        self._boot = boot_id()

    def add_guard(self, guard: Guard) -> None:
        """Ask ``guard`` in the transaction of every deletion; it raises Conflict to keep a volume."""
        self.records.add_guard(guard)

    async def recover(self) -> None:
        """Bring files and mounts in line with the rows; call it before containers are adopted.

        Deletions that a crash cut short are finished. Directories of data are never deleted because a row is missing.
        Mounts of containers that no longer exist are undone; those of the others follow their container.
        """
        await self.local.recover({volume.name for volume in await self.records.list()})
        await self.records.forget_other_boots(self._boot)
        known = await self.records.containers()
        rows = await self.records.mounts()
        for row in rows:
            if row.reference not in known:
                logger.info("volume %s: undoing the mount of a container that is gone", row.volume)
                await self._undo(row.volume, row.reference)
        mounted = {row.volume for row in rows if row.reference in known}
        for volume in await self.records.list():
            if volume.name in mounted and volume.driver in self._drivers:
                await self._drivers[volume.driver].adopt(_spec(volume))
        strangers = [one for one in await self.records.list() if one.driver in self._drivers and self.needs_mount(one)]
        await self.local.unmount_strangers(one.name for one in strangers if one.name not in mounted)

    @contextmanager
    def claim(self, name: str, container_id: str) -> Iterator[None]:
        """Refuse the removal of a volume, which need not be there yet, while a container that will have it is made.

        In memory alone: what is being made ends with the engine.
        """
        self._claims.setdefault(name, []).append(container_id)
        try:
            yield
        finally:
            self._claims[name].remove(container_id)
            if not self._claims[name]:
                del self._claims[name]

    async def create(
        self,
        name: str | None,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        *,
        anonymous: bool = False,
    ) -> Volume:
        """Make a volume, or return the one that has the name already. Without a name, or if asked, it is anonymous.

        Raises InvalidArgument for the name or an option, NotFound for an unknown driver, Conflict when another driver
        has a volume of that name, Unavailable, Exhausted.
        """
        anonymous = anonymous or not name
        chosen = name or new_id()
        if (driver or DRIVER) in self._drivers:
            with _about("create", chosen):
                check_name(chosen)
        all_labels = dict(labels or {})
        if anonymous:
            all_labels[ANONYMOUS_LABEL] = ""
        async with self._locks.hold(chosen):
            existing = await self.records.find(chosen)
            with _about("create", chosen):
                if existing is not None and driver in ("", existing.driver):
                    return await self._described(existing)
                keeper = await self.driver(driver or DRIVER)
                if existing is not None:
                    raise Conflict(
                        f"driver '{existing.driver}' already has volume '{chosen}': volume name must be unique"
                    )
                await self._create(keeper, VolumeSpec(chosen, dict(options or {})), all_labels, anonymous=anonymous)
        return await self.get(chosen)

    async def _create(
        self, driver: VolumeDriver, spec: VolumeSpec, labels: Mapping[str, str], *, anonymous: bool
    ) -> None:
        known = (await driver.capabilities()).listed and await driver.find(spec) is not None
        await driver.create(spec)
        try:
            await self.records.insert(spec.name, driver.name, spec.options, labels, anonymous=anonymous)
        except BaseException:
            if not known:
                await self._undo_create(driver, spec)
            raise

    async def _undo_create(self, driver: VolumeDriver, spec: VolumeSpec) -> None:
        try:
            if driver is self.local:
                await self.local.remove_if_empty(spec)
            else:
                await driver.remove(spec)
        except TareError as error:
            logger.warning("volume %s: what was made of it stays: %s", spec.name, error)

    async def driver(self, name: str) -> VolumeDriver:
        """A driver by its name. Raises NotFound in Docker's words, Unavailable when its plugin does not answer."""
        if (found := self._drivers.get(name)) is not None:
            return found
        if self._plugins is None:
            raise NotFound(
                f'error looking up volume plugin {name}: plugin "{name}" not found', code="unknown-volume-driver"
            )
        return await self._plugins.get(name)

    async def get(self, name: str) -> Volume:
        """The volume, as its driver knows it now. Raises NotFound."""
        if (volume := await self.records.find(name)) is not None:
            return await self._described(volume)
        for found in await self._unrecorded({name}):
            return found
        raise NotFound(f"get {name}: no such volume", code="no-such-volume")

    async def list_with_warnings(self) -> tuple[Sequence[Volume], Sequence[str]]:
        """As :meth:`list`, with a sentence for each driver that does not answer, as Docker gives them."""
        volumes = await self.records.list()
        known = {volume.name for volume in volumes}
        plugins: dict[str, tuple[Capabilities, dict[str, Found]]] = {}
        drivers, silent = await self._plugins.all() if self._plugins is not None else ((), ())
        warnings = [*silent]
        for driver in drivers:
            try:
                plugins[driver.name] = (
                    await driver.capabilities(),
                    {found.name: found for found in await driver.list()},
                )
            except TareError as error:
                warnings.append(f"list {driver.name}: {error}")
        described = []
        for volume in volumes:
            if volume.driver in self._drivers:
                described.append(await self._described(volume))
            elif volume.driver in plugins:
                capabilities, listed = plugins[volume.driver]
                described.append(_join(volume, listed.get(volume.name), capabilities))
            else:
                described.append(volume)
        for driver_name, (capabilities, listed) in plugins.items():
            described += [
                _stranger(found, driver_name, capabilities) for name, found in listed.items() if name not in known
            ]
        return sorted(described, key=lambda volume: volume.name), warnings

    async def _unrecorded(self, names: set[str]) -> Sequence[Volume]:
        """Volumes of these names that plugins know and no row does."""
        found = []
        for driver in (await self._plugins.all())[0] if self._plugins is not None else ():
            for name in names:
                try:
                    one = await driver.find(VolumeSpec(name))
                    if one is not None:
                        found.append(_stranger(one, driver.name, await driver.capabilities()))
                except TareError as error:
                    logger.warning("volume driver %s: %s", driver.name, error)
        return found

    async def _described(self, volume: Volume) -> Volume:
        """``volume`` with what its driver knows; a driver that does not answer is told of in the status."""
        try:
            driver = await self.driver(volume.driver)
            found = await driver.find(_spec(volume))
            return _join(volume, found, await driver.capabilities())
        except TareError as error:
            return replace(volume, status={"error": str(error)})

    async def exists(self, name: str) -> bool:
        """Whether there is a row of that name."""
        return await self.records.find(name) is not None

    def path_if_plain(self, name: str, driver: str) -> Path | None:
        """The directory of a local volume; None for one of another driver."""
        return self.local.path(name) if driver == DRIVER else None

    async def ownership(self, name: str) -> Ownership:
        """The owner and mode that a local volume was made with by request."""
        volume = await self.records.find(name)
        return parse_ownership(volume.options) if volume is not None and volume.driver == DRIVER else Ownership()

    async def users(self, name: str) -> Sequence[User]:
        """The containers that refer to the volume."""
        return await self.records.users(name)

    async def remove(self, name: str, force: bool = False, *, claimant: str = "") -> None:
        """Delete a volume and its data; with ``force`` quiet when there is none.

        Raises NotFound; Conflict naming the containers that have it, or where it is still mounted (``force`` changes
        neither); Unavailable when its driver does not answer (``force`` forgets the volume then). A claim of the
        container ``claimant`` does not count.
        """
        async with self._locks.hold(name):
            volume = await self.records.find(name)
            if volume is None:
                strangers = await self._unrecorded({name})
                if not strangers:
                    if force:
                        return
                    raise NotFound(f"get {name}: no such volume", code="no-such-volume")
                with _about("remove", name):
                    await (await self.driver(strangers[0].driver)).remove(VolumeSpec(name))
                return
            await self.records.check_removable(name)
            self._refuse_claimed(name, claimant)
            await self._remove(volume, force=force)

    def _refuse_claimed(self, name: str, claimant: str) -> None:
        if others := [one for one in self._claims.get(name, ()) if one != claimant]:
            raise Conflict(
                f"remove {name}: volume is in use - [{', '.join(others)}]",
                hint="a container that is being made has it: remove that one first",
                code="volume-in-use",
            )

    async def _remove(self, volume: Volume, *, force: bool) -> None:
        spec = _spec(volume)
        if volume.driver in self._drivers:
            await self.local.refuse_mounted(spec)
            await self.local.doom(volume.name)
            try:
                await self.records.delete(volume.name)  # the row first: files that are left are collected at a start
            except TareError:
                await self.local.spare(volume.name)
                raise
            await self._drivers[volume.driver].remove(spec)
            await self.local.spare(volume.name)
            return
        try:
            with _about("remove", volume.name):
                await (await self.driver(volume.driver)).remove(spec)
        except TareError as error:
            if not force:
                raise
            logger.warning("volume %s is forgotten, its driver has not removed it: %s", volume.name, error)
        await self.records.delete(volume.name)

    def path(self, name: str) -> Path:
        """The directory with the content of a volume of the local driver. Raises InvalidArgument for the name."""
        return self.local.path(name)

    def needs_mount(self, volume: Volume) -> bool:
        """Whether the volume's files are there only between :meth:`mount` and :meth:`unmount`."""
        driver = self._drivers.get(volume.driver)
        return driver is None or driver.needs_mount(_spec(volume))

    async def usage(self, name: str) -> int:
        """Bytes on disk; -1 where they cannot be told without walking through files elsewhere. Raises NotFound."""
        volume = await self.get(name)
        driver = self._drivers.get(volume.driver)
        if driver is None or not volume.mountpoint or not (await driver.capabilities()).measurable:
            return -1
        return await asyncio.to_thread(disk_usage, Path(volume.mountpoint))

    async def mount(self, name: str, reference: str) -> Path:
        """Make the volume's files visible for a container and return where; undone by :meth:`release`.

        Raises NotFound, Unavailable naming the cause.
        """
        async with self._locks.hold(name):
            if (volume := await self.records.find(name)) is None:
                raise NotFound(f"get {name}: no such volume", code="no-such-volume")
            spec, driver = _spec(volume), await self.driver(volume.driver)
            if not driver.needs_mount(spec):
                return await self.local.existing(spec)
            try:
                await self.records.begin_mount(name, reference, self._boot)
            except sqlite3.IntegrityError as error:
                raise NotFound(f"get {name}: no such volume", code="no-such-volume") from error
            try:
                place = await driver.mount(spec, reference)
                await self.records.note_mount(name, reference, os.fspath(place))
            except BaseException as error:
                await self._undo_locked(name, reference)
                if isinstance(error, TareError):
                    raise _mount_error(error, volume, self.local.path(name)) from error
                raise
            return place

    async def release(self, reference: str) -> None:
        """Undo every mount of a container; what cannot be undone is logged and tried again at the next start."""
        for row in await self.records.mounts(reference=reference):
            await self._undo(row.volume, reference)

    async def _undo(self, name: str, reference: str) -> None:
        async with self._locks.hold(name):
            await self._undo_locked(name, reference)

    async def _undo_locked(self, name: str, reference: str) -> None:
        volume = await self.records.find(name)
        if volume is not None:
            others = [row for row in await self.records.mounts(volume=name) if row.reference != reference]
            try:
                driver = await self.driver(volume.driver)
                await driver.unmount(_spec(volume), reference, last=not others)
            except TareError as error:
                logger.warning("volume %s: its mount for %s stays: %s", name, reference[:12], error)
                if volume.driver in self._drivers:
                    return
        await self.records.end_mount(name, reference)

    async def list(self) -> list[Volume]:
        """All volumes, sorted by name, those among them that only plugins know."""
        return [*(await self.list_with_warnings())[0]]


class _about:  # noqa: N801 - reads as a statement
    """Errors inside begin with the operation and the volume, as Docker's do."""

    def __init__(self, operation: str, name: str) -> None:
        self._prefix = f"{operation} {name}: "

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TareError) and not error.message.startswith(self._prefix):
            error.message = f"{self._prefix}{error.message}"


def _mount_error(error: TareError, volume: Volume, place: Path) -> TareError:
    where = volume.mountpoint or os.fspath(place)
    return type(error)(
        f"error while mounting volume '{where}': {error.message}",
        hint=error.hint,
        code=error.code or "volume-mount-failed",
    )


def _spec(volume: Volume) -> VolumeSpec:
    return VolumeSpec(volume.name, volume.options)


def _join(volume: Volume, found: Found | None, capabilities: Capabilities) -> Volume:
    if found is None:
        return replace(volume, scope=capabilities.scope, status={"error": "the driver does not know this volume"})
    return replace(volume, mountpoint=found.mountpoint, scope=capabilities.scope, status=found.status)


def _stranger(found: Found, driver: str, capabilities: Capabilities) -> Volume:
    return Volume(
        name=found.name,
        driver=driver,
        mountpoint=found.mountpoint,
        created=found.created,
        anonymous=False,
        options={},
        labels={},
        scope=capabilities.scope,
        status=found.status,
    )
