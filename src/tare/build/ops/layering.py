"""From a selection of files to the members of a layer, at the places that they have in the target root file system."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from tare.archive.entry import Entry, Kind
from tare.archive.tar_writer import TarWriter
from tare.build.modes import ModeChange
from tare.build.ops.downloads import FetchedFile
from tare.build.ops.rootfs import ROOT, Owner, is_directory, lstat, resolve
from tare.build.ops.select import Item, Match, read_xattrs
from tare.errors import Conflict, InvalidArgument

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}


@dataclass(frozen=True, slots=True)
class Member:
    """An entry and where its content comes from: a file on the host as it was when seen, or bytes."""

    entry: Entry
    host: str = ""
    status: os.stat_result | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of a copy: ``owner`` None keeps what the item has, ``mode`` None keeps the item's permission bits."""

    owner: Owner | None = ROOT
    mode: ModeChange | None = None


class LayerPlan:
    """Collects the members of one layer over the root file system ``root`` (a read-only view)."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self._root = root
        self._settings = settings
        self._members: dict[str, Member] = {}
        self._links: dict[tuple[int, int], str] = {}
        self._made_mtime = 0

    def place(self, matches: Sequence[Match], destination: str) -> None:
        """Put the matches at ``destination`` by the rules of COPY.

        Raises InvalidArgument where a directory would have to replace something else or be replaced, and where several
        files would have the same name.
        """
        times = [int(item.status.st_mtime) for match in matches for item in match.items]
        self._made_mtime = max(times, default=0)
        files = [match for match in matches if not match.is_directory]
        into = destination.endswith("/") or len(matches) > 1 or len(files) < len(matches)
        if len(matches) > 1 and not matches[0].is_directory and not destination.endswith("/"):
            self._check_is_directory(destination, len(matches))
        group = 0
        for match in matches:
            if match.group != group:  # names of one file are kept as such within a source, not between sources
                self._links.clear()
                group = match.group
            if match.is_directory:
                self._place_directory(match, destination)
            else:
                target = self.file_target(destination, match.name, into=into)
                if is_directory(lstat(self._root, target)):
                    raise _not_replaceable(target)
                self._put(target, match.items[0])

    def _check_is_directory(self, destination: str, count: int) -> None:
        if not is_directory(lstat(self._root, resolve(self._root, destination))):
            raise InvalidArgument(
                f"{destination}: {count} files match, so the destination must be a directory and end with a /",
                hint=f"write {destination}/",
            )

    def file_target(self, destination: str, name: str, *, into: bool) -> str:
        """Where a single file goes: into ``destination`` if it is or must be a directory, else to where it leads."""
        resolved = resolve(self._root, destination)
        existing = lstat(self._root, resolved)
        if into and existing is not None and not is_directory(existing):
            raise InvalidArgument(f"cannot copy to non-directory: {destination}")
        if into or is_directory(existing):
            return f"{resolved}/{name}" if resolved else name
        return resolved

    def inline(self, target: str, data: bytes) -> None:
        """Put a file with this content at the resolved path ``target``."""
        self.parents(target)
        owner = self._settings.owner or ROOT
        entry = Entry(
            path=target, kind=Kind.FILE, mode=self._changed(0o644), uid=owner.uid, gid=owner.gid, size=len(data)
        )
        self._members[target] = Member(entry, data=data)

    def download(self, target: str, fetched: FetchedFile) -> None:
        """Put a fetched file at the resolved path ``target``; its mode is 0600 unless given, as in Docker."""
        self.parents(target)
        owner = self._settings.owner or ROOT
        entry = Entry(
            path=target,
            kind=Kind.FILE,
            mode=self._changed(0o600),
            uid=owner.uid,
            gid=owner.gid,
            mtime=fetched.mtime,
            size=fetched.size,
        )
        self._members[target] = Member(entry, host=str(fetched.file))

    def inside(self, destination: str) -> None:
        """Have ``destination`` as a directory, to which ``--chmod`` does not apply.

        Raises InvalidArgument where it is something else.
        """
        path = resolve(self._root, destination)
        self.parents(path, chmod=False)
        self.directory(path, chmod=False)

    def parents(self, target: str, *, chmod: bool = True) -> None:
        """Have all directories above ``target``, with the metadata they already have in the root file system."""
        above = target.rpartition("/")[0]
        if not above or above in self._members:  # what lies above a member is one already
            return
        parts = above.split("/")
        for count in range(1, len(parts) + 1):
            self.directory("/".join(parts[:count]), chmod=chmod)

    def directory(self, path: str, mtime: int | None = None, *, chmod: bool = True) -> None:
        """Have the directory ``path`` (resolved): as it is, else new with the owner of the copy.

        A new one has the mode 0755 or, with ``chmod``, that of an octal ``--chmod``. ``mtime`` None keeps the time;
        that of a new one is the newest of what is copied.
        """
        known = self._members.get(path)
        if known is not None and mtime is not None:
            self._members[path] = replace(known, entry=replace(known.entry, mtime=mtime))
        if known is not None or not path:
            return
        status = lstat(self._root, path)
        if status is not None and is_directory(status):
            host = os.path.join(self._root, path)  # noqa: PTH118
            entry = _describe(path, Item("", host, status, xattrs=read_xattrs(host)), Settings(owner=None))
            if mtime is not None:
                entry = replace(entry, mtime=mtime)
        elif status is not None:
            raise InvalidArgument(f"cannot copy to non-directory: /{path}")
        else:
            owner, change = self._settings.owner or ROOT, self._settings.mode if chmod else None
            entry = Entry(
                path=path,
                kind=Kind.DIRECTORY,
                mode=change.of_new_directories if change else 0o755,
                uid=owner.uid,
                gid=owner.gid,
                mtime=self._made_mtime if mtime is None else mtime,
            )
        self._members[path] = Member(entry)

    def members(self) -> list[Member]:
        """All members, sorted by path, a hard link after its first name."""
        return [self._members[path] for path in sorted(self._members, key=os.fsencode)]

    @property
    def size(self) -> int:
        """Bytes of file content."""
        return sum(member.entry.size for member in self._members.values())

    def _place_directory(self, match: Match, destination: str) -> None:
        top = resolve(self._root, destination)
        existing = lstat(self._root, top)
        if existing is not None and not is_directory(existing):
            raise InvalidArgument(f"cannot copy to non-directory: {destination}")
        targets: dict[str, tuple[str, bool]] = {"": (top, existing is not None)}
        if top:
            self.parents(top)
            self.directory(top, int(match.items[0].status.st_mtime))
        for item in match.items[1:]:
            above, _, name = item.rel.rpartition("/")
            parent, known = targets.get(above, (f"{top}/{above}".strip("/"), False))
            target = f"{parent}/{name}" if parent else name
            if stat.S_ISDIR(item.status.st_mode):
                target, known = self._directory_target(target) if known else (target, False)
                targets[item.rel] = (target, known)
            elif known and is_directory(lstat(self._root, target)):
                raise _not_replaceable(target)
            self._put(target, item)

    def _directory_target(self, target: str) -> tuple[str, bool]:
        """Where a directory lands that meets what is at ``target``, and whether a directory is there already."""
        status = lstat(self._root, target)
        if status is None:
            return target, False
        resolved = resolve(self._root, target)
        if not is_directory(lstat(self._root, resolved)):
            raise InvalidArgument(f"cannot copy to non-directory: /{target}")
        return resolved, True

    def _put(self, target: str, item: Item) -> None:
        if not target:
            return
        self.parents(target)
        entry = _describe(target, item, self._settings)
        self._check_kind(target, entry)
        status = item.status
        if entry.kind is Kind.FILE and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), target)
            if first != target and first in self._members:
                first, target_member = self._order_links(first, target, item)
                self._members[target_member.entry.path] = target_member
                return
        self._members[target] = Member(entry, host=item.host, status=status)

    def _check_kind(self, target: str, entry: Entry) -> None:
        """Refuse a directory and something else at one place, from two sources."""
        known = self._members.get(target)
        if known is None or (known.entry.kind is Kind.DIRECTORY) == (entry.kind is Kind.DIRECTORY):
            return
        if entry.kind is Kind.DIRECTORY:
            raise InvalidArgument(f"cannot copy to non-directory: /{target}")
        raise _not_replaceable(target)

    def _order_links(self, first: str, target: str, item: Item) -> tuple[str, Member]:
        """The member for a further name of one file; the name that sorts first holds the content."""
        holder = self._members[first]
        if os.fsencode(target) > os.fsencode(first):
            return first, Member(
                replace(holder.entry, path=target, kind=Kind.HARDLINK, size=0, target=first, xattrs={})
            )
        key = (item.status.st_dev, item.status.st_ino)
        self._links[key] = target
        for path, member in list(self._members.items()):
            if path == first or (member.entry.kind is Kind.HARDLINK and member.entry.target == first):
                entry = replace(member.entry, kind=Kind.HARDLINK, size=0, target=target, xattrs={})
                self._members[path] = Member(entry)
        return target, replace(holder, entry=replace(holder.entry, path=target))

    def _changed(self, mode: int) -> int:
        change = self._settings.mode
        return mode if change is None else change.apply(mode, is_directory=False)


def _not_replaceable(target: str) -> InvalidArgument:
    hint = "remove the directory in a RUN step first, or copy to another place"
    return InvalidArgument(f"cannot replace to directory /{target} with file", hint=hint)


def _describe(path: str, item: Item, settings: Settings) -> Entry:
    status, owner = item.status, settings.owner
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    mode = stat.S_IMODE(status.st_mode)
    if settings.mode is not None and kind is not Kind.SYMLINK:
        mode = settings.mode.apply(mode, is_directory=kind is Kind.DIRECTORY)
    device = kind in (Kind.CHARACTER, Kind.BLOCK)
    return Entry(
        path=path,
        kind=kind,
        mode=mode,
        uid=status.st_uid if owner is None else owner.uid,
        gid=status.st_gid if owner is None else owner.gid,
        mtime=int(status.st_mtime),
        size=status.st_size if kind is Kind.FILE else 0,
        target=item.target,
        major=os.major(status.st_rdev) if device else 0,
        minor=os.minor(status.st_rdev) if device else 0,
        xattrs=dict(item.xattrs),
    )


def write_members(members: Sequence[Member], writer: TarWriter) -> None:
    """Add the members in order. Raises Conflict when a file changed since it was selected."""
    for member in members:
        entry = member.entry
        if member.data is not None:
            writer.add(entry, BytesIO(member.data))
        elif entry.kind is Kind.FILE:
            fd = open_unchanged(member)
            try:
                writer.add_file(entry, fd)
            finally:
                os.close(fd)
        else:
            writer.add(entry)


def open_unchanged(member: Member) -> int:
    """A descriptor of the member's file, which must still be the one that its key was made from."""
    fd = os.open(member.host, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    now, then = os.fstat(fd), member.status
    if then is not None and (now.st_ino, now.st_size, now.st_mtime_ns) != (then.st_ino, then.st_size, then.st_mtime_ns):
        os.close(fd)
        raise Conflict(
            f"/{member.entry.path}: its source file changed during the build",
            hint="build again when nothing writes into the build context",
            code="context-changed",
        )
    return fd
