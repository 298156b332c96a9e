"""What scripts and declarations of packages change in a root file system, as values, and how that is done to a tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tare.archive.entry import Entry, Kind
from tare.archive.filetree import FileTree
from tare.distroless.accounts import Accounts
from tare.distroless.filters import is_unneeded
from tare.distroless.pam import write_pam_configuration
from tare.errors import InvalidArgument, NotFound

_PHP_PRIORITY = re.compile(r"(?m)^;\s*priority=(\d+)")
_FILE_LIMIT = 4 << 20  # bytes of a file that is copied or added to


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory:
    """A directory with its parents; ``None`` leaves mode or owner as they are, or makes them 0755 and root."""

    path: str
    mode: int | None = None
    user: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeLink:
    """A symbolic link; what is in its place stays unless ``force``."""

    path: str
    target: str
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteFile:
    """A file with this content; with ``only_new`` only where there is none."""

    path: str
    content: bytes = b""
    append: bool = False
    only_new: bool = False
    mode: int | None = None
    user: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFile:
    """A file from another place in the tree; ``move`` takes it away there."""

    source: str
    target: str
    only_new: bool = False
    move: bool = False
    mode: int | None = None
    user: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOwner:
    """chown(1): user and group by name or number, ``None`` to leave them."""

    path: str
    user: str | None = None
    group: str | None = None
    recursive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMode:
    """chmod(1) with its words for the mode: ``0755``, ``u+w,o=``."""

    path: str
    mode: str
    recursive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """A member, if it is there; a directory that is not empty only with ``recursive``."""

    path: str
    recursive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddGroup:
    """A system group."""

    name: str
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddUser:
    """A system user; ``group`` is its first group, empty for one of its own. ``make_home`` makes the home directory."""

    name: str
    uid: int | None = None
    group: str = ""
    home: str = "/nonexistent"
    comment: str = ""
    make_home: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMember:
    """A user joins a group."""

    user: str
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """``update-alternatives --install``: of the paths that offer ``name`` the one of highest priority gets the link.

    ``slaves`` are links that follow it: link, name, path.
    """

    name: str
    link: str
    path: str
    priority: int
    slaves: tuple[tuple[str, str, str], ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversion:
    """``dpkg-divert --rename``: the file that other packages have at ``path`` is called ``target``."""

    path: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnablePhpModule:
    """A module's settings are linked into the directory of every interface that the image has."""

    version: str
    module: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurePam:
    """PAM's common configuration is put together of the profiles that the image has."""


Change = (
    MakeDirectory
    | MakeLink
    | WriteFile
    | CopyFile
    | SetOwner
    | SetMode
    | Remove
    | AddGroup
    | AddUser
    | AddMember
    | Alternative
    | Diversion
    | EnablePhpModule
    | ConfigurePam
)


def apply_change(tree: FileTree, change: Change, accounts: Accounts, sources: FileTree) -> None:
    """Do one change; ``sources`` has files that the tree leaves out. Alternatives and diversions are not done here.

    A change of what is not there does nothing. Raises NotFound for an unknown user or a missing source, Conflict and
    InvalidArgument as the tree does.
    """
    _Changing(tree, accounts, sources).apply(change)


@dataclass(frozen=True, slots=True)
class _Changing:
    tree: FileTree
    accounts: Accounts
    sources: FileTree

    def apply(self, change: Change) -> None:
        match change:
            case AddGroup():
                self.accounts.add_group(change.name, change.gid)
            case AddUser():
                self._user(change)
            case AddMember():
                self.accounts.add_member(change.user, change.group)
            case Alternative() | Diversion():
                pass
            case EnablePhpModule():
                self._php_module(change)
            case ConfigurePam():
                write_pam_configuration(self.tree)
            case SetOwner():
                self._each(change.path, change.recursive, self._owner(change.user, change.group))
            case SetMode():
                self._each(change.path, change.recursive, lambda entry: _with_mode(entry, change.mode))
            case Remove():
                self._remove(change)
            case MakeDirectory() | MakeLink() | WriteFile() | CopyFile():
                if not self._is_left_out(change.target if isinstance(change, CopyFile) else change.path):
                    self._make(change)

    def _make(self, change: MakeDirectory | MakeLink | WriteFile | CopyFile) -> None:
        match change:
            case MakeDirectory():
                self._directory(change)
            case MakeLink():
                self._link(change)
            case WriteFile():
                self._write(change)
            case CopyFile():
                self._copy(change)

    def _is_left_out(self, path: str) -> bool:
        return is_unneeded(Entry(path=path.strip("/"), kind=Kind.FILE, mode=0o644))

    def _user(self, change: AddUser) -> None:
        user = self.accounts.add_user(
            change.name, uid=change.uid, group=change.group, home=change.home, comment=change.comment
        )
        if change.make_home and self.tree.get(change.home) is None:
            self.tree.add_directory(change.home, mode=0o755, uid=user.uid, gid=user.gid)

    def _directory(self, change: MakeDirectory) -> None:
        path = self.tree.resolve(change.path)
        if self.tree.get(path) is None:
            self.tree.add_directory(path)
        elif not self.tree.is_directory(path):
            return
        own = self._owner(change.user, change.group)
        self._each(path, False, lambda entry: own(entry if change.mode is None else replace(entry, mode=change.mode)))

    def _link(self, change: MakeLink) -> None:
        present = self.tree.get(change.path)
        if present is not None and (not change.force or present.entry.kind is Kind.DIRECTORY):
            return
        self.tree.add_symlink(change.path, change.target)

    def _write(self, change: WriteFile) -> None:
        path = self.tree.resolve(change.path)
        present = self.tree.get(path)
        if present is not None:
            if change.only_new or present.entry.kind is Kind.DIRECTORY:
                return
            before = self.tree.read(path, limit=_FILE_LIMIT) if change.append else b""
            entry = replace(present.entry, kind=Kind.FILE, size=len(before + change.content), target="")
            self.tree.add(entry, before + change.content, owner=present.owner)
        else:
            self.tree.add_file(path, change.content)
        own = self._owner(change.user, change.group)
        self._each(path, False, lambda entry: own(entry if change.mode is None else replace(entry, mode=change.mode)))

    def _copy(self, change: CopyFile) -> None:
        target = self.tree.resolve(change.target)
        if self.tree.is_directory(target):
            target = f"{target}/{change.source.rpartition('/')[2]}"
        if change.only_new and self.tree.get(target) is not None:
            return
        place = next((tree for tree in (self.tree, self.sources) if tree.get(tree.resolve(change.source))), None)
        if place is None:
            raise NotFound(f"{change.source}: no such file in the packages")
        node = place.get(place.resolve(change.source))
        assert node is not None
        if node.entry.kind is Kind.DIRECTORY:
            raise InvalidArgument(f"{change.source} is a directory")
        content = place.read(change.source, limit=_FILE_LIMIT)
        own = self._owner(change.user, change.group)
        mode = node.entry.mode if change.mode is None else change.mode
        if change.move:
            self.tree.remove(change.source)
        self.tree.add(own(Entry(path=target, kind=Kind.FILE, mode=mode, size=len(content))), content)

    def _remove(self, change: Remove) -> None:
        path = self.tree.resolve_parent(change.path)
        present = self.tree.get(path)
        if present is None:
            return
        if present.entry.kind is Kind.DIRECTORY and not change.recursive:
            if not any(node.entry.path.startswith(f"{path}/") for node in self.tree):
                self.tree.remove(path)
            return
        self.tree.remove(path)

    def _php_module(self, change: EnablePhpModule) -> None:
        root, place = f"etc/php/{change.version}", f"etc/php/{change.version}/mods-available/{change.module}.ini"
        text = self.tree.read(place, limit=_FILE_LIMIT).decode(errors="replace")
        found = _PHP_PRIORITY.search(text)
        name = f"{found[1] if found else 20}-{change.module}.ini"
        interfaces = {node.entry.path.split("/")[3] for node in self.tree if node.entry.path.startswith(f"{root}/")}
        for interface in sorted(interfaces - {"mods-available"}):
            self.tree.add_symlink(f"{root}/{interface}/conf.d/{name}", f"/{place}")

    def _owner(self, user: str | None, group: str | None) -> Callable[[Entry], Entry]:
        uid = None if user is None else self.accounts.uid(user)
        gid = None if group is None else self.accounts.gid(group)

        def own(entry: Entry) -> Entry:
            return replace(entry, uid=entry.uid if uid is None else uid, gid=entry.gid if gid is None else gid)

        return own

    def _each(self, path: str, recursive: bool, change: Callable[[Entry], Entry]) -> None:
        """Change the member at ``path``, links followed, and with ``recursive`` what is below it."""
        path = self.tree.resolve(path)
        for node in list(self.tree) if recursive else [self.tree.get(path)]:
            if node is None or not (node.entry.path == path or node.entry.path.startswith(f"{path}/")):
                continue
            if node.entry.kind is Kind.HARDLINK:
                node = self.tree.get(node.entry.target) or node  # noqa: PLW2901 - the file itself
            self.tree.add(change(node.entry), node.content, owner=node.owner)


def _with_mode(entry: Entry, words: str) -> Entry:
    """The entry after ``chmod words``; symbolic links have no mode of their own."""
    if entry.kind is Kind.SYMLINK:
        return entry
    return replace(entry, mode=changed_mode(entry.mode, words, is_directory=entry.kind is Kind.DIRECTORY))


def changed_mode(mode: int, words: str, *, is_directory: bool) -> int:
    """``mode`` changed as chmod(1) does; the umask is 022. Raises InvalidArgument."""
    if words.isdigit():
        try:
            return int(words, 8) & 0o7777
        except ValueError as error:
            raise InvalidArgument(f"{words!r} is no mode") from error
    for clause in words.split(","):
        mode = _changed_by(mode, clause, is_directory=is_directory)
    return mode


def _changed_by(mode: int, clause: str, *, is_directory: bool) -> int:
    who = clause[: len(clause) - len(clause.lstrip("ugoa"))]
    rest = clause[len(who) :]
    if not rest or rest[0] not in "+-=" or set(rest[1:]) - set("rwxXst"):
        raise InvalidArgument(f"{clause!r} is no mode")
    bits = 0
    shifts = {"u": 6, "g": 3, "o": 0}
    for letter in shifts if not who or "a" in who else who:
        for permission in rest[1:]:
            execute = permission == "x" or (permission == "X" and (is_directory or bool(mode & 0o111)))
            value = {"r": 4, "w": 2}.get(permission, 1 if execute else 0)
            bits |= value << shifts[letter]
            if permission == "s":
                bits |= {"u": 0o4000, "g": 0o2000}.get(letter, 0)
    if "t" in rest[1:]:
        bits |= 0o1000
    if not who:
        bits &= ~0o022
    if rest[0] == "+":
        return mode | bits
    if rest[0] == "-":
        return mode & ~bits
    cleared = sum(0o7 << shifts[letter] for letter in set("ugo" if not who or "a" in who else who))
    return (mode & ~cleared) | bits
