from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.build.ops.context import open_context, parse_rules
from tare.build.ops.hashes import HashCache
from tare.build.ops.select import Exclude, SourceMissing, Tree, content_digest
from tare.errors import InvalidArgument, NotFound


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    for name in ("a.txt", "dir/b.txt", "dir/sub/c.txt", "logs/x.log", "logs/keep.log", "vendor/deep/v.js"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def names(tree: Tree, *sources: str) -> list[str]:
    return [f"{match.path}:{item.rel}" for match in tree.select(sources) for item in match.items]


def digest(tree: Tree, tmp_path: Path, *sources: str) -> str:
    return content_digest(tree.select(sources), HashCache(tmp_path / "h"), keep_owner=False)


def test_directories_are_walked_parents_first(tree: Path) -> None:
    assert names(Tree(tree, keep_owner=False), "dir") == ["dir:", "dir:b.txt", "dir:sub", "dir:sub/c.txt"]


def test_wildcards_match_one_component(tree: Path) -> None:
    context = Tree(tree, keep_owner=False)
    assert names(context, "*.txt") == ["a.txt:"]
    assert names(context, "*/b.*") == ["dir/b.txt:"]
    assert names(context, "*.none") == []


def test_excluded_directories_are_not_entered(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []
    listdir = os.listdir

    def spy(path: str) -> list[str]:
        entered.append(os.path.relpath(path, tree))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", spy)
    context = Tree(tree, keep_owner=False, filter=parse_rules("vendor\nlogs\n!logs/keep.log\n", ".dockerignore"))
    found = names(context, ".")
    assert ":logs" in found
    assert ":logs/keep.log" in found
    assert ":logs/x.log" not in found
    assert not any("vendor" in name for name in found)
    assert "vendor" not in entered


def test_a_directory_without_anything_kept_is_not_there(tree: Path) -> None:
    context = Tree(tree, keep_owner=False, filter=parse_rules("logs\n!logs/none\n", ".dockerignore"))
    assert ":logs" not in names(context, ".")


def test_missing_and_excluded_sources(tree: Path) -> None:
    context = Tree(tree, keep_owner=False, filter=parse_rules("logs\n", ".dockerignore"))
    with pytest.raises(SourceMissing) as caught:
        context.select(["nothing"])
    assert caught.value.excluded_path == ""
    with pytest.raises(SourceMissing) as caught:
        context.select(["logs/x.log"])
    assert caught.value.excluded_path == "logs/x.log"


def test_the_digest_sees_content_mode_names_and_links_but_no_times(tree: Path, tmp_path: Path) -> None:
    context = Tree(tree, keep_owner=False)
    seen = [digest(context, tmp_path, "dir")]
    os.utime(tree / "dir/b.txt", (1, 1))
    assert digest(context, tmp_path, "dir") == seen[0]

    (tree / "dir/b.txt").write_text("other")
    seen.append(digest(context, tmp_path, "dir"))
    (tree / "dir/b.txt").chmod(0o755)
    seen.append(digest(context, tmp_path, "dir"))
    (tree / "dir/b.txt").rename(tree / "dir/d.txt")
    seen.append(digest(context, tmp_path, "dir"))
    (tree / "dir/link").symlink_to("d.txt")
    seen.append(digest(context, tmp_path, "dir"))
    (tree / "dir/link").unlink()
    (tree / "dir/link").symlink_to("e.txt")
    seen.append(digest(context, tmp_path, "dir"))
    assert len(set(seen)) == len(seen)


def test_unchanged_files_are_read_once_also_after_a_restart(tree: Path, tmp_path: Path) -> None:
    for path in tree.rglob("*.*"):
        os.utime(path, ns=(10**9, 10**9))
    hashes = HashCache(tmp_path / "h")
    settled = os.lstat(tree / "a.txt").st_ctime_ns + 60_000_000
    while __import__("time").time_ns() < settled:
        pass
    matches = Tree(tree, keep_owner=False).select(["."])
    first = content_digest(matches, hashes, keep_owner=False)
    reads = hashes.reads
    assert reads == 6
    assert content_digest(matches, hashes, keep_owner=False) == first
    assert hashes.reads == reads
    hashes.save()
    again = HashCache(tmp_path / "h")
    assert content_digest(matches, again, keep_owner=False) == first
    assert again.reads == 0
    (tree / "a.txt").write_text("A.txt")
    content_digest(Tree(tree, keep_owner=False).select(["."]), again, keep_owner=False)
    assert again.reads == 1


def test_a_damaged_hash_file_is_started_anew(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "h").write_bytes(b"\xc1 damaged")
    assert HashCache(tmp_path / "h").sha256(str(tree / "a.txt"), os.lstat(tree / "a.txt"))


def test_contexts_that_are_none(tmp_path: Path) -> None:
    assert open_context(None, None, "Dockerfile") is None
    with pytest.raises(NotFound, match="no such directory"):
        open_context(tmp_path / "nope", None, "Dockerfile")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="is not a directory"):
        open_context(tmp_path / "file", None, "Dockerfile")


def test_the_dockerfiles_own_ignore_file_goes_first(tree: Path) -> None:
    (tree / ".dockerignore").write_text("dir\n")
    (tree / "Dockerfile.fat.dockerignore").write_text("logs\n")
    context = open_context(tree, None, "Dockerfile.fat")
    assert context is not None
    found = names(context, ".")
    assert ":dir" in found
    assert ":logs" not in found
    with pytest.raises(InvalidArgument, match=r"\.dockerignore:1"):
        open_context(tree, "!\n", "Dockerfile")


def test_exclude_begins_at_each_match(tree: Path) -> None:
    context = Tree(tree, keep_owner=False)

    def found(*sources: str, patterns: str, base: str | None = None) -> list[str]:
        matches = context.select(sources, Exclude(parse_rules(patterns, "--exclude"), base))
        return [f"{match.path}:{item.rel}" for match in matches for item in match.items]

    assert found("dir", patterns="sub") == ["dir:", "dir:b.txt"]
    assert found("dir", patterns="dir/sub") == ["dir:", "dir:b.txt", "dir:sub", "dir:sub/c.txt"]
    assert found("dir", patterns="dir/sub", base="") == ["dir:", "dir:b.txt"]
    assert found("a.txt", "*.txt", patterns="*.txt") == ["a.txt:", "a.txt:"]
    assert found(".", patterns="**/*.log\n!**/keep.log\nvendor\ndir") == [":", ":a.txt", ":logs", ":logs/keep.log"]


def test_a_dangling_link_that_a_wildcard_meets_is_missing(tree: Path) -> None:
    (tree / "dangling").symlink_to("nowhere")
    with pytest.raises(SourceMissing, match="dangling"):
        Tree(tree, keep_owner=False).select(["d*"])
    assert names(Tree(tree, keep_owner=False, filter=parse_rules("dangling", "x")), "d*")[0] == "dir:"


@pytest.mark.root
def test_attributes_of_the_contexts_files_are_dropped(tree: Path) -> None:
    os.setxattr(tree / "a.txt", "user.note", b"mine")
    for keep, expected in ((False, {}), (True, {"user.note": b"mine"})):
        (match,) = Tree(tree, keep_owner=keep).select(["a.txt"])
        assert match.items[0].xattrs == expected


def test_wildcards_do_not_enter_links(tree: Path) -> None:
    (tree / "link").symlink_to("dir")
    context = Tree(tree, keep_owner=False)
    assert names(context, "link/*.txt") == ["link/b.txt:"]
    assert names(context, "l*k/*.txt") == []
    assert names(context, "d*/b.txt", "l*k/b.txt") == ["dir/b.txt:"]
    assert names(context, "l*k")[0] == "link:"
