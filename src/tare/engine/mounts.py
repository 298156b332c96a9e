"""A container's own mounts for one run: volumes mounted by their drivers, subpaths, images, other owners.

What cannot be handed to the runtime as a path of the host is mounted below ``<run root>/mounts/<container>/`` first.
"""

from __future__ import annotations

import asyncio
import errno
import posixpath
from pathlib import Path

import msgspec

from tare.archive.confined import resolve_in_root
from tare.engine.id_maps import Maps, exchange, parse_idmap
from tare.engine.paths import EnginePaths
from tare.errors import InvalidArgument, Unsupported
from tare.kernel.idmap import clone_idmapped
from tare.kernel.mounts import bind_mount, mount_table, unmount_below
from tare.model.container import Container, MountDetail, MountPoint
from tare.runtime.users import UserIds, resolve_user
from tare.store.store import Store
from tare.volumes.catalogue import VolumeCatalogue
from tare.volumes.subpaths import mount_subpath

ADJUSTED = (".map", ".sub", "")
"""Ends of the names of mounts that stand for a source in a run, the last made first."""


class ContainerMounts:
    """Makes and undoes them."""

    def __init__(self, *, volumes: VolumeCatalogue, store: Store, paths: EnginePaths) -> None:
        self._volumes = volumes
        self._store = store
        self._paths = paths

    async def prepare(self, container: Container) -> Container:
        """``container`` with the sources of its mounts as the runtime is to bind them; undone by :meth:`release`.

        Raises NotFound, Unavailable, Unsupported, InvalidArgument naming the mount.
        """
        points = []
        for number, point in enumerate(container.mounts):
            detail = container.mount_details.get(point.destination) or MountDetail()
            points.append(await self._prepare(container, point, detail, self._directory(container.id) / str(number)))
        for destination, options in (container.host_config.tmpfs or {}).items():
            where = posixpath.normpath(destination)
            if all(point.destination != where for point in points):  # containers of earlier versions list them
                points.append(MountPoint(type="tmpfs", source="", destination=where, mode=options))
        await asyncio.to_thread(_check_kinds, self._paths.rootfs(container.id), points)
        return msgspec.structs.replace(container, mounts=points)

    async def release(self, container_id: str) -> None:
        """Undo :meth:`prepare`; quiet when there is nothing."""
        await asyncio.to_thread(_clear, self._directory(container_id))
        await self._volumes.release(container_id)

    def current(self, container: Container) -> Container:
        """``container`` with the sources that :meth:`prepare` gave its mounts for the run that goes on; blocks briefly.

        Those of tmpfs mounts are in the container alone.
        """
        points = []
        for number, point in enumerate(container.mounts):
            places = (self._directory(container.id) / f"{number}{suffix}" for suffix in ADJUSTED)
            source = next((str(place) for place in places if place.exists()), point.source)
            kind = "bind" if point.type in ("volume", "image") else point.type
            points.append(msgspec.structs.replace(point, type=kind, source=source))
        return msgspec.structs.replace(container, mounts=points)

    async def volume(self, name: str, subpath: str, container_id: str, number: int) -> Path:
        """Mount a volume for a container before it starts, as copying into it needs; undone by :meth:`release`."""
        place = await self._volumes.mount(name, container_id)
        if not subpath:
            return place
        target = self._directory(container_id) / str(number)
        await asyncio.to_thread(_mount_subpath, place, subpath, target)
        return target

    async def _prepare(self, container: Container, point: MountPoint, detail: MountDetail, place: Path) -> MountPoint:
        if point.type == "tmpfs":
            return msgspec.structs.replace(point, mode=detail.tmpfs or point.mode)
        source = Path(point.source)
        if point.type == "image":
            source = await self._image(detail.image, place)
        elif point.type == "volume":
            source = await self._volumes.mount(point.name, container.id)
        if detail.subpath:
            target = place.with_name(f"{place.name}.sub")
            await asyncio.to_thread(_mount_subpath, source, detail.subpath, target)
            source = target
        if detail.idmap is not None:
            maps = await asyncio.to_thread(self._maps, container, detail.idmap, source)
            await asyncio.to_thread(_mount_mapped, source, maps, place.with_name(f"{place.name}.map"))
            source = place.with_name(f"{place.name}.map")
        elif point.type == "bind":
            source = await asyncio.to_thread(_adjust, source, point, detail, place)
        return msgspec.structs.replace(point, type="bind", source=str(source))

    async def _image(self, image_id: str, place: Path) -> Path:
        image = await self._store.images.resolve(image_id)
        lowers = [await self._store.snapshots.ensure_layer(diff_id) for diff_id in image.diff_ids]
        await asyncio.to_thread(place.mkdir, parents=True)
        await self._store.snapshots.view(lowers, place)
        return place

    def _maps(self, container: Container, text: str, source: Path) -> Maps:
        if (maps := parse_idmap(text)) is not None:
            return maps
        owner = source.stat()
        user: UserIds = resolve_user(self._paths.rootfs(container.id), container.config.user, [])
        return exchange(owner.st_uid, user.uid), exchange(owner.st_gid, user.gid)

    def _directory(self, container_id: str) -> Path:
        return self._paths.run_root / "mounts" / container_id


def check_propagation(source: str, propagation: str) -> None:
    """Refuse a propagation that the host's mounts do not have, in Docker's words. Raises InvalidArgument."""
    if propagation not in ("shared", "rshared", "slave", "rslave"):
        return
    path = str(Path(source).resolve())
    within = [
        entry for entry in mount_table() if path == entry.target or path.startswith(f"{entry.target.rstrip('/')}/")
    ]
    mount = max(within, key=lambda entry: (len(entry.target), entry.mount_id))
    if mount.is_shared or (propagation.endswith("slave") and mount.is_slave):
        return
    wanted = "shared mount" if propagation.endswith("shared") else "shared or slave mount"
    raise InvalidArgument(
        f"path {source} is mounted on {mount.target} but it is not a {wanted}",
        hint=f"mount --make-rshared {mount.target}",
        code="not-a-shared-mount",
    )


def _check_kinds(root: Path, points: list[MountPoint]) -> None:
    """Refuse a directory over a file and a file over a directory before the runtime does, in its and Docker's words.

    What lies in another mount of the container is left to the runtime.
    """
    targets = {point.destination for point in points}
    for point in points:
        if point.type != "bind" or any(str(parent) in targets for parent in Path(point.destination).parents):
            continue
        source, target = Path(point.source), resolve_in_root(root, point.destination)
        if source.exists() and target.exists() and source.is_dir() != target.is_dir():
            flags = "0x5000" if point.propagation.startswith("r") or not point.propagation else "0x1000"
            raise InvalidArgument(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to"
                f' start container process: error during container init: error mounting "{source}" to rootfs at'
                f' "{point.destination}": mount {source}:{point.destination}, flags: {flags}: not a directory: Are you'
                " trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and"
                " is the expected type",
                code="mount-kind-mismatch",
            )


def _mount_subpath(root: Path, subpath: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    mount_subpath(root, subpath, target)


def _mount_mapped(source: Path, maps: Maps, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with clone_idmapped(source, *maps) as mount:
        _make_target(source, target)
        mount.attach(target)


def _make_target(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir()
    else:
        target.touch()


def _adjust(source: Path, point: MountPoint, detail: MountDetail, place: Path) -> Path:
    """A copy of the mount where the runtime's own recursive bind would not be what was asked for."""
    top = str(source.resolve())
    has_more = any(entry.target.startswith(f"{top}/") for entry in mount_table())
    read_only_below = not point.rw and detail.recursive and detail.read_only_below != "never"
    if not has_more or (detail.recursive and not read_only_below):
        return source
    _make_target(source, place)
    try:
        bind_mount(source, place, read_only=read_only_below, recursive=detail.recursive, propagation="")
    except Exception as error:
        cause = error.__cause__
        if not read_only_below or not isinstance(cause, OSError) or cause.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        if detail.read_only_below == "force":
            raise Unsupported(
                f"{point.source}: this kernel cannot make the mounts below it read-only",
                hint="use Linux 5.12 or newer, or bind-recursive=writable",
            ) from error
        return source
    return place


def _clear(directory: Path) -> None:
    if not directory.is_dir():
        return
    unmount_below(directory)
    for path in directory.iterdir():
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    directory.rmdir()
