"""Layers of members that lie, and damaged ones: read and unpacked, or refused; never anything outside, never a crash.

Members are drawn from few names, so that they meet: links under files, files under links, whiteouts of both. ``make
fuzz`` runs the same with other examples and many more of them (``TARE_FUZZ``).
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hostile_tars import BLOCK, END, FIELDS, header, long_name, padded, pax, signed
from tare.archive.diff import write_upper
from tare.archive.entry import Kind
from tare.archive.resource import write_members
from tare.archive.tar_reader import extract_layer, extract_tree
from tare.archive.tar_stream import Limits, iter_entries
from tare.archive.tar_writer import TarWriter
from tare.archive.unpack import unpack_into
from tare.audit.layers import Layers
from tare.base.trees import remove_tree
from tare.errors import DataCorrupt
from tare.inventory.scan import take_inventory

pytestmark = pytest.mark.root

EXAMPLES = int(os.environ.get("TARE_FUZZ", "0"))
COMMON = settings(
    max_examples=EXAMPLES or 250,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
PLACE = Path(f"/tmp/tare-fuzz-{os.getpid()}")  # links lead to the canary by its whole path
CANARY = PLACE / "outside"

NAMES = st.sampled_from(
    [b"a", b"b", b"a/b", b"a/b/c", b"b/a", b"l", b"l/a", b"l/file", b"l/../file", b"./a", b"a/", b"/a", b"//", b".",
     b"", b"..", b"../outside/file", b"a/../b", b"a/../../outside/file", b"/../a", os.fsencode(CANARY / "file")[:100],
     b".wh.a", b".wh.l", b"a/.wh.b", b"l/.wh.file", b"l/.wh..wh..opq", b".wh..wh..opq", b".wh.", b".wh..", b".wh...",
     b".wh..wh.x", b".wh.file/a", b"a\nb", b"\xff", b"n" * 100, b"/".join([b"d"] * 50)]
)  # fmt: skip
TARGETS = NAMES | st.sampled_from(
    [os.fsencode(CANARY), b"..", b"../..", b"../outside", b"/", b"/proc/self/root", b"/proc/self/cwd", b"l", b"/l/.."]
)
FLAGS = st.sampled_from([b"0", b"0", b"0", b"\0", b"1", b"1", b"2", b"2", b"2", b"5", b"5", b"3", b"4", b"6", b"7"])
VALUES = st.sampled_from(
    [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\x80" + bytes(10) + b"\x03", b"77777777777", b"-1", b"", b" ", b"\0", b"0",
     b"8", b"0004777\0", b"S", b"L", b"K", b"x", b"g", b"V"]
) | st.binary(max_size=12)  # fmt: skip
KEYS = st.sampled_from(
    [b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"SCHILY.xattr.user.a", b"comment", b"",
     b"SCHILY.xattr.trusted.overlay.opaque", b"SCHILY.xattr.trusted.overlay.redirect", b"SCHILY.xattr.",
     b"SCHILY.xattr.security.capability", b"SCHILY.xattr.user.\0", b"GNU.sparse.size"]
)  # fmt: skip
LIES = TARGETS | st.sampled_from([b"-1", b"1", b"5", b"1e9", b"99999999999999999999", b"--5", b"1.5", b"nan", b"\0"])
LIES |= st.binary(max_size=30) | st.integers(1, 5000).map(lambda count: b"a/" * count)


@dataclass(frozen=True)
class Member:
    name: bytes
    flag: bytes
    target: bytes
    data: bytes
    extended: dict[bytes, bytes]
    form: bytes  # of the extended header, or b"L" for a long name
    fields: dict[str, bytes]

    def tar(self) -> bytes:
        block = header(self.name, self.flag, len(self.data), target=self.target)
        if self.fields:
            changed = bytearray(block)
            for name, value in self.fields.items():
                offset, length = FIELDS[name]
                changed[offset : offset + length] = value[:length].ljust(length, b"\0")
            block = signed(changed)
        before = b""
        if self.extended:
            before = (
                long_name(next(iter(self.extended.values()))) if self.form == b"L" else pax(self.extended, self.form)
            )
        return before + block + padded(self.data)


MEMBERS = st.lists(
    st.builds(
        Member,
        NAMES,
        FLAGS,
        TARGETS,
        st.sampled_from([b"", b"", b"data", b"x" * 600]),
        st.just({}) | st.just({}) | st.dictionaries(KEYS, LIES, max_size=3),
        st.sampled_from([b"x", b"x", b"g", b"L"]),
        st.just({}) | st.just({}) | st.dictionaries(st.sampled_from(sorted(FIELDS)), VALUES, max_size=2),
    ),
    min_size=1,
    max_size=8,
)


def joined(members: list[Member]) -> bytes:
    return b"".join(member.tar() for member in members) + END


@contextlib.contextmanager
def canary() -> Iterator[Path]:
    """A fresh directory ``fs`` beside a file that must not change."""
    CANARY.mkdir(parents=True)
    try:
        (CANARY / "file").write_text("untouched")
        (PLACE / "fs").mkdir()
        before = look()
        yield PLACE / "fs"
        assert look() == before
        assert sorted(os.listdir(PLACE)) == ["fs", "outside"]
    finally:
        remove_tree(PLACE)


def look() -> list[tuple[object, ...]]:
    return [
        (item.st_mode, item.st_uid, item.st_gid, item.st_nlink, item.st_size, item.st_mtime_ns, item.st_ctime_ns,
         os.listxattr(path), path.read_text() if path.is_file() else os.listdir(path))
        for path in (CANARY, CANARY / "file") for item in [path.lstat()]
    ]  # fmt: skip


def rewritten(directory: Path, write: Callable[[Path, TarWriter], None]) -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    write(directory, writer)
    writer.finish()
    return sink.getvalue()


def read(data: bytes) -> bool:
    """Whether the tar is read; what is read must be what the rest of the program relies on."""
    try:
        for entry, content in iter_entries(io.BytesIO(data), limits=Limits(members=50_000, total=1 << 20)):
            parts = entry.path.split("/") if entry.path else []
            parts += entry.target.split("/") if entry.kind is Kind.HARDLINK and entry.target else []
            assert not {"", ".", ".."} & set(parts) and not any("\0" in part for part in parts)
            assert all(len(os.fsencode(part)) <= 255 for part in parts)
            assert 0 <= entry.mode <= 0o7777 and 0 <= entry.uid < 2**32 - 1 and 0 <= entry.gid < 2**32 - 1
            assert (content is None) is (entry.kind is not Kind.FILE)
            if content is not None:
                assert sum(map(len, iter(lambda content=content: content.read(1 << 16), b""))) == entry.size
    except DataCorrupt as error:
        assert len(str(error)) < 1000
        return False
    return True


@given(MEMBERS)
@COMMON
def test_layers_of_members_that_lie(members: list[Member]) -> None:
    data = joined(members)
    whole = read(data)
    with canary() as directory:
        try:
            extract_layer(io.BytesIO(data), directory)
        except DataCorrupt as error:
            assert len(str(error)) < 1000
            return
        assert whole
        # What was unpacked is a layer again, and its layer unpacks to the same.
        again = rewritten(directory, write_upper)
        assert read(again)
        if any(name.startswith(".wh.") for _, names, _ in os.walk(directory) for name in names):
            return  # "x/.wh.y/z" makes a directory of that name, as in Docker, which no layer can hold by itself
        remove_tree(directory)
        directory.mkdir()
        extract_layer(io.BytesIO(again), directory)
        assert rewritten(directory, write_upper) == again


@given(MEMBERS, MEMBERS)
@COMMON
def test_trees_that_are_filled_twice(first: list[Member], second: list[Member]) -> None:
    """As by ``docker cp`` into a container that has been filled by somebody else."""
    with canary() as directory:
        with contextlib.suppress(DataCorrupt):
            extract_tree(io.BytesIO(joined(first)), directory)
        with contextlib.suppress(DataCorrupt, OSError):
            unpack_into(io.BytesIO(joined(second)), directory, "/a")
        with contextlib.suppress(DataCorrupt, OSError):
            unpack_into(io.BytesIO(joined(second)), directory, "/", holes=True)
        assert read(rewritten(directory, write_members))


@given(st.lists(MEMBERS, min_size=1, max_size=3))
@COMMON
def test_layers_are_looked_at_without_being_unpacked(layers: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory() as place, contextlib.suppress(DataCorrupt):
        paths = [Path(place, f"{number}.tar") for number in range(len(layers))]
        for path, members in zip(paths, layers, strict=True):
            path.write_bytes(joined(members))
        for _, node, content in take_inventory(paths).files():
            assert node.content is content
        stack = Layers()
        try:
            for path in paths:
                stack.add_tar(path)
        finally:
            stack.close()


HONEST = joined(
    [
        Member(b"a", b"5", b"", b"", {}, b"x", {}),
        Member(b"a/b", b"0", b"", b"data", {b"SCHILY.xattr.user.a": b"1", b"mtime": b"5.5"}, b"x", {}),
        Member(b"l", b"2", b"a", b"", {}, b"x", {}),
        Member(b"h", b"1", b"a/b", b"", {b"path": b"a/h"}, b"L", {}),
        Member(b"a/.wh.c", b"0", b"", b"", {}, b"x", {}),
    ]
)
PLACES = st.integers(0, len(HONEST) - 1)
EDITS = st.lists(
    st.tuples(PLACES, st.sampled_from(["set", "cut", "insert", "repeat", "zero"]), st.binary(min_size=1, max_size=12)),
    min_size=1,
    max_size=5,
)


def edited(edits: list[tuple[int, str, bytes]], *, sign: bool) -> bytes:
    data = bytearray(HONEST)
    for place, kind, text in edits:
        block = place - place % BLOCK
        match kind:
            case "set":
                data[place : place + len(text)] = text
            case "cut":
                del data[place : place + len(text) * 100]
            case "insert":
                data[place:place] = text
            case "repeat":
                data[block:block] = data[block : block + BLOCK * len(text)]
            case _:
                data[block : block + BLOCK] = bytes(BLOCK)
    if sign:  # what looks like a header gets a right sum, so that the damage comes further
        for start in range(0, len(data) - BLOCK, BLOCK):
            if data[start + 257 : start + 262] == b"ustar":
                data[start : start + BLOCK] = signed(data[start : start + BLOCK])
    return bytes(data)


@given(EDITS, st.booleans())
@example([(0, "cut", b"x" * 5)], False)
@COMMON
def test_damaged_layers(edits: list[tuple[int, str, bytes]], sign: bool) -> None:
    data = edited(edits, sign=sign)
    whole = read(data)
    with canary() as directory:
        try:
            extract_layer(io.BytesIO(data), directory)
        except DataCorrupt:
            return
        assert whole


@given(st.binary(max_size=3000))
@COMMON
def test_any_bytes(data: bytes) -> None:
    read(data)


def test_the_honest_one_is_read() -> None:
    assert read(HONEST)
    with canary() as directory:
        extract_layer(io.BytesIO(HONEST), directory)
        assert sorted(os.listdir(directory / "a")) == ["b", "c", "h"]
