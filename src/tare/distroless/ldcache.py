"""The dynamic loader's cache, as ldconfig(8) would write it: where libraries are, beyond the default directories too.

Format and order are glibc's own (``sysdeps/generic/dl-cache.h``, ``elf/cache.c``, ``elf/ldconfig.c``), the "new" format
1.1 without extensions. Libraries below ``glibc-hwcaps`` are not listed: the plain ones beside them are found.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tare.archive.entry import Kind
from tare.archive.filetree import FileTree, Node, Slice
from tare.base.elf import SHARED, Elf, ElfError, read_elf
from tare.errors import DataCorrupt, InvalidArgument, NotFound

PATH = "etc/ld.so.cache"
CONFIGURATION = "etc/ld.so.conf"
_DEFAULT_CONFIGURATION = "include /etc/ld.so.conf.d/*.conf"  # libc-bin's, which images do not have
_SYSTEM = ("/lib", "/usr/lib")
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_LITTLE_ENDIAN = 2
_LIBC6 = 3  # FLAG_ELF_LIBC6
_FLAGS = {62: 0x0300 | _LIBC6, 183: 0x0A00 | _LIBC6, 40: 0x0900 | _LIBC6, 3: _LIBC6}
"""``e_machine`` → what entries say of their architecture (FLAG_X8664_LIB64, FLAG_AARCH64_LIB64, FLAG_ARM_LIBHF)."""
_MACHINES = {"amd64": (62, 3), "arm64": (183, 40), "armhf": (40,), "i386": (3,)}
_NUMBERS = re.compile(r"[0-9]+|[^0-9]")
_INCLUDE_DEPTH = 8
_TEXT_LIMIT = 1 << 20  # bytes of one configuration file


@dataclass(frozen=True, slots=True)
class Library:
    """An entry: the name that programs ask for, where it is, and the flags of its architecture."""

    name: str
    path: str
    flags: int


@dataclass(slots=True)
class _Found:
    name: str
    is_link: bool
    flags: int


def write_loader_cache(tree: FileTree, architecture: str) -> None:
    """Put ``/etc/ld.so.cache`` into ``tree``, and links by SONAME where a library has none. Blocking."""
    libraries: list[Library] = []
    seen: set[str] = set()
    for directory in (*configured_directories(tree), *_SYSTEM):
        place = tree.resolve(directory)
        if place not in seen and tree.is_directory(place):
            seen.add(place)
            libraries += _scan(tree, directory, place, architecture)
    tree.add_file(PATH, render(libraries))


def render(libraries: list[Library]) -> bytes:
    """The cache's bytes: entries in descending order of their names, which the loader searches by halves."""
    ordered = sorted(libraries, key=lambda one: (order(one.name), one.flags), reverse=True)
    # a sort in reverse keeps equal ones in their order: the first directory goes first
    strings = bytearray()
    start = _HEADER.size + len(ordered) * _ENTRY.size
    entries = bytearray()
    for one in ordered:
        value = start + len(strings)
        strings += one.path.encode() + b"\0"
        key = value + len(one.path.encode()) - len(one.name.encode())
        entries += _ENTRY.pack(one.flags, key, value, 0, 0)
    return _HEADER.pack(_MAGIC, len(ordered), len(strings), _LITTLE_ENDIAN, 0) + bytes(entries) + bytes(strings)


def order(name: str) -> list[tuple[int, int]]:
    """A key that sorts as ``_dl_cache_libcmp``: numbers by value, and after everything else."""
    return [(1, int(part)) if part[0].isdigit() else (0, ord(part)) for part in _NUMBERS.findall(name)]


def configured_directories(tree: FileTree) -> list[str]:
    """The directories that ``/etc/ld.so.conf`` names, with what it includes."""
    try:
        text = tree.read(CONFIGURATION, limit=_TEXT_LIMIT).decode(errors="replace")
    except NotFound:
        text = _DEFAULT_CONFIGURATION
    return list(_directories(tree, text, _INCLUDE_DEPTH))


def _directories(tree: FileTree, text: str, depth: int) -> Iterator[str]:
    for line in text.splitlines():
        words = line.partition("#")[0].replace(",", " ").replace(":", " ").split()
        if not words or words[0] == "hwcap":
            continue
        if words[0] != "include":
            yield from (word.rstrip("/") for word in words if word.startswith("/") and ".." not in word.split("/"))
            continue
        for pattern in words[1:] if depth else ():
            wanted = pattern.lstrip("/") if pattern.startswith("/") else f"etc/{pattern}"
            for node in tree:
                path = node.entry.path
                if path.count("/") == wanted.count("/") and fnmatchcase(path, wanted) and not tree.is_directory(path):
                    yield from _directories(tree, _text(tree, path), depth - 1)


def _text(tree: FileTree, path: str) -> str:
    try:
        return tree.read(path, limit=_TEXT_LIMIT).decode(errors="replace")
    except NotFound:  # a link that leads nowhere
        return ""


def _scan(tree: FileTree, directory: str, place: str, architecture: str) -> list[Library]:
    """The libraries in one directory by the names that programs ask for; names without a file get their link."""
    found: dict[str, _Found] = {}
    for node in tree:
        path = node.entry.path
        parent, _, name = path.rpartition("/")
        if parent != place or not name.startswith(("lib", "ld-")) or ".so" not in name:
            continue
        elf = _elf(tree, path, architecture)
        if elf is None:
            continue
        soname, is_link = _wanted_name(name, elf, is_link=node.entry.kind is Kind.SYMLINK)
        known = found.get(soname)
        if (
            known is None
            or (known.is_link and not is_link)
            or (known.is_link == is_link and order(known.name) < order(name))
        ):
            found[soname] = _Found(name, is_link, _FLAGS[elf.machine])
    for soname, one in found.items():
        if not one.is_link and one.name != soname and tree.get(f"{place}/{soname}") is None:
            tree.add_symlink(f"{place}/{soname}", one.name)
    return [Library(soname, f"{directory}/{soname}", one.flags) for soname, one in found.items()]


def _wanted_name(name: str, elf: Elf, *, is_link: bool) -> tuple[str, bool]:
    """The name in the cache, and whether it counts as a link: links named by SONAME, and those for compilers, do."""
    soname = elf.soname if elf.soname and "/" not in elf.soname else name
    if is_link and name != soname and not (name.endswith(".so") and soname.startswith(name)):
        is_link = False
    return (name if is_link else soname), is_link


def _elf(tree: FileTree, path: str, architecture: str) -> Elf | None:
    """The library that ``path`` leads to, if it is one for this architecture."""
    try:
        node: Node | None = tree.get(tree.resolve(path))
    except InvalidArgument:  # links in a circle
        return None
    if node is not None and node.entry.kind is Kind.HARDLINK:
        node = tree.get(node.entry.target)
    if node is None or node.entry.kind is not Kind.FILE or not isinstance(node.content, Slice):
        return None
    try:
        fd = os.open(node.content.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            elf = read_elf(fd, start=node.content.offset, size=node.entry.size)
        finally:
            os.close(fd)
    except ElfError:
        return None
    except FileNotFoundError as error:
        raise DataCorrupt(f"/{path}: its package is gone") from error
    return elf if elf.kind == SHARED and elf.machine in _MACHINES.get(architecture, ()) else None
