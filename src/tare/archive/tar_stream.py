"""Parse tar archives that are not trusted: ustar, pax and GNU long names, everything bounded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tare.archive.entry import Entry, Kind
from tare.base.readers import CHUNK, Readable
from tare.errors import DataCorrupt

BLOCK = 512
_CHECKSUM_AT = 148  # in a header, ustar(5)
_XATTR = "SCHILY.xattr."
_XATTR_NAME = 255  # characters, xattr(7)
_MAJORS, _MINORS = 1 << 12, 1 << 20  # makedev(3) on Linux
_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an archive may ask for; sizes in bytes, ``path`` in bytes of the encoded name (Linux PATH_MAX less one)."""

    members: int = 4_000_000
    total: int = 1 << 40
    path: int = 4095
    component: int = 255
    metadata: int = 1 << 20


DEFAULT_LIMITS = Limits()


class _Content:
    """The bytes of one member; unread ones are skipped before the next member."""

    def __init__(self, source: Readable, name: str, size: int) -> None:
        self._source = source
        self._name = name
        self._left = size
        self._padding = -size % BLOCK

    def read(self, size: int = -1, /) -> bytes:
        if not self._left:
            return b""
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._source.read(wanted)
        if not data and wanted:
            raise DataCorrupt(f"tar archive ends within {self._name!r}")
        self._left -= len(data)
        return data

    def skip(self) -> None:
        while self._left:
            self.read(CHUNK)
        if self._padding:  # the last one may be missing: Docker's command line leaves it out
            _read_exactly(self._source, self._padding, self._name, may_end=True)
            self._padding = 0


def iter_entries(
    stream: Readable, *, limits: Limits = DEFAULT_LIMITS, allow_absolute: bool = True
) -> Iterator[tuple[Entry, Readable | None]]:
    """The members in archive order, files with their content, readable until the next one is asked for.

    Paths and targets of hard links are normalised as Docker does: without leading ``/`` or ``./`` and trailing slash,
    ``a/../b`` is ``b``. Raises DataCorrupt naming the member for damaged headers, paths that lead outside, and
    whatever exceeds ``limits``; without ``allow_absolute`` also for absolute paths and any ``..``.

    Global pax headers say nothing, as in Docker: records that apply to all members would let a few bytes cost memory
    and time without bounds.
    """
    state = _Parser(stream, limits, allow_absolute=allow_absolute)
    while (member := state.next_member()) is not None:
        yield member


def is_tar_header(header: bytes) -> bool:
    """Whether a block is the first of a tar archive: its checksum is right."""
    if len(header) < BLOCK or not any(header):
        return False
    field = header[_CHECKSUM_AT : _CHECKSUM_AT + 8].strip(b" \0")
    try:
        stored = int(field, 8)
    except ValueError:
        return False
    return stored == sum(header) - sum(header[_CHECKSUM_AT : _CHECKSUM_AT + 8]) + 8 * 32


class _Parser:
    def __init__(self, stream: Readable, limits: Limits, *, allow_absolute: bool) -> None:
        self._stream = stream
        self._limits = limits
        self._allow_absolute = allow_absolute
        self._members = 0
        self._total = 0
        self._content: _Content | None = None

    def next_member(self) -> tuple[Entry, Readable | None] | None:
        if self._content is not None:
            self._content.skip()
            self._content = None
        extended: dict[str, bytes] = {}
        names: dict[str, bytes] = {}  # GNU's long names stand above pax records
        while True:
            header = self._header()
            if header is None:
                if extended or names:
                    raise DataCorrupt("tar archive ends after an extended header")
                return None
            kind = header[156:157]
            if kind in (b"x", b"X"):
                extended = _pax_records(self._metadata(header))
            elif kind == b"g":
                _pax_records(self._metadata(header))
                extended, names = {}, {}
            elif kind == b"L":
                names["path"] = self._metadata(header).split(b"\0", 1)[0]
            elif kind == b"K":
                names["linkpath"] = self._metadata(header).split(b"\0", 1)[0]
            else:
                return self._member(header, kind, {**extended, **names})

    def _header(self) -> bytes | None:
        block = _read_exactly(self._stream, BLOCK, "header", may_end=True)
        if not block:
            return None
        if block == bytes(BLOCK):
            self._drain()
            return None
        self._members += 1
        if self._members > self._limits.members:
            raise DataCorrupt(f"tar archive has more than {self._limits.members} members", code="tar-members")
        stored = _number(block[148:156], "checksum")
        actual = sum(block) - sum(block[148:156]) + 256
        if stored != actual:
            raise DataCorrupt(f"tar archive has a damaged header: checksum {stored}, expected {actual}")
        return block

    def _drain(self) -> None:
        """Read the padding after the end marker, so that whoever hashes the stream sees all of it."""
        while self._stream.read(CHUNK):
            pass

    def _metadata(self, header: bytes) -> bytes:
        size = _number(header[124:136], "size of an extended header")
        if not 0 <= size <= self._limits.metadata:
            raise DataCorrupt(f"tar archive has an extended header of {size} bytes, at most {self._limits.metadata}")
        data = _read_exactly(self._stream, size + -size % BLOCK, "extended header")
        return data[:size]

    def _member(self, header: bytes, flag: bytes, extended: dict[str, bytes]) -> tuple[Entry, Readable | None]:
        raw_path = extended.get("path") or _header_path(header)
        kind = _KINDS.get(flag)
        shown = raw_path[:200].decode("utf-8", "replace")
        if flag == b"S" or any(key.startswith("GNU.sparse.") for key in extended):
            raise DataCorrupt(
                f"tar member {shown!r} is a sparse file, which layers do not have",
                hint="write the archive without tar's option --sparse",
                code="tar-sparse",
            )
        if kind is None:
            raise DataCorrupt(f"tar member {shown!r} has the unsupported type {flag!r}")
        if flag == b"\0" and raw_path.endswith(b"/"):
            kind = Kind.DIRECTORY  # pre-POSIX archives
        size = _decimal(extended, "size", _number(header[124:136], shown), shown)
        if size < 0:
            raise DataCorrupt(f"tar member {shown!r} has the negative size {size}")
        self._total += size
        if self._total > self._limits.total:
            raise DataCorrupt(f"tar archive has more than {self._limits.total} bytes of content")
        if kind is not Kind.FILE:
            size = 0  # some writers note a hard link's size, none of them stores data
        self._content = _Content(self._stream, shown, size)
        target = extended.get("linkpath") or header[157:257].split(b"\0", 1)[0]
        if kind is Kind.HARDLINK:
            text = self._checked_path(target, f"link target of {shown!r}")
        else:
            text = self._checked_text(target, shown) if kind is Kind.SYMLINK else ""
        is_device = kind in (Kind.CHARACTER, Kind.BLOCK)
        entry = Entry(
            path=self._checked_path(raw_path, repr(shown)),
            kind=kind,
            mode=_number(header[100:108], shown) & 0o7777,
            uid=_owner(_decimal(extended, "uid", _number(header[108:116], shown), shown), shown),
            gid=_owner(_decimal(extended, "gid", _number(header[116:124], shown), shown), shown),
            mtime=_time(extended, _number(header[136:148], shown), shown),
            size=size,
            target=text,
            major=_device(header[329:337], _MAJORS, shown) if is_device else 0,
            minor=_device(header[337:345], _MINORS, shown) if is_device else 0,
            xattrs=_attributes(extended, shown),
        )
        return entry, self._content if kind is Kind.FILE else None

    def _checked_path(self, raw: bytes, shown: str) -> str:
        if raw.startswith(b"/") and not self._allow_absolute:
            raise DataCorrupt(f"tar member {shown}: absolute path", code="tar-outside")
        parts: list[bytes] = []
        for part in raw.split(b"/"):
            if part == b"..":
                if not parts or not self._allow_absolute:
                    raise DataCorrupt(f"tar member {shown}: path leads outside with '..'", code="tar-outside")
                parts.pop()
            elif part not in (b"", b"."):
                parts.append(part)
        if len(raw) > self._limits.path or any(len(part) > self._limits.component for part in parts):
            raise DataCorrupt(f"tar member {shown}: path is too long ({len(raw)} bytes)")
        if b"\0" in raw:
            raise DataCorrupt(f"tar member {shown}: path has a zero byte")
        return b"/".join(parts).decode("utf-8", "surrogateescape")

    def _checked_text(self, raw: bytes, shown: str) -> str:
        if not raw or len(raw) > self._limits.path or b"\0" in raw:
            raise DataCorrupt(f"tar member {shown!r}: invalid symbolic link target of {len(raw)} bytes")
        return raw.decode("utf-8", "surrogateescape")


def _read_exactly(stream: Readable, size: int, what: str, *, may_end: bool = False) -> bytes:
    data = stream.read(size)
    if len(data) == size or (may_end and not data):
        return data
    parts = [data]
    missing = size - len(data)
    while missing:
        more = stream.read(missing)
        if not more:
            raise DataCorrupt(f"tar archive ends within {what!r}")
        parts.append(more)
        missing -= len(more)
    return b"".join(parts)


def _number(field: bytes, what: str) -> int:
    """Octal text, or GNU's base-256 form when the highest bit of the first byte is set."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    text = field.split(b"\0", 1)[0].strip()
    if not text:
        return 0
    try:
        if text.isdigit():  # int() alone takes signs, underscores and prefixes as well
            return int(text, 8)
    except ValueError:
        pass
    raise DataCorrupt(f"tar archive has a damaged header: {text!r} is no octal number ({what})")


def _header_path(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0", 1)[0]):
        return prefix + b"/" + name
    return name


def _pax_records(data: bytes) -> dict[str, bytes]:
    records: dict[str, bytes] = {}
    position = 0
    while position < len(data) and data[position]:
        space = data.find(b" ", position, position + 8)
        digits = data[position:space] if space > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        equals = data.find(b"=", space, end)
        if equals <= space + 1 or end > len(data) or data[end - 1 : end] != b"\n":
            raise DataCorrupt("tar archive has a damaged pax header")
        key = data[space + 1 : equals].decode("utf-8", "surrogateescape")
        records[key] = data[equals + 1 : end - 1]
        position = end
    return records


def _decimal(extended: dict[str, bytes], key: str, default: int, shown: str) -> int:
    if (raw := extended.get(key)) is None or not raw:
        return default
    if not raw.removeprefix(b"-").isdigit() or len(raw) > 20:
        raise DataCorrupt(f"tar member {shown!r}: invalid {key} {raw[:40]!r}")
    return int(raw)


def _owner(value: int, shown: str) -> int:
    if not 0 <= value < (1 << 32) - 1:
        raise DataCorrupt(f"tar member {shown!r}: invalid owner {value}")
    return value


def _device(field: bytes, limit: int, shown: str) -> int:
    value = _number(field, shown)
    if not 0 <= value < limit:
        raise DataCorrupt(f"tar member {shown!r}: invalid device number {value}")
    return value


def _attributes(extended: dict[str, bytes], shown: str) -> dict[str, bytes]:
    found = {key[len(_XATTR) :]: value for key, value in extended.items() if key.startswith(_XATTR)}
    for name in found:
        if not name or "\0" in name or len(name) > _XATTR_NAME:
            raise DataCorrupt(f"tar member {shown!r}: invalid extended attribute {name[:200]!r}")
    return found


def _time(extended: dict[str, bytes], default: int, shown: str) -> int:
    raw = extended.get("mtime")
    seconds = default if not raw else _decimal({"mtime": raw.split(b".", 1)[0]}, "mtime", default, shown)
    if not -(1 << 40) < seconds < 1 << 40:
        raise DataCorrupt(f"tar member {shown!r}: invalid time {seconds}")
    return seconds
