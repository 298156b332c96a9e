"""What a context holds, and which rule decided."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.build.listing import ContextEntry, ContextListing
from tare.build.ops.context import open_context
from tare.errors import InvalidArgument


def listing(directory: Path, ignore: str | None = None, dockerfile: str = "Dockerfile") -> ContextListing:
    tree = open_context(directory, ignore, dockerfile)
    assert tree is not None
    return ContextListing(tree)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in ("node_modules/deep/x", "docs/keep", "docs/sub/drop", "src/a", "x.log"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_without_rules_everything_is_in(context: Path) -> None:
    found = listing(context)
    entries = list(found.entries())
    assert [entry.path for entry in entries] == [
        "docs", "docs/keep", "docs/sub", "docs/sub/drop", "link", "node_modules", "node_modules/deep",
        "node_modules/deep/x", "pipe", "src", "src/a", "x.log",
    ]  # fmt: skip
    assert all(entry.included and not entry.rule for entry in entries)
    assert {entry.path: entry.kind for entry in entries}["link"] == "link"
    assert {entry.path: entry.kind for entry in entries}["pipe"] == "other"
    summary = found.summary
    assert (summary.files, summary.bytes, summary.out, summary.ignore_file) == (7, 9 + 13 + 19 + 5 + 5, 0, "")


def test_rules_are_named_and_excluded_trees_not_entered(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (context / ".dockerignore").write_text("# comment\nnode_modules\ndocs\n!docs/keep\n*.log\n")
    entered: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: entered.append(os.path.relpath(path, context)) or scandir(path))
    found = listing(context)
    entries = {entry.path: entry for entry in found.entries()}
    assert entries["node_modules"] == ContextEntry(
        "node_modules", "directory", 0, False, ".dockerignore:2 (node_modules)", True
    )
    assert entries["docs"] == ContextEntry("docs", "directory", 0, False, ".dockerignore:3 (docs)", False)
    assert entries["docs/keep"] == ContextEntry("docs/keep", "file", 9, True, ".dockerignore:4 (!docs/keep)")
    assert entries["docs/sub"].pruned
    assert entries["x.log"].rule == ".dockerignore:5 (*.log)"
    assert sorted(entered) == [".", "docs", "src"]
    summary = found.summary
    assert (summary.files, summary.out, summary.pruned) == (5, 4, 2)
    assert summary.rules == {
        ".dockerignore:3 (docs)": 2, ".dockerignore:2 (node_modules)": 1, ".dockerignore:5 (*.log)": 1
    }  # fmt: skip


def test_rules_of_the_dockerfile_go_first(context: Path) -> None:
    (context / ".dockerignore").write_text("src\n")
    (context / "web.Dockerfile.dockerignore").write_text("docs\n")
    entries = {entry.path: entry for entry in listing(context, dockerfile="web.Dockerfile").entries()}
    assert entries["src"].included
    assert entries["docs"].rule == "web.Dockerfile.dockerignore:1 (docs)"
    given = {entry.path: entry for entry in listing(context, "x.log\n", "sub/Dockerfile").entries()}
    assert given["x.log"].rule == "sub/Dockerfile.dockerignore:1 (x.log)"


def test_bad_rules_are_refused(context: Path) -> None:
    (context / ".dockerignore").write_text("ok\n[\n")
    with pytest.raises(InvalidArgument, match=r"\.dockerignore:2"):
        listing(context)


def test_what_vanishes_meanwhile_is_not_listed(context: Path) -> None:
    entries = listing(context).entries()
    for entry in entries:
        if entry.path == "node_modules":
            os.rename(context / "node_modules", context / "zzz")
    assert entry.path == "x.log"
