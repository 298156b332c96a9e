"""The ``local`` volume driver: directories ``<root>/<name>/_data``, with something mounted on them where asked for."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from tare.base.atomic import fsync_directory
from tare.base.trees import remove_tree
from tare.errors import Conflict, InternalError, InvalidArgument, NotFound
from tare.kernel.mounts import unmount
from tare.store.space import disk_errors
from tare.volumes.driver import Capabilities, Found, VolumeSpec
from tare.volumes.live_mounts import Holder, holder_of, mounted_at
from tare.volumes.local_options import Ownership, parse_options
from tare.volumes.mounting import mount_volume

DRIVER = "local"
DATA = "_data"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_DELETING = ".deleting-"  # not a valid name, so never a volume's directory
_DOOMED = ".doomed-"


class LocalDriver:
    """Volumes on this host (:class:`tare.volumes.driver.VolumeDriver`)."""

    name = DRIVER

    def __init__(self, root: Path) -> None:
        self._root = root

    async def recover(self, known: Collection[str]) -> None:
        """Finish deletions that a crash cut short; ``known`` are the volumes that have a row."""
        await asyncio.to_thread(self._sweep, known)

    async def doom(self, name: str) -> None:
        """Note on disk, before the row goes, that the directory is to go with it: a missing row alone says nothing."""
        await asyncio.to_thread(self._doom, name)

    async def spare(self, name: str) -> None:
        """Take the note back, as the row has stayed or the directory has gone."""
        await asyncio.to_thread((self._root / f"{_DOOMED}{name}").unlink, missing_ok=True)

    async def unmount_strangers(self, names: Iterable[str]) -> None:
        """Undo what is mounted on the directories of these volumes; nobody refers to it."""
        for name in names:
            path = self.path(name)
            if await asyncio.to_thread(mounted_at, path) is not None:
                await asyncio.to_thread(unmount, path)

    async def create(self, spec: VolumeSpec) -> None:
        """Make the directory; what ``device`` names is looked at when it is mounted, as in Docker."""
        options = parse_options(spec.options)
        check_name(spec.name)
        await asyncio.to_thread(self._make, spec.name, Ownership() if options.is_mounted else options.ownership)

    async def remove(self, spec: VolumeSpec) -> None:
        """Delete the directory; of a volume that is mounted from elsewhere, only the mount point."""
        await asyncio.to_thread(self._delete, spec.name)

    async def remove_if_empty(self, spec: VolumeSpec) -> None:
        """Undo :meth:`create` unless there is something in it."""
        await asyncio.to_thread(self._remove_if_empty, spec.name)

    async def find(self, spec: VolumeSpec) -> Found | None:
        """The directory; whether it is there is not asked."""
        return Found(name=spec.name, mountpoint=os.fspath(self.path(spec.name)))

    def needs_mount(self, spec: VolumeSpec) -> bool:
        """Whether its options ask for a mount."""
        return parse_options(spec.options).is_mounted

    async def existing(self, spec: VolumeSpec) -> Path:
        """The directory of a plain volume. Raises NotFound when somebody has deleted it."""
        path = self.path(spec.name)
        if not await asyncio.to_thread(path.is_dir):
            raise NotFound(
                f"volume {spec.name}: its directory {path} is gone",
                hint=f"restore it there, or tare volume rm {spec.name}",
                code="volume-data-missing",
            )
        return path

    async def adopt(self, spec: VolumeSpec) -> None:
        """Nothing: the kernel looks after it."""

    async def mount(self, spec: VolumeSpec, reference: str) -> Path:
        """Mount what the options say, unless it is mounted. Raises NotFound, InvalidArgument, Unavailable."""
        path = self.path(spec.name)
        if await asyncio.to_thread(mounted_at, path) is None:  # else not touched: its storage may not answer now
            await mount_volume(parse_options(spec.options), await self.existing(spec))
        return path

    async def unmount(self, spec: VolumeSpec, reference: str, *, last: bool) -> None:
        """Unmount after the last user; a tmpfs loses its content, as in Docker."""
        path = self.path(spec.name)
        if last and await asyncio.to_thread(mounted_at, path) is not None:
            await asyncio.to_thread(unmount, path)

    async def list(self) -> Sequence[Found]:
        """Nothing: rows tell which local volumes there are."""
        return ()

    async def capabilities(self) -> Capabilities:
        """A driver of this host alone."""
        return Capabilities(scope="local")

    async def refuse_mounted(self, spec: VolumeSpec) -> None:
        """Raise Conflict when the volume's directory is mounted anywhere, or something is mounted in it."""
        directory = self._root / spec.name
        if not await asyncio.to_thread(directory.is_dir):
            return
        if (holder := await asyncio.to_thread(holder_of, directory)) is not None:
            raise Conflict(
                f"remove {spec.name}: volume is in use - its directory is mounted {holder}",
                hint=_freeing(holder),
                code="volume-mounted",
            )

    def path(self, name: str) -> Path:
        """The directory with the volume's content, whether or not the volume exists. Raises InvalidArgument."""
        check_name(name)
        return self._root / name / DATA

    def _make(self, name: str, ownership: Ownership) -> None:
        directory = self._root / name
        with disk_errors(self._root):
            self._root.mkdir(mode=0o701, parents=True, exist_ok=True)
            directory.mkdir(mode=0o701, exist_ok=True)
            data = directory / DATA
            if not data.exists():
                data.mkdir(mode=0o755)
                data.chmod(0o755)
                own(data, ownership)
            fsync_directory(self._root)

    def _remove_if_empty(self, name: str) -> None:
        for path in (self._root / name / DATA, self._root / name):
            try:
                path.rmdir()
            except OSError:
                return

    def _delete(self, name: str) -> None:
        doomed = self._root / f"{_DELETING}{name}"
        try:
            (self._root / name).rename(doomed)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise InternalError(f"{self._root / name}: cannot delete: {error.strerror}") from error
            remove_tree(doomed)
            (self._root / name).rename(doomed)
        remove_tree(doomed)

    def _doom(self, name: str) -> None:
        with disk_errors(self._root):
            (self._root / f"{_DOOMED}{name}").touch()
            fsync_directory(self._root)

    def _sweep(self, known: Collection[str]) -> None:
        self._root.mkdir(mode=0o701, parents=True, exist_ok=True)
        for path in list(self._root.iterdir()):
            if path.name.startswith(_DELETING) and holder_of(path) is None:
                remove_tree(path)
            elif path.name.startswith(_DOOMED):
                name = path.name.removeprefix(_DOOMED)
                if name in known:
                    path.unlink()
                elif holder_of(self._root / name) is None:
                    self._delete(name)
                    path.unlink()
            elif path.name not in known and not path.name.startswith("."):
                self._remove_if_empty(path.name)  # made for a row that did not come


def _freeing(holder: Holder) -> str:
    unmount = shlex.join(["umount", holder.target])
    return f"end that process, or nsenter -t {holder.pid} -m {unmount}" if holder.pid else unmount


def own(path: Path, ownership: Ownership) -> None:
    """Give a directory the owner and mode that were asked for. Raises OSError."""
    if ownership.uid is not None or ownership.gid is not None:
        os.chown(
            path,
            -1 if ownership.uid is None else ownership.uid,
            -1 if ownership.gid is None else ownership.gid,
            follow_symlinks=False,
        )
    if ownership.mode is not None:
        path.chmod(ownership.mode)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a local volume, in Docker's words. Raises InvalidArgument."""
    if len(name) == 1 and name.isascii() and name.isalnum():
        raise InvalidArgument("volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise InvalidArgument(
            f'"{name}" includes invalid characters for a local volume name,'
            ' only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed.'
            " If you intended to pass a host directory, use absolute path",
            code="invalid-volume-name",
        )
