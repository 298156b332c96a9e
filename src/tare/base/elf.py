"""What the dynamic loader reads of an ELF file: interpreter, libraries, search paths, versions of symbols.

After the System V ABI (gABI, chapters 4 and 5) and the Linux Standard Base (symbol versioning). A file may be hostile:
every table has a bound, every offset is checked against the file, chains cannot go round.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace

MAGIC = b"\x7fELF"
RELOCATABLE, EXECUTABLE, SHARED, CORE = 1, 2, 3, 4
MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64",
    258: "loong64",
}  # fmt: skip
"""``e_machine`` by the names that images use for their architecture."""

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 6, 10, 14, 15, 29
_DT_VERDEF, _DT_VERNEED, _DT_FLAGS_1 = 0x6FFFFFFC, 0x6FFFFFFE, 0x6FFFFFFB
_DF_1_PIE = 0x08000000
_MAX_HEADERS = 512
_MAX_DYNAMIC = 4096
_MAX_STRING = 4096
_MAX_VERSIONS = 4096
_MAX_SYMBOLS = 500_000
_MAX_NAMES = 64 << 20  # bytes of symbol names; C++ has long ones


class ElfError(Exception):
    """The file is not a well-formed ELF file; the message says what is wrong, without the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """What decides whether an ELF file can be loaded; ``needs`` has the versions wanted of each library.

    ``entry`` is the address at which execution begins; 0 in libraries, which the kernel cannot start.
    """

    bits: int
    machine: int
    kind: int
    entry: int = 0
    interpreter: str = ""
    is_dynamic: bool = False
    is_pie: bool = False
    needed: tuple[str, ...] = ()
    rpath: str = ""
    runpath: str = ""
    soname: str = ""
    needs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    defines: frozenset[str] = frozenset()

    @property
    def is_program(self) -> bool:
        """Whether execve(2) would start it: it has somewhere to begin. Some libraries have, too, such as libc's."""
        return self.kind == EXECUTABLE or (self.kind == SHARED and bool(self.entry or self.interpreter))

    @property
    def architecture(self) -> str:
        """The architecture's usual name, or ``machine N``."""
        return MACHINES.get(self.machine, f"machine {self.machine}")


def read_elf(fd: int, *, start: int = 0, size: int | None = None) -> Elf:
    """Read the file of descriptor ``fd``, or the ``size`` bytes from ``start`` on of a file that holds others.

    Raises ElfError; OSError when it cannot be read.
    """
    return _Reader(fd, start, size).elf()


def read_exports(fd: int, *, start: int = 0, size: int | None = None) -> frozenset[bytes]:
    """The names of the dynamic symbols that the file defines, functions and data. Raises as :func:`read_elf`."""
    reader = _Reader(fd, start, size)
    reader.elf()
    return reader.exports()


class _Reader:
    def __init__(self, fd: int, start: int, size: int | None) -> None:
        self._fd = fd
        self._start = start
        self._size = os.fstat(fd).st_size - start if size is None else size
        ident = self._at(0, 16)
        if ident[:4] != MAGIC:
            raise ElfError("it is no ELF file")
        if ident[4] not in (1, 2) or ident[5] not in (1, 2):
            raise ElfError("its ELF header is damaged")
        self._bits = 32 * ident[4]
        self._order = "<" if ident[5] == 1 else ">"
        self._loads: list[tuple[int, int, int]] = []
        self._strings = 0
        self._symbols = (0, 0, 0)

    def elf(self) -> Elf:
        layout = "HHIQQQIHHH" if self._bits == 64 else "HHIIIIIHHH"
        header = self._unpack(16, layout)
        kind, machine, entry, table, entry_size, count = *header[:2], *header[3:5], *header[8:10]
        plain = Elf(bits=self._bits, machine=machine, kind=kind, entry=entry)
        if kind not in (EXECUTABLE, SHARED):
            return plain
        if not 0 < count <= _MAX_HEADERS or entry_size < (56 if self._bits == 64 else 32):
            raise ElfError("its program headers are damaged")
        interpreter, dynamic = "", None
        for index in range(count):
            kind_of, offset, address, size = self._program_header(table + index * entry_size)
            if kind_of == _PT_LOAD:
                if size and offset + size > self._size:
                    raise ElfError(f"it is cut off: {self._size} bytes of at least {offset + size}")
                self._loads.append((address, offset, size))
            elif kind_of == _PT_INTERP:
                interpreter = self._string(offset, min(size, _MAX_STRING))
            elif kind_of == _PT_DYNAMIC:
                dynamic = (offset, size)
        if dynamic is None:
            return replace(plain, interpreter=interpreter)
        return self._dynamic(plain, interpreter, *dynamic)

    def _program_header(self, at: int) -> tuple[int, int, int, int]:
        """Type, file offset, address, size in the file."""
        if self._bits == 64:
            kind, _, offset, address, _, size, _, _ = self._unpack(at, "IIQQQQQQ")
        else:
            kind, offset, address, _, size, _, _, _ = self._unpack(at, "IIIIIIII")
        return kind, offset, address, size

    def _dynamic(self, plain: Elf, interpreter: str, offset: int, size: int) -> Elf:
        layout, width = ("qQ", 16) if self._bits == 64 else ("iI", 8)
        needed: list[int] = []
        tags: dict[int, int] = {}
        for index in range(min(size // width, _MAX_DYNAMIC)):
            tag, value = self._unpack(offset + index * width, layout)
            if tag == 0:
                break
            if tag == _DT_NEEDED:
                needed.append(value)
            else:
                tags.setdefault(tag, value)
        self._strings = self._offset(tags[_DT_STRTAB]) if _DT_STRTAB in tags else self._size
        if _DT_SYMTAB in tags and _DT_STRSZ in tags:
            self._symbols = (self._offset(tags[_DT_SYMTAB]), self._strings, tags[_DT_STRSZ])
        return replace(
            plain,
            interpreter=interpreter,
            is_dynamic=True,
            is_pie=bool(tags.get(_DT_FLAGS_1, 0) & _DF_1_PIE),
            needed=tuple(self._name(value) for value in needed),
            rpath=self._name(tags[_DT_RPATH]) if _DT_RPATH in tags else "",
            runpath=self._name(tags[_DT_RUNPATH]) if _DT_RUNPATH in tags else "",
            soname=self._name(tags[_DT_SONAME]) if _DT_SONAME in tags else "",
            needs=self._version_needs(self._offset(tags[_DT_VERNEED])) if _DT_VERNEED in tags else (),
            defines=self._version_definitions(self._offset(tags[_DT_VERDEF])) if _DT_VERDEF in tags else frozenset(),
        )

    def exports(self) -> frozenset[bytes]:
        """The defined ones of ``.dynsym``, which ends where the names begin: linkers lay it out so."""
        first, names_at, names_size = self._symbols
        layout = self._order + ("IBBHQQ" if self._bits == 64 else "IIIBBH")
        width = struct.calcsize(layout)
        count = min((names_at - first) // width, _MAX_SYMBOLS)
        if count <= 0 or names_size > _MAX_NAMES:
            return frozenset()
        table, names = self._at(first, count * width), self._at(names_at, names_size)
        section = 3 if self._bits == 64 else 5
        found = {symbol[0] for symbol in struct.iter_unpack(layout, table) if symbol[section] and symbol[0]}
        ends = ((at, names.find(b"\0", at, at + _MAX_STRING)) for at in found if at < names_size)
        return frozenset(names[at:end] for at, end in ends if end > at)

    def _version_needs(self, at: int) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """``Elfxx_Verneed`` records, each with a chain of ``Elfxx_Vernaux``; both layouts are the same in 32 and 64."""
        found: list[tuple[str, tuple[str, ...]]] = []
        budget = _MAX_VERSIONS
        while budget > 0:
            _, count, library, first, following = self._unpack(at, "HHIII")
            versions, inner = [], at + first
            for _ in range(min(count, budget)):
                _, flags, _, name, step = self._unpack(inner, "IHHII")
                budget -= 1
                if not flags & 2:  # VER_FLG_WEAK: the loader does without
                    versions.append(self._name(name))
                if not step:
                    break
                inner += step
            found.append((self._name(library), tuple(versions)))
            budget -= 1
            if not following:
                break
            at += following
        return tuple(found)

    def _version_definitions(self, at: int) -> frozenset[str]:
        """The names that ``Elfxx_Verdef`` records define; the first ``Elfxx_Verdaux`` of each is its own name."""
        found: set[str] = set()
        for _ in range(_MAX_VERSIONS):
            _, _, _, _, _, first, following = self._unpack(at, "HHHHIII")
            found.add(self._name(self._unpack(at + first, "II")[0]))
            if not following:
                break
            at += following
        return frozenset(found)

    def _offset(self, address: int) -> int:
        """Where in the file a virtual address lies."""
        for start, offset, size in self._loads:
            if start <= address < start + size:
                return address - start + offset
        raise ElfError("its dynamic section points outside the file")

    def _name(self, index: int) -> str:
        return self._string(self._strings + index, _MAX_STRING)

    def _string(self, offset: int, limit: int) -> str:
        if not 0 <= offset < self._size:
            raise ElfError("a name lies outside the file")
        return (
            os.pread(self._fd, min(limit, self._size - offset), self._start + offset)
            .partition(b"\0")[0]
            .decode(errors="replace")
        )

    def _unpack(self, offset: int, layout: str) -> tuple[int, ...]:
        layout = self._order + layout
        return struct.unpack(layout, self._at(offset, struct.calcsize(layout)))

    def _at(self, offset: int, size: int) -> bytes:
        data = os.pread(self._fd, size, self._start + offset) if 0 <= offset <= self._size - size else b""
        if len(data) < size:
            raise ElfError("it is cut off")
        return data
