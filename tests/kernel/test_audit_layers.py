"""Audits read layers as the kernel shows them: hostile and odd layers, put together and mounted, compared."""

from __future__ import annotations

import io
import os
import random
import stat
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from audit_parts import device, directory, file, hardlink, symlink, tar
from tare.archive.entry import Kind
from tare.archive.tar_reader import extract_layer
from tare.audit.layers import open_layers
from tare.errors import DataCorrupt
from tare.kernel import mounts
from tare.store.store import Store

pytestmark = pytest.mark.root

Members = Sequence[tuple[tarfile.TarInfo, bytes]]
BASE: Members = [
    directory("a"), file("a/one", b"1", 0o4755), file("a/two", b"2"), directory("b", 0o1777),
    file("b/sh", b"sh", 0o755), directory("d/e/f"), file("d/e/f/deep", b"deep"), symlink("up", "../../a"),
    symlink("abs", "/d/e"),
    hardlink("b/same", "a/one"), file("plain", b"p"),
]  # fmt: skip
CASES: dict[str, list[Members]] = {
    "whiteouts": [BASE, [file("a/.wh.one"), file(".wh.d"), file("b/.wh.nothing")]],
    "opaque": [BASE, [file("a/.wh..wh..opq"), file("a/new", b"n")]],
    "opaque, the marker last": [BASE, [file("a/new", b"n"), file("a/.wh..wh..opq")]],
    "a whiteout and the same name again": [BASE, [file(".wh.a"), directory("a"), file("a/three", b"3")]],
    "the same name and then its whiteout": [
        BASE, [file("a/three", b"3"), file(".wh.a"), file("plain", b"q"), file(".wh.plain")],
    ],
    "a file in the place of a directory": [BASE, [file("d", b"file")], [directory("d"), file("d/x", b"x")]],
    "a directory in the place of a file": [BASE, [file("plain/x", b"x")]],
    "a link in the place of a directory": [BASE, [symlink("a", "b")], [file("a/three", b"3")]],
    "below a link of the same layer": [
        BASE, [symlink("way", "b"), file("b/x", b"1"), file("way/y", b"2"), file("way/.wh.sh")],
    ],
    "below a link of a lower layer": [BASE, [file("up/x", b"x"), file("abs/y", b"y")]],
    "a link that becomes a directory": [BASE, [directory("b"), symlink("q", "b"), file("q/.wh.sh"), directory("q")]],
    "links out of the root": [
        [symlink("out", "../../.."), directory("in"), file("out/in/x", b"x"), symlink("l", "/../in"), file("l/y")],
    ],
    "a device that is a whiteout": [BASE, [device("plain", 0, 0), device("b/null", 1, 3)]],
    "owners and modes": [
        BASE, [directory("a", 0o700), file("a/one", b"9", 0o640, uid=7, gid=8)], [file("a/x/y/z", b"")],
    ],
    "one file twice": [
        BASE, [file("a/one", b"x"), file("a/one", b"longer"), hardlink("h", "a/one"), file("a/one", b"other")],
    ],
    "aufs' own files": [BASE, [file(".wh..wh.plnk"), file("a/.wh..wh.orph")]],
    "three layers": [BASE, [file(".wh.a")], [directory("a"), file("a/again", b"a")]],
    "a hidden directory under a new one": [BASE, [file("d/e/.wh.f"), directory("d/e/f"), file("d/e/f/x", b"x")]],
}  # fmt: skip
WRONG: dict[str, Members] = {
    "below a file": [file("x", b""), file("x/y", b"")],
    "a hard link to nothing": [hardlink("x", "nothing")],
    "a hard link to a directory": [directory("d"), hardlink("x", "d")],
    "links that go round": [symlink("x", "y"), symlink("y", "x"), file("x/z", b"")],
    "below a link to nothing": [symlink("x", "nowhere"), file("x/y", b"")],
}

Seen = dict[str, tuple[object, ...]]


async def mounted(tmp_path: Path, layers: Sequence[Members]) -> tuple[list[Path], Seen]:
    store = await Store.open(tmp_path / "data")
    target = tmp_path / "view"
    target.mkdir()
    try:
        async with store.leases.hold() as lease:
            stored = []
            for number, members in enumerate(layers):
                data = tar(tmp_path / f"{number}.tar", members).read_bytes()
                stored.append(await store.layers.import_stream(io.BytesIO(data), None, lease=lease))
            lowers = [await store.snapshots.ensure_layer(layer.diff_id) for layer in stored]
            await store.snapshots.view(lowers, target)
            try:
                return [store.layers.path(layer.diff_id) for layer in stored], walk(target)
            finally:
                await store.snapshots.unmount(target)
    finally:
        await store.close()


def walk(root: Path) -> Seen:
    seen: Seen = {}
    for top, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(top, name)
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue  # overlayfs lists whiteouts in directories that it does not merge, and does not find them
            content: object = os.readlink(path) if path.is_symlink() else ""
            if stat.S_ISREG(info.st_mode):
                content = path.read_bytes()
            mode = 0 if stat.S_ISLNK(info.st_mode) else stat.S_IMODE(info.st_mode)
            kind = stat.S_IFMT(info.st_mode)
            seen[f"/{path.relative_to(root)}"] = (kind, mode, info.st_uid, info.st_gid, content)
    return seen


def read(tars: Sequence[Path], upper: Path | None = None) -> Seen:
    kinds = {
        Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK, Kind.CHARACTER: stat.S_IFCHR,
    }  # fmt: skip
    seen: Seen = {}
    with open_layers(tars, upper) as layers:
        for path, inode in layers.tree.walk():
            content: object = inode.target
            if inode.kind is Kind.FILE:
                content = layers.read(inode, 1 << 20)
            mode = 0 if inode.kind is Kind.SYMLINK else inode.mode
            seen[path] = (kinds[inode.kind], mode, inode.uid, inode.gid, content)
    return seen


@pytest.mark.parametrize("name", CASES)
async def test_layers_are_what_is_mounted(tmp_path: Path, name: str) -> None:
    tars, expected = await mounted(tmp_path, CASES[name])
    assert read(tars) == expected


@pytest.mark.parametrize("name", WRONG)
async def test_what_cannot_be_unpacked_cannot_be_audited(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataCorrupt, match="tar member"):
        await mounted(tmp_path, [WRONG[name]])
    with pytest.raises(DataCorrupt, match="tar member"):
        read([tmp_path / "0.tar"])


async def test_a_writable_directory_is_what_is_mounted(tmp_path: Path) -> None:
    tars, _ = await mounted(tmp_path, [BASE])
    for name in ("lower", "upper", "work", "target"):
        (tmp_path / name).mkdir()
    with tars[0].open("rb") as stream:
        extract_layer(stream, tmp_path / "lower")
    target = tmp_path / "target"
    mounts.mount_overlay([tmp_path / "lower"], tmp_path / "upper", tmp_path / "work", target)
    try:
        (target / "a/one").unlink()
        (target / "b/sh").write_bytes(b"changed")
        os.link(target / "b/sh", target / "b/again")
        for path in ("d/e/f/deep", "d/e/f", "d/e", "d"):
            (target / path).unlink() if path.endswith("deep") else (target / path).rmdir()
        (target / "d").mkdir()
        (target / "d/new").symlink_to("/etc")
        os.mkfifo(target / "d/pipe")
        expected = walk(target)
    finally:
        mounts.unmount_below(tmp_path)
    expected.pop("/d/pipe")
    with open_layers(tars, tmp_path / "upper") as layers:
        assert dict(layers.tree.walk())["/d/pipe"].kind is Kind.FIFO
        again, same = layers.tree.find_file("b/again"), layers.tree.find_file("b/sh")
        assert again is not None and same is not None and again[1] is same[1]
    (tmp_path / "upper/d/pipe").unlink()
    assert read(tars, tmp_path / "upper") == expected


def chance_layer(chance: random.Random) -> Members:
    """A layer of a few members whose names and targets meet each other often."""

    def name() -> str:
        return "/".join(chance.choice("abc") for _ in range(chance.choice((1, 1, 2, 2, 3))))

    def whiteout() -> tuple[tarfile.TarInfo, bytes]:
        top, _, last = name().rpartition("/")
        return file(f"{top}/.wh.{last}".lstrip("/"))

    makers = [
        lambda: file(name(), chance.randbytes(3), chance.choice((0o644, 0o755, 0o4711))),
        lambda: file(name(), chance.randbytes(3)),
        lambda: directory(name(), chance.choice((0o755, 0o700, 0o1777))),
        lambda: directory(name()),
        lambda: symlink(name(), chance.choice(("", "/", "../")) + name()),
        lambda: hardlink(name(), name()),
        whiteout,
        lambda: file(f"{name()}/.wh..wh..opq"),
    ]
    return [chance.choice(makers)() for _ in range(chance.randrange(1, 9))]


@pytest.mark.parametrize("seed", range(3))
async def test_layers_of_chance_are_what_is_mounted(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    agreed = 0
    for number in range(25):
        place = tmp_path / str(number)
        place.mkdir()
        layers = [chance_layer(chance) for _ in range(chance.randrange(1, 4))]
        story = [[(member.name, member.type, member.linkname) for member, _ in layer] for layer in layers]
        try:
            tars, expected = await mounted(place, layers)
        except DataCorrupt:
            with pytest.raises(DataCorrupt):
                read([place / f"{index}.tar" for index, _ in enumerate(layers)])
        else:
            assert read(tars) == expected, story
            agreed += 1
    assert agreed
