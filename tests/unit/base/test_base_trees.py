"""Trees that are too deep for recursion, for descriptors and for paths."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tare.base.trees import remove_tree, scan_directory, try_to_remove_tree
from tare.kernel import mounts
from tare.store.usage import disk_usage


def make_deep(top: Path, levels: int, name: str) -> None:
    """A chain of directories with a file in each."""
    fd = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "kept").write_text("kept")
    (top / "link").symlink_to(tmp_path)
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "c").mkdir()
    return top


@pytest.mark.parametrize(("name", "levels"), [("a", 1200), ("n" * 255, 100), ("ü" * 100, 70)])
def test_deep_trees_are_deleted_and_links_not_followed(tree: Path, name: str, levels: int) -> None:
    make_deep(tree / "a" / "b", levels, name)
    make_deep(tree / "a" / "c", 70, name)
    used = len(os.listdir("/proc/self/fd"))
    remove_tree(tree)
    assert sorted(os.listdir(tree.parent)) == ["kept"]
    assert len(os.listdir("/proc/self/fd")) == used


def test_wide_trees_are_deleted_by_several_threads(tree: Path) -> None:
    for number in range(100):
        place = tree / f"d{number % 7}" / f"e{number}"
        place.mkdir(parents=True)
        for name in ("x", "y"):
            (place / name).write_text(name)
            (place / f"to-{name}").symlink_to(tree.parent / "kept")
    used, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    remove_tree(tree)
    assert sorted(os.listdir(tree.parent)) == ["kept"]
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (used, threads)


@pytest.mark.root
def test_what_cannot_go_is_named_and_nothing_stays_open(tree: Path) -> None:
    for number in range(100):
        (tree / f"d{number}").mkdir()
    busy = tree / "d50" / "busy"
    busy.mkdir()
    mounts.mount_tmpfs(busy, size=1 << 20)
    used, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    try:
        with pytest.raises(OSError, match="busy"):
            remove_tree(tree)
    finally:
        mounts.unmount(busy)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (used, threads)
    remove_tree(tree)


def test_what_is_no_directory_is_refused(tree: Path) -> None:
    for path in (tree / "link", tree.parent / "kept"):
        with pytest.raises(NotADirectoryError):
            remove_tree(path)
    with pytest.raises(FileNotFoundError, match="missing"):
        remove_tree(tree / "missing")
    try_to_remove_tree(tree / "missing")
    assert (tree.parent / "kept").read_text() == "kept"


def test_relative_to_a_descriptor(tree: Path) -> None:
    fd = os.open(tree.parent, os.O_RDONLY)
    try:
        remove_tree("top", dir_fd=fd)
    finally:
        os.close(fd)
    assert not tree.exists()


def test_usage_of_what_no_path_reaches(tree: Path) -> None:
    make_deep(tree, 100, "n" * 200)
    assert disk_usage(tree) >= 100 * 4096
    path = os.fspath(tree)
    while True:
        with scan_directory(path) as found:
            below = [(path, item.stat(follow_symlinks=False)) for path, item in found if item.name[0] == "n"]
        if not below:
            break
        ((path, _),) = below
    assert len(path) > 20_000
