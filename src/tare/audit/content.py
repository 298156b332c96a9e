"""What a file is, by its content: program, library, script, packed or hidden program, text, data."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import zstandard

from tare.audit.layers import Layers
from tare.audit.signatures import LONGEST, PARTS, WORDS, Role, recognise, recognise_script
from tare.audit.tree import Inode
from tare.base.elf import MACHINES, MAGIC, Elf, ElfError, read_elf, read_exports

MAX_TEXT = 4 << 20
"""Bytes of a text that are looked at; programs and data are looked at as a whole."""

_CHUNK = 1 << 20
_HEAD = 4096
_OVERLAP = max(LONGEST, 64)
_MAX_WORD = 512
_MAX_UNPACKED = 1 << 20
_MAX_SHEBANG = 256  # the kernel's own limit, execve(2)
_UPX = b"UPX!"
_JIMAGE = (b"\xda\xda\xfe\xca", b"\xca\xfe\xda\xda")


class Form(StrEnum):
    """The form of a file."""

    PROGRAM = "program"
    LIBRARY = "library"
    OBJECT = "object"
    SCRIPT = "script"
    TEXT = "text"
    DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What was found out about a file.

    ``roles`` says what it can be used for and which program it is, ``interpreter`` the words after ``#!``. ``packed``
    names how a program is packed, so that it cannot be told what it is; ``hidden`` where in something else a program
    begins. ``damaged`` says why an ELF file cannot be understood.
    """

    form: Form
    roles: tuple[tuple[Role, str], ...] = ()
    elf: Elf | None = None
    interpreter: tuple[str, ...] = ()
    packed: str = ""
    hidden: str = ""
    damaged: str = ""
    marks: frozenset[bytes] = frozenset()

    @property
    def is_text(self) -> bool:
        """Whether people can read it."""
        return self.form in (Form.TEXT, Form.SCRIPT)

    def has(self, *roles: Role) -> bool:
        """Whether it has one of the roles."""
        return any(role in roles for role, _ in self.roles)


@dataclass(slots=True)
class Examiner:
    """Looks into the files of an image; what it has found out of an inode it keeps."""

    layers: Layers
    _known: dict[int, Content] = field(default_factory=dict)
    _exports: dict[int, frozenset[bytes]] = field(default_factory=dict)

    def examine(self, inode: Inode) -> Content:
        """What a regular file is; one that has gone or cannot be read is data."""
        known = self._known.get(id(inode))
        if known is None:
            try:
                known = self._examine(inode)
            except OSError as error:
                known = Content(form=Form.DATA, damaged=f"cannot be read: {error.strerror or error}")
            self._known[id(inode)] = known
        return known

    def exports(self, inode: Inode) -> frozenset[bytes]:
        """The symbols that a program or library offers to others; none of a damaged one."""
        known = self._exports.get(id(inode))
        if known is None:
            try:
                with self.layers.opened(inode) as (fd, start):
                    known = read_exports(fd, start=start, size=inode.size)
            except (ElfError, OSError):
                known = frozenset()
            self._exports[id(inode)] = known
        return known

    def is_java_image(self, inode: Inode) -> bool:
        """Whether it is a Java VM's own library of classes (jimage, ``imageFile.hpp``)."""
        try:
            return self.layers.read(inode, 4) in _JIMAGE
        except OSError:
            return False

    def text(self, inode: Inode) -> bytes:
        """The content of a text, up to ``MAX_TEXT`` bytes; empty when it has gone."""
        try:
            return self.layers.read(inode, MAX_TEXT)
        except OSError:
            return b""

    def _examine(self, inode: Inode) -> Content:
        head = self.layers.read(inode, _HEAD)
        if head.startswith(MAGIC):
            return self._binary(inode, head)
        if b"\0" not in head:
            text = self.layers.read(inode, MAX_TEXT)
            words = _shebang(head)
            form = Form.SCRIPT if words else Form.TEXT
            return Content(form=form, interpreter=words, roles=recognise_script(text), hidden=self._hidden(inode, head))
        return Content(form=Form.DATA, hidden=self._hidden(inode, head))

    def _binary(self, inode: Inode, head: bytes) -> Content:
        packed = "UPX" if _UPX in head else ""
        try:
            with self.layers.opened(inode) as (fd, start):
                elf = read_elf(fd, start=start, size=inode.size)
        except ElfError as error:
            # The kernel is more lenient than the standard: what cannot be understood counts as a program.
            roles = recognise(*self._traces(inode, PARTS), ())
            return Content(form=Form.PROGRAM, damaged=str(error), roles=roles, packed=packed)
        form = Form.PROGRAM if elf.is_program else Form.LIBRARY if elf.is_dynamic else Form.OBJECT
        traces = self._traces(inode, PARTS if form is Form.PROGRAM else ())
        roles = recognise(*traces, (*elf.needed, elf.soname))
        return Content(form=form, elf=elf, roles=roles, packed=packed)

    def _traces(self, inode: Inode, wanted: Sequence[bytes]) -> tuple[frozenset[bytes], frozenset[bytes]]:
        """The words that are in a file, and those of the ``wanted`` parts."""
        words: set[bytes] = set()
        parts: set[bytes] = set()
        left = list(wanted)
        offset, carried = 0, b""
        while data := self.layers.read(inode, _CHUNK, offset):
            offset += len(data)
            block = carried + data
            pieces = block.split(b"\0")
            words.update(WORDS.intersection(pieces))
            parts.update(part for part in left if part in block)
            left = [part for part in left if part not in parts]
            carried = block[-max(_OVERLAP, min(len(pieces[-1]), _MAX_WORD)) :]
        return frozenset(words), frozenset(parts)

    def _hidden(self, inode: Inode, head: bytes) -> str:
        """Where a program begins inside of something else; empty where none does."""
        opened = _unpack_beginning(head, lambda: self.layers.read(inode, _MAX_UNPACKED))
        if opened is not None:
            kind, data = opened
            place = _find_program(data)
            return "" if place is None else f"in its {kind} data, at {place}"
        offset, carried = 0, b""
        while data := self.layers.read(inode, _CHUNK, offset):
            block = carried + data
            place = _find_program(block)
            if place is not None:
                return f"at {offset - len(carried) + place}"
            offset += len(data)
            carried = block[-_OVERLAP:]
        return ""


def _find_program(data: bytes) -> int | None:
    """Where the header of an ELF program or library lies (gABI, chapter 4): magic, class, order, version, type."""
    at = data.find(MAGIC)
    while at >= 0:
        header = data[at : at + 24]
        if len(header) == 24 and header[4] in (1, 2) and header[5] in (1, 2) and header[6] == 1:
            kind, machine, version = struct.unpack_from("<HHI" if header[5] == 1 else ">HHI", header, 16)
            if kind in (2, 3) and machine in MACHINES and version == 1:
                return at
        at = data.find(MAGIC, at + 1)
    return None


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Load(Protocol):
    def __call__(self) -> bytes: ...


def _unpack_beginning(head: bytes, load: _Load) -> tuple[str, bytes] | None:
    """The kind of compression and the beginning of the content; None for what is not compressed."""
    decompressor: _Decompressor
    try:
        if head.startswith(b"\x1f\x8b"):
            return "gzip", zlib.decompressobj(31).decompress(load(), _MAX_UNPACKED)
        if head.startswith(b"\xfd7zXZ\0"):
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=80 << 20)
            return "xz", decompressor.decompress(load(), _MAX_UNPACKED)
        if head.startswith(b"BZh"):
            return "bzip2", bz2.BZ2Decompressor().decompress(load(), _MAX_UNPACKED)
        if head.startswith(b"\x28\xb5\x2f\xfd"):
            reader = zstandard.ZstdDecompressor(max_window_size=64 << 20).stream_reader(load())
            return "zstd", reader.read(_MAX_UNPACKED)
    except (zlib.error, lzma.LZMAError, OSError, ValueError, zstandard.ZstdError, EOFError):
        return None
    return None


def _shebang(head: bytes) -> tuple[str, ...]:
    """The words of a ``#!`` line; none where there is no such line (execve(2))."""
    if not head.startswith(b"#!"):
        return ()
    line = head[2:_MAX_SHEBANG].partition(b"\n")[0].decode("utf-8", "replace")
    return tuple(line.split()[:16])
