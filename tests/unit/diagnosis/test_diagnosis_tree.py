"""Looking into root file systems that want to lead out of themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.diagnosis.tree import Identity, Mount, Outcome, Tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tree = tmp_path / "root"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    return tree


@pytest.mark.parametrize("target", ["../../secret", "/../secret", "../../../../../../../../etc/hostname"])
def test_links_do_not_lead_out(root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    assert Tree(root).look("/link").outcome is Outcome.MISSING
    with pytest.raises(FileNotFoundError):
        Tree(root).read("/link", 10)


def test_absolute_links_begin_at_the_root(root: Path) -> None:
    (root / "link").symlink_to("/etc/file")
    tree = Tree(root)
    look = tree.look("/etc/../link")
    assert (look.path, look.links) == ("/etc/file", (("/link", "/etc/file"),))
    assert tree.read("/link", 3) == b"ins"
    assert tree.read("/link", 100, 2) == b"side"


def test_loops_and_long_paths_end(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    (root / "self").symlink_to("self/x/../y")
    tree = Tree(root)
    assert tree.look("/a").outcome is Outcome.LOOP
    assert tree.look("/self").outcome is Outcome.LOOP
    assert tree.look("/etc/" + "../etc/" * 5000 + "file").outcome is Outcome.LOOP
    assert tree.look("/" + "x" * 5000).outcome is Outcome.MISSING
    assert tree.look("/etc/\0").outcome is Outcome.MISSING
    assert tree.look("/etc/file/x").outcome is Outcome.NOT_DIRECTORY


def test_only_regular_files_are_read(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with pytest.raises(FileNotFoundError):
        Tree(root).read("/pipe", 1)  # would wait for a writer
    assert Tree(root).names("/etc/file") == []


def test_mounts_cover_what_is_below_them(root: Path, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "new").write_text("n")
    (volume / "out").symlink_to("/etc/file")
    mount = Mount(destination="/etc", source=volume, label="volume v")
    memory = Mount(destination="/mem", source=None, label="tmpfs")
    proc = Mount(destination="/proc", source=None, label="/proc", opaque=True)
    tree = Tree(root, [mount, memory, proc])
    assert tree.look("/etc/new").mount is mount
    assert tree.look("/etc/file").outcome is Outcome.MISSING
    assert tree.look("/etc/out").outcome is Outcome.MISSING  # the link's target is covered as well
    assert tree.without(mount).look("/etc/file").outcome is Outcome.FOUND
    assert tree.look("/mem/x").outcome is Outcome.MISSING
    assert tree.look("/proc/self/exe").outcome is Outcome.UNKNOWN
    assert tree.look("/etc/../etc/./new").path == "/etc/new"


def test_permissions_are_those_of_the_user(root: Path) -> None:
    private = root / "private"
    private.mkdir(mode=0o700)
    (private / "x").write_text("")
    (private / "x").chmod(0o750)
    owner = os.getuid()
    stranger = Identity(uid=owner + 1, groups=(12345,), bypass=False)
    assert Tree(root, identity=stranger).look("/private/x").blocked_at == "/private"
    assert Tree(root).look("/private/x").blocked_at == ""
    info = (private / "x").stat()
    assert not stranger.may(info, 1)
    assert Identity(uid=owner + 1, groups=(info.st_gid,), bypass=False).may(info, 1)
    assert Identity().may(info, 1)
    (private / "x").chmod(0o644)
    assert not Identity().may((private / "x").stat(), 1)
    assert Identity().may((private / "x").stat(), 2)
