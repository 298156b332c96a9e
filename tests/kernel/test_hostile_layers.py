"""Layers made to do harm, through the real store as root: imported, unpacked, mounted. One test per attack.

Each has a canary outside the layer. What Docker 28 refuses is refused, what it takes is taken and stays inside.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import stat
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hostile_tars import END, directory, header, link, long_name, member, padded, pax
from tare.archive.entry import Entry, Kind
from tare.archive.tar_stream import iter_entries
from tare.base.readers import Readable
from tare.errors import DataCorrupt
from tare.kernel import mounts
from tare.model import Digest
from tare.store.snapshotter import Lower
from tare.store.store import Store

pytestmark = pytest.mark.root

SECRET = "untouched"
OPAQUE = "trusted.overlay.opaque"


class Lab:
    """A store, a place to mount, and a canary beside them; ``{outside}`` in a layer is the canary's directory."""

    def __init__(self, store: Store, root: Path) -> None:
        self.store = store
        self._target = root / "target"
        self.outside = root / "outside"

    async def unpack(self, *parts: bytes) -> Lower:
        tar = io.BytesIO(b"".join(parts) + END)
        layer = await self.store.layers.import_stream(tar, None)
        return await self.store.snapshots.ensure_layer(layer.diff_id)

    @asynccontextmanager
    async def viewed(self, *lowers: Lower) -> AsyncIterator[Path]:
        await self.store.snapshots.view(lowers, self._target)
        try:
            yield self._target
        finally:
            await self.store.snapshots.unmount(self._target)

    async def refused(self, *parts: bytes, match: str, code: str | None = None) -> None:
        """The layer is refused as it comes, or when its links are followed; nothing of it is unpacked then."""
        with pytest.raises(DataCorrupt, match=match) as caught:
            await self.unpack(*parts)
        assert code is None or caught.value.code == code
        assert len(str(caught.value)) < 1000
        self.assert_nothing_left()

    def assert_nothing_left(self) -> None:
        assert os.listdir(self.store.root / "snapshots") == ["empty"]
        assert os.listdir(self.store.root / "staging") == []


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    store = await Store.open(tmp_path / "data")
    for name in ("outside", "target"):
        (tmp_path / name).mkdir()
    canary = tmp_path / "outside/file"
    canary.write_text(SECRET)
    before = [(path.lstat(), os.listxattr(path)) for path in (canary, canary.parent)]
    etc = os.stat("/etc")
    try:
        yield Lab(store, tmp_path)
    finally:
        await store.close()
    assert os.listdir(canary.parent) == ["file"] and canary.read_text() == SECRET
    after = [(path.lstat(), os.listxattr(path)) for path in (canary, canary.parent)]
    assert _without_atime(before) == _without_atime(after)
    assert os.stat("/etc").st_mtime_ns == etc.st_mtime_ns
    assert mounts.unmount_below(tmp_path) == []


def _without_atime(found: list[tuple[os.stat_result, list[str]]]) -> list[tuple[object, ...]]:
    return [
        (item.st_mode, item.st_uid, item.st_gid, item.st_nlink, item.st_size, item.st_mtime_ns, item.st_ctime_ns, names)
        for item, names in found
    ]


# --- names that lead outside


@pytest.mark.parametrize("name", [b"../outside/file", b"a/../../outside/file", b"/../outside/file", b"..", b"a/../.."])
@pytest.mark.parametrize("flag", [b"0", b"1", b"2", b"3", b"5", b"6"])
async def test_names_that_lead_outside(lab: Lab, name: bytes, flag: bytes) -> None:
    evil = member(name, flag=flag, target=b"victim")
    await lab.refused(member(b"victim"), evil, match="leads outside", code="tar-outside")


@pytest.mark.parametrize("form", ["ustar", "prefix", "pax", "gnu"])
async def test_names_that_lead_outside_in_every_form(lab: Lab, form: str) -> None:
    name = b"d/../../outside/file"
    tar = {
        "ustar": member(name),
        "prefix": member(b"outside/file", prefix=b"d/../.."),
        "pax": pax({b"path": name}) + member(b"honest"),
        "gnu": long_name(name) + member(b"honest"),
    }[form]
    await lab.refused(tar, match="leads outside", code="tar-outside")


async def test_absolute_names_begin_at_the_layers_root(lab: Lab) -> None:
    """As in Docker: some builders write such layers."""
    outside = os.fsencode(lab.outside)
    lower = await lab.unpack(pax({b"path": outside + b"/file"}) + member(b"x", b"evil"), member(b"//a/./../b", b"b"))
    async with lab.viewed(lower) as root:
        assert (root / str(lab.outside).lstrip("/") / "file").read_text() == "evil"
        assert (root / "b").read_text() == "b"


# --- links


@pytest.mark.parametrize("target", ["{outside}", "../outside", "../../../../../../../../{outside}", "/proc/self/cwd"])
async def test_a_link_is_no_way_out(lab: Lab, target: str) -> None:
    """Followed inside the layer, where nothing is."""
    text = os.fsencode(target.format(outside=lab.outside))
    await lab.refused(pax({b"linkpath": text}) + link(b"a", b"x"), member(b"a/file", b"evil"), match="'a/file'")


async def test_a_link_to_the_parent_is_no_way_out(lab: Lab) -> None:
    lower = await lab.unpack(
        directory(b"d"), link(b"d/up", b".."), link(b"d/up/top", b"../../.."), member(b"d/up/top/outside/file", b"evil")
    )
    async with lab.viewed(lower) as root:
        assert (root / "outside/file").read_text() == "evil"


async def test_a_link_that_takes_the_place_of_a_directory_is_no_way_out(lab: Lab) -> None:
    outside = os.fsencode(lab.outside)
    evil = pax({b"linkpath": outside}) + link(b"d/sub", b"x")
    await lab.refused(directory(b"d/sub"), member(b"d/sub/a"), evil, member(b"d/sub/file", b"evil"), match="d/sub/file")


async def test_a_link_in_a_lower_layer_is_no_way_out_for_the_one_above(lab: Lab) -> None:
    """Nor is it followed: the directory above takes its place, as in Docker."""
    outside = os.fsencode(lab.outside)
    below = await lab.unpack(pax({b"linkpath": outside}) + link(b"a", b"x"))
    above = await lab.unpack(member(b"a/file", b"evil"), member(b"a/.wh.file"), member(b"a/.wh..wh..opq"))
    async with lab.viewed(below, above) as root:
        assert (root / "a/file").read_text() == "evil" and not (root / "a").is_symlink()


async def test_metadata_is_the_links_own(lab: Lab) -> None:
    target = os.fsencode(lab.outside / "file")
    records = {b"linkpath": target, b"SCHILY.xattr.trusted.x": b"1", b"mtime": b"5"}
    await lab.unpack(pax(records) + member(b"a", flag=b"2", target=b"x", mode=b"0004777\0", uid=b"0000777\0"))


async def test_a_file_in_place_of_a_link_does_not_write_through_it(lab: Lab) -> None:
    target = os.fsencode(lab.outside / "file")
    lower = await lab.unpack(pax({b"linkpath": target}) + link(b"a", b"x"), member(b"a", b"evil"))
    async with lab.viewed(lower) as root:
        assert (root / "a").read_text() == "evil"


@pytest.mark.parametrize("target", [b"../outside/file", b"/../outside/file", b"a/../../outside/file"])
async def test_hard_links_that_lead_outside(lab: Lab, target: bytes) -> None:
    await lab.refused(link(b"stolen", target, b"1"), match="link target of 'stolen'", code="tar-outside")


@pytest.mark.parametrize("way", ["direct", "link"])
async def test_hard_links_to_files_of_the_host(lab: Lab, way: str) -> None:
    outside = os.fsencode(lab.outside)
    if way == "direct":
        tar = pax({b"linkpath": outside + b"/file"}) + link(b"stolen", b"x", b"1")
    else:
        tar = pax({b"linkpath": outside}) + link(b"a", b"x") + link(b"stolen", b"a/file", b"1")
    await lab.refused(tar, match="'stolen' cannot be unpacked")


async def test_a_hard_link_to_a_symbolic_link_does_not_follow_it(lab: Lab) -> None:
    target = lab.outside / "file"
    tar = pax({b"linkpath": os.fsencode(target)}) + link(b"s", b"x") + link(b"h", b"s", b"1")
    lower = await lab.unpack(tar, member(b"h/../h", b"evil"))
    async with lab.viewed(lower) as root:
        assert os.readlink(root / "s") == os.fspath(target) and (root / "h").read_text() == "evil"


@pytest.mark.parametrize("target", [b"a", b"missing", b"d", b"."])
async def test_hard_links_to_themselves_to_nothing_and_to_directories(lab: Lab, target: bytes) -> None:
    await lab.refused(directory(b"d"), link(b"a", target, b"1"), match="'a'")


async def test_links_that_go_round(lab: Lab) -> None:
    await lab.refused(link(b"a", b"b"), link(b"b", b"a"), member(b"a/x"), match="symbolic links")


# --- the same name again


async def test_a_name_that_comes_again_replaces_what_was_there(lab: Lab) -> None:
    outside = os.fsencode(lab.outside)
    to_outside = pax({b"linkpath": outside}) + link(b"x", b"x")
    lower = await lab.unpack(
        member(b"file-over-directory/in"), member(b"file-over-directory", b"1"),
        member(b"directory-over-file"), directory(b"directory-over-file"), member(b"directory-over-file/in"),
        pax({b"linkpath": outside}) + link(b"directory-over-link", b"x"), directory(b"directory-over-link"),
        member(b"directory-over-link/in"),
        to_outside, member(b"x", flag=b"6"), to_outside, member(b"x", b"2"),
        member(b"again", b"long before"), member(b"again", b"short"),
    )  # fmt: skip
    async with lab.viewed(lower) as root:
        assert (root / "file-over-directory").read_text() == "1" and (root / "x").read_text() == "2"
        assert os.listdir(root / "directory-over-file") == ["in"] == os.listdir(root / "directory-over-link")
        assert not (root / "directory-over-link").is_symlink() and (root / "again").read_text() == "short"


async def test_writing_one_of_two_names_leaves_the_other(lab: Lab) -> None:
    lower = await lab.unpack(member(b"a", b"first"), link(b"b", b"a", b"1"), member(b"a", b"second"))
    async with lab.viewed(lower) as root:
        assert (root / "b").read_text() == "first" and (root / "a").stat().st_nlink == 1


async def test_a_file_is_no_directory(lab: Lab) -> None:
    await lab.refused(member(b"f"), member(b"f/g"), match="'f/g' cannot be unpacked: Not a directory")


async def test_what_stands_for_the_root_itself(lab: Lab) -> None:
    lower = await lab.unpack(
        link(b"./", b"/etc"), member(b"./", b"data"), member(b"a/..", b"data"), directory(b"/"), member(b"", b"data")
    )
    async with lab.viewed(lower) as root:
        assert os.listdir(root) == []


# --- whiteouts


@pytest.mark.parametrize("name", [b".wh...", b".wh..", b".wh.", b"d/.wh...", b"d/.wh.."])
async def test_whiteouts_of_dots(lab: Lab, name: bytes) -> None:
    await lab.refused(member(name), match="invalid whiteout")


@pytest.mark.parametrize("name", [b"../.wh.file", b"d/../../outside/.wh.file", b".wh.x/../../outside/.wh.file"])
async def test_whiteouts_outside(lab: Lab, name: bytes) -> None:
    await lab.refused(member(name), match="leads outside", code="tar-outside")


async def test_whiteouts_through_links(lab: Lab) -> None:
    outside = os.fsencode(lab.outside)
    tar = pax({b"linkpath": outside}) + link(b"a", b"x")
    await lab.refused(tar, member(b"a/.wh.file"), match="a/.wh.file")
    await lab.refused(tar, member(b"a/.wh..wh..opq"), match="a/.wh..wh..opq")


async def test_absolute_whiteouts_are_the_layers_own(lab: Lab) -> None:
    below = await lab.unpack(member(b"etc/passwd"), member(b"etc/group"))
    above = await lab.unpack(member(b"/etc/.wh.passwd"))
    async with lab.viewed(below, above) as root:
        assert os.listdir(root / "etc") == ["group"]
    assert os.path.exists("/etc/passwd")


async def test_odd_whiteouts(lab: Lab) -> None:
    below = await lab.unpack(member(b"d/old"), member(b"d/keep"), member(b"e/old"), member(b"f"))
    above = await lab.unpack(
        member(b"d/.wh..wh.aufs", b"of no consequence"),
        member(b"d/.wh..wh..opq.", b"nearly"),
        member(b"d/.wh.old", flag=b"5"),  # a directory by that name says the same
        member(b"e/.wh..wh..opq", flag=b"2", target=b"/etc"),
        member(b".wh.f", flag=b"2", target=b"/etc/passwd"),
        member(b".wh.not-there", b"with content"),
    )
    async with lab.viewed(below, above) as root:
        assert os.listdir(root / "d") == ["keep"] and os.listdir(root / "e") == []
        assert sorted(os.listdir(root)) == ["d", "e"]


async def test_a_whiteout_never_hides_its_own_layer(lab: Lab) -> None:
    tar = directory(b"d") + member(b"d/file", b"1") + member(b".wh.d") + member(b"f", b"2") + member(b".wh.f")
    async with lab.viewed(await lab.unpack(tar)) as root:
        assert (root / "d/file").read_text() == "1" and (root / "f").read_text() == "2"


# --- what must not steer the overlay file system, or the host


async def test_attributes_do_not_steer_the_overlay(lab: Lab) -> None:
    below = await lab.unpack(member(b"d/secret"), member(b"real"), member(b"f", b"lower"))
    names = (b"opaque", b"redirect", b"metacopy", b"whiteout", b"origin", b"overlay.opaque")
    records = {b"SCHILY.xattr.trusted.overlay." + name: b"y" for name in names}
    records |= {b"SCHILY.xattr.trusted.overlay.redirect": b"/real", b"SCHILY.xattr.user.overlay.opaque": b"y"}
    above = await lab.unpack(pax(records) + directory(b"d"), pax(records) + member(b"f", b"upper"))
    async with lab.viewed(below, above) as root:
        assert os.listdir(root / "d") == ["secret"] and (root / "f").read_text() == "upper"
    assert not any("trusted.overlay" in name for path in _files(lab) for name in os.listxattr(path))


def _files(lab: Lab) -> list[Path]:
    return [path for path in (lab.store.root / "snapshots").rglob("*") if not path.is_symlink()]


async def test_attributes_keep_their_meaning(lab: Lab) -> None:
    capability = b"\x01\x00\x00\x02\x00\x04\x00\x00" + bytes(12)
    records = {b"SCHILY.xattr.security.capability": capability, b"SCHILY.xattr.user.a": b"1\0\n"}
    async with lab.viewed(await lab.unpack(pax(records) + member(b"f"))) as root:
        assert os.getxattr(root / "f", "security.capability") == capability
        assert os.getxattr(root / "f", "user.a") == b"1\0\n"


@pytest.mark.parametrize("name", [b"", b"user.\0a", b"user." + b"n" * 300])
async def test_attributes_without_a_name_that_could_be(lab: Lab, name: bytes) -> None:
    await lab.refused(pax({b"SCHILY.xattr." + name: b"1"}) + member(b"f"), match="'f': invalid extended attribute")


@pytest.mark.parametrize("flag", [b"0", b"5"])
async def test_an_attribute_that_no_file_system_holds_is_no_full_disk(lab: Lab, flag: bytes) -> None:
    tar = pax({b"SCHILY.xattr.user.a": b"x" * 70_000}) + member(b"f", flag=flag)
    await lab.refused(tar, match="'f' cannot be unpacked: (Argument list too long|.*user.a is too large)")


async def test_a_device_that_is_a_whiteout_hides_but_does_no_more(lab: Lab) -> None:
    """Character device 0/0, as in Docker."""
    below = await lab.unpack(member(b"f"), member(b"g"))
    above = await lab.unpack(member(b"f", flag=b"3"))
    async with lab.viewed(below, above) as root:
        assert os.listdir(root) == ["g"]


async def test_device_nodes_pipes_and_setuid_files_cannot_be_reached_from_outside(lab: Lab) -> None:
    """They are made as the layer says; no user of the host comes to them, or starts them."""
    lower = await lab.unpack(
        member(b"disk", flag=b"4", mode=b"0000666\0", major=b"0000010\0", minor=b"0000000\0"),
        member(b"pipe", flag=b"6"),
        member(b"root", b"#!/bin/sh\n", mode=b"0006755\0"),
    )
    async with lab.viewed(lower) as root:
        assert (root / "disk").stat().st_rdev == os.makedev(8, 0) and stat.S_ISFIFO((root / "pipe").stat().st_mode)
        assert (root / "root").stat().st_mode & 0o7777 == 0o6755
    for name in ("snapshots", "layers", "staging", "blobs"):
        assert (lab.store.root / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("value", [b"\xff" * 8, b"\x80" + b"\xff" * 7, b"7777777\0"])
@pytest.mark.parametrize("field", ["major", "minor"])
async def test_device_numbers_out_of_range(lab: Lab, field: str, value: bytes) -> None:
    if (field, value) == ("minor", b"7777777\0"):
        value = b"\x80\0\0\0\0\x10\0\0"
    await lab.refused(member(b"d", flag=b"3", **{field: value}), match="'d': invalid device number")


# --- names, numbers and sizes beyond all measure


@pytest.mark.parametrize("name", [b"n" * 100_000, b"n/" * 50_000 + b"n", b"n" * 256])
@pytest.mark.parametrize("form", ["pax", "gnu"])
async def test_names_beyond_what_the_kernel_takes(lab: Lab, form: str, name: bytes) -> None:
    tar = pax({b"path": name}) if form == "pax" else long_name(name)
    await lab.refused(tar + member(b"x"), match="path is too long")


@pytest.mark.parametrize("form", ["pax", "gnu"])
async def test_link_targets_beyond_what_the_kernel_takes(lab: Lab, form: str) -> None:
    target = b"t" * 100_000
    tar = pax({b"linkpath": target}) if form == "pax" else long_name(target, b"K")
    await lab.refused(tar + link(b"s", b"x"), match="invalid symbolic link target of 100000 bytes")
    await lab.refused(tar + link(b"h", b"x", b"1"), match="path is too long")


async def test_the_deepest_name_and_what_is_deeper(lab: Lab) -> None:
    """2,000 levels, and as many again by way of a link: unpacked, measured, deleted without a frame per level."""
    deep = b"a/" * 2000
    lower = await lab.unpack(
        pax({b"path": deep + b"f"}) + member(b"x", b"1"),
        pax({b"linkpath": deep}) + link(b"down", b"x"),
        pax({b"path": b"down/" + deep + b"f"}) + member(b"x", b"2"),
    )
    async with lab.viewed(lower) as root:
        assert (root / "down/f").read_text() == "1"
    assert await lab.store.snapshots.usage(lower) > 4000 * 4096
    await lab.store.snapshots.remove(lower)
    lab.assert_nothing_left()


async def test_names_with_line_feeds_and_other_bytes(lab: Lab) -> None:
    names = [b"a\nb", b"\xff\xfe", b"\x1b[2J", b"-rf", b"%s", b"\xe2\x80\xaeevil", b" ", b"..."]
    lower = await lab.unpack(*(pax({b"path": name}) + member(b"x", name) for name in names))
    async with lab.viewed(lower) as root:
        assert sorted(os.listdir(os.fsencode(root))) == sorted(names)


async def test_names_with_a_zero_byte(lab: Lab) -> None:
    await lab.refused(pax({b"path": b"a\0b"}) + member(b"x"), match="zero byte")
    await lab.refused(pax({b"linkpath": b"a\0b"}) + link(b"s", b"x"), match="invalid symbolic link target")
    await lab.refused(pax({b"linkpath": b"a\0b"}) + link(b"h", b"x", b"1"), match="zero byte")
    lower = await lab.unpack(long_name(b"seen\0unseen") + member(b"x"))  # text ends there
    async with lab.viewed(lower) as root:
        assert os.listdir(root) == ["seen"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": b"\xff" * 12}, "negative size"),
        ({"size": b"\x80" + b"\xff" * 11}, "more than .* bytes of content"),
        ({"size": b"9" * 11}, "no octal number"),
        ({"size": b"-1"}, "no octal number"),
        ({"size": b"0x10"}, "no octal number"),
        ({"size": b"00000001 00\0"}, "no octal number"),
        ({"size": b"77777777777\0"}, "ends within"),
        ({"uid": b"\xff" * 8}, "invalid owner"),
        ({"gid": b"\x80\0\0\1\0\0\0\0"}, "invalid owner"),
        ({"mtime": b"\x80\xff" + b"\xff" * 10}, "invalid time"),
        ({"mode": b"rw-r--r-"}, "no octal number"),
        ({"flag": b"V"}, "unsupported type"),
        ({"flag": b"S"}, "sparse"),
    ],
)
async def test_numbers_and_types_that_are_none(lab: Lab, fields: dict[str, bytes], words: str) -> None:
    await lab.refused(header(**fields) + padded(b"data"), match=words)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (b"size", b"-1", "negative size"),
        (b"size", b"99999999999999999999", "more than .* bytes of content"),
        (b"size", b"9" * 30, "invalid size"),
        (b"size", b"1e3", "invalid size"),
        (b"size", b"99999999", "ends within"),
        (b"uid", b"99999999999", "invalid owner"),
        (b"gid", b"-1", "invalid owner"),
        (b"mtime", b"--5", "invalid mtime"),
        (b"mtime", b"99999999999999", "invalid time"),
        (b"mtime", b"nan", "invalid mtime"),
        (b"GNU.sparse.realsize", b"1099511627776", "sparse"),
    ],
)
async def test_extended_numbers_that_are_none(lab: Lab, key: bytes, value: bytes, words: str) -> None:
    await lab.refused(pax({key: value}) + member(b"x", b"data"), match=words)


async def test_the_largest_owners_and_the_oldest_times(lab: Lab) -> None:
    records = {b"uid": b"4294967294", b"gid": b"4294967294", b"mtime": b"-99999999999.5"}
    async with lab.viewed(await lab.unpack(pax(records) + member(b"f"))) as root:
        found = (root / "f").stat()
    assert (found.st_uid, found.st_gid) == (4294967294, 4294967294) and found.st_mtime < 0


async def test_a_size_that_hides_members(lab: Lab) -> None:
    """A file whose name ends in a slash has content like any other: what looks like members in it is none."""
    lower = await lab.unpack(member(b"file/", member(b"smuggled", b"1")))
    async with lab.viewed(lower) as root:
        assert os.listdir(root) == ["file"] and (root / "file").is_file()


async def test_links_and_directories_have_no_content_whatever_their_size_says(lab: Lab) -> None:
    lower = await lab.unpack(header(b"d", b"5", 512), header(b"s", b"2", 512, target=b"t"), member(b"seen"))
    async with lab.viewed(lower) as root:
        assert sorted(os.listdir(root)) == ["d", "s", "seen"]


# --- archives that never end, or end too soon


class Endless:
    """One piece again and again; no tar of that size need be stored."""

    def __init__(self, piece: bytes, limit: int) -> None:
        self._piece = piece
        self._left = limit
        self._buffer = b""

    def read(self, size: int = -1, /) -> bytes:
        while len(self._buffer) < size and self._left:
            self._buffer += self._piece
            self._left -= 1
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def peak_of(stream: Readable) -> int:
    """Bytes of memory that reading takes at most."""
    tracemalloc.start()
    try:
        with contextlib.suppress(DataCorrupt):
            for _ in iter_entries(stream):
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_extended_headers_do_not_pile_up(lab: Lab) -> None:
    """64 MB of records that would apply to one member, and of such that would apply to all."""
    for flag in (b"g", b"x", b"L"):
        records = pax({b"comment%d" % number: b"x" * 1000 for number in range(900)}, flag)
        assert peak_of(Endless(records + (member(b"f") if flag == b"g" else b""), 64)) < 8 << 20, flag


async def test_a_huge_extended_header(lab: Lab) -> None:
    for flag in (b"x", b"g", b"L", b"K"):
        await lab.refused(header(b"pax", flag, 2 << 20), match="extended header of 2097152 bytes")
        await lab.refused(header(b"pax", flag, b"\xff" * 12), match="extended header of -1 bytes")


@pytest.mark.parametrize(
    "records",
    [
        b"x",
        b"0 a=b\n",
        b"5 a=b",
        b"999 a=b\n",
        b"6 a=b\n6",
        b"-6 a=b\n",
        b"6 ab c\n",
        b"7 =b\n\n\n",
        b"06a=b\n",
        b"3 \n",
    ],
)
async def test_extended_headers_that_are_none(lab: Lab, records: bytes) -> None:
    await lab.refused(member(b"pax", records, b"x"), member(b"f"), match="damaged pax header")


@pytest.mark.parametrize("cut", [1, 100, 511, 513, 700, 1023])
async def test_archives_that_are_cut(lab: Lab, cut: int) -> None:
    with pytest.raises(DataCorrupt, match="ends within"):
        await lab.store.layers.import_stream(io.BytesIO(member(b"f", b"x" * 1000)[:cut]), None)
    lab.assert_nothing_left()


async def test_another_layer_than_announced_is_told_before_what_is_wrong_with_it(lab: Lab) -> None:
    tar = member(b"../x") + END
    for expected, words in ((Digest.of(tar), "leads outside"), (Digest.of(b""), f"digest {Digest.of(tar)}, expected")):
        with pytest.raises(DataCorrupt, match=words):
            await lab.store.layers.import_stream(io.BytesIO(tar), expected)
    assert os.listdir(lab.store.root / "layers") == []
    lab.assert_nothing_left()


async def test_a_header_with_a_wrong_sum(lab: Lab) -> None:
    block = bytearray(header())
    block[0] ^= 1
    await lab.refused(bytes(block), match="checksum")


async def test_what_comes_after_the_end_is_not_unpacked(lab: Lab) -> None:
    lower = await lab.unpack(member(b"a"), END, member(b"b"))
    async with lab.viewed(lower) as root:
        assert os.listdir(root) == ["a"]


async def test_many_members_need_few_descriptors(lab: Lab) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
    try:
        names = [b"/".join(b"%d" % (number + level) for level in range(30)) for number in range(20)]
        await lab.unpack(*(member(name, b"x") for name in names))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_parsers_view_of_an_entry_is_whole() -> None:
    """An attack that is refused by the unpacker only is seen by all who read layers otherwise."""
    tar = io.BytesIO(pax({b"linkpath": b"/etc/passwd"}) + link(b"a", b"x", b"1") + END)
    assert [entry for entry, _ in iter_entries(tar)] == [
        Entry(path="a", kind=Kind.HARDLINK, mode=0o644, target="etc/passwd")
    ]
