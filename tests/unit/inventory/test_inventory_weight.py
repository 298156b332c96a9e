"""Weights: listings that add up, suggestions, directories."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from layer_parts import Member, directory, file, hardlink, whiteout, write_layers

from tare.errors import DataCorrupt
from tare.inventory import scan
from tare.inventory.directories import TreeNode, directory_rows, directory_tree
from tare.inventory.scan import take_inventory
from tare.inventory.weight import Weight, weigh
from tare.store.origins import ImageOrigin, LayerOrigin, StageOrigin


def weight(
    place: Path, *layers: Sequence[Member], instructions: Sequence[str] = (), origin: ImageOrigin | None = None
) -> Weight:
    paths = write_layers(place, *layers)
    found = weigh(take_inventory(paths), [f"sha256:{number}" for number in range(len(paths))], instructions, origin)
    assert_adds_up(found, paths)
    return found


def assert_adds_up(found: Weight, layers: Sequence[Path]) -> None:
    """All listings have the bytes that Python's own reader finds in the tars."""
    shipped = 0
    for path in layers:
        with tarfile.open(path) as archive:
            shipped += sum(member.size for member in archive if member.isreg())
    assert found.shipped == shipped
    for rows in (found.layers, found.stages, found.instructions, found.packages, found.contents):
        listing: Sequence[Any] = rows
        assert sum(row.bytes for row in listing) == shipped
        assert sum(row.hidden for row in listing) == found.replaced + found.deleted
    for depth in (1, 2, 3, 99):
        assert sum(row.bytes for row in directory_rows(found.contents, depth)) == shipped
    assert directory_tree(found.contents, found.largest).bytes == shipped
    assert found.visible + found.replaced + found.deleted == shipped
    assert found.size == shipped + found.headers == sum(path.stat().st_size for path in layers)
    assert sum(one.bytes for one in found.suggestions) <= shipped


def suggestions(found: Weight) -> dict[str, tuple[int, int]]:
    return {one.code: (one.bytes, one.files) for one in found.suggestions}


def test_what_later_layers_hide_is_named_with_both_instructions(tmp_path: Path) -> None:
    found = weight(
        tmp_path,
        [file("a", b"a" * 100), file("b", b"b" * 50), file("c", b"c" * 7)],
        [whiteout("a"), file("b", b"B" * 60), file("c", b"c" * 7, uid=5)],
        instructions=["RUN make", "RUN clean && chown 5 c"],
    )
    assert (found.deleted, found.replaced, found.visible) == (100, 57, 67)
    assert suggestions(found) == {"deleted-later": (100, 1), "written-twice": (50, 1), "metadata-only": (7, 1)}
    first = found.suggestions[0]
    assert first.what.startswith("files of layer 0 (RUN make) are deleted by layer 1 (RUN clean && chown 5 c)")
    assert first.paths == ["/a"]
    assert [row.hidden for row in found.layers] == [157, 0]


def test_leftovers_count_once_and_duplicates_after_them(tmp_path: Path) -> None:
    found = weight(
        tmp_path,
        [
            file("var/lib/apt/lists/x_Packages", b"l" * 400),
            file("var/cache/apt/pkgcache.bin", b"p" * 300),
            file("root/.cache/pip/http/1", b"c" * 200),
            file("usr/share/doc/x/copyright", b"r" * 11),
            file("usr/share/doc/x/changelog", b"d" * 90),
            file("usr/share/man/man1/x.1", b"d" * 90),
            file("usr/share/locale/de/LC_MESSAGES/x.mo", b"t" * 80),
            file("usr/include/x.h", b"h" * 70),
            file("tmp/junk", b"j" * 60),
            file("var/log/apt/history.log", b"g" * 55),
            file("app/.git/HEAD", b"v" * 45),
            file("app/__pycache__/m.pyc", b"y" * 35),
            file("app/one", b"same" * 10),
            file("app/two", b"same" * 10),
            hardlink("app/three", "app/two"),
            file("app/empty"),
            file("app/empty2"),
        ],
    )
    assert suggestions(found) == {
        "package-lists": (400, 1),
        "package-cache": (300, 1),
        "language-cache": (200, 1),
        "documentation": (180, 2),
        "translations": (80, 1),
        "development-files": (70, 1),
        "temporary-files": (60, 1),
        "logs": (55, 1),
        "version-control": (45, 1),
        "duplicates": (40, 1),
        "bytecode": (35, 1),
    }
    assert found.duplicates == 90 + 40  # whatever else they count for
    assert [one.bytes for one in found.suggestions] == sorted((one.bytes for one in found.suggestions), reverse=True)


def test_packages_that_only_building_needs_are_named_whole(tmp_path: Path) -> None:
    status = "".join(
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"
        for name in ("gcc-12", "gcc-12-base", "libfoo-dev", "libfoo")
    )
    lists = {"gcc-12": "/usr/bin/gcc-12", "gcc-12-base": "/usr/share/doc/gcc-12-base/copyright"}
    lists |= {"libfoo-dev": "/usr/include/foo.h", "libfoo": "/usr/lib/libfoo.so"}
    found = weight(
        tmp_path,
        [
            file("var/lib/dpkg/status", status),
            *(file(f"var/lib/dpkg/info/{name}.list", f"/.\n{path}\n") for name, path in lists.items()),
            *(file(path[1:], name * 10) for name, path in lists.items()),
        ],
    )
    size = {name: len(name) * 10 + len(f"/.\n{path}\n") for name, path in lists.items()}  # with dpkg's note of it
    assert suggestions(found) == {"development-packages": (size["gcc-12"] + size["libfoo-dev"], 4)}
    assert {row.package: row.bytes for row in found.packages if row.kind} == size


def test_bytes_belong_to_the_package_that_had_them_when_they_were_written(tmp_path: Path) -> None:
    def database(*names: str) -> list[Member]:
        status = "\n".join(f"Package: {one}\nStatus: install ok installed\nVersion: 1\n" for one in names)
        lists = [file(f"var/lib/dpkg/info/{name}.list", f"/usr/bin/{name}\n") for name in names]
        return [file("var/lib/dpkg/status", status), *lists]

    found = weight(
        tmp_path,
        [*database("one", "two"), file("usr/bin/one", b"1" * 100), file("usr/bin/two", b"2" * 10)],
        [*database("two"), whiteout("usr/bin/one"), whiteout("var/lib/dpkg/info/one.list")],
    )
    rows = {row.package: (row.bytes, row.hidden) for row in found.packages}
    note = len("/usr/bin/one\n")
    assert rows["one"] == (100 + note, 100 + note)
    assert rows["two"] == (10 + 2 * note, note)  # its note was written twice


def test_stages_and_lines_come_from_the_build(tmp_path: Path) -> None:
    origin = ImageOrigin(
        base="FROM debian",
        below=1,
        layers=[
            LayerOrigin(stage="base", text="RUN a", file="Dockerfile", line=2),
            LayerOrigin(stage="last", text="COPY --from=tools /x /x", file="Dockerfile", line=9, source="tools"),
        ],
        stages=[StageOrigin(name="tools", left=5000), StageOrigin(name="base"), StageOrigin(name="last")],
    )
    layers = [[file("a", b"1")], [file("b", b"22")], [file("x", b"333")]]
    found = weight(tmp_path, *layers, instructions=["debian made", "/bin/sh -c a", "COPY x"], origin=origin)
    assert [(row.stage, row.bytes, row.left) for row in found.stages] == [
        ("FROM debian", 1, 0), ("base", 2, 0), ("last", 3, 0), ("tools", 0, 5000),
    ]  # fmt: skip
    assert [(row.instruction, row.line, row.base) for row in found.layers] == [
        ("debian made", 0, True), ("RUN a", 2, False), ("COPY --from=tools /x /x", 9, False),
    ]  # fmt: skip
    assert found.layers[2].source == "tools"


def test_a_history_that_does_not_fit_the_layers_says_nothing(tmp_path: Path) -> None:
    found = weight(tmp_path, [file("a", b"1")], [file("b", b"1")], instructions=["RUN only one"])
    assert [row.instruction for row in found.layers] == ["(unknown)", "(unknown)"]


def test_names_that_are_no_unicode_are_shown_with_escapes(tmp_path: Path) -> None:
    name = b"d\xff/f\xfe".decode("utf-8", "surrogateescape")
    found = weight(tmp_path, [file(name, b"1")])
    assert msgspec.json.decode(msgspec.json.encode(found), type=Weight).contents[0].path == "/d\\udcff"


def test_the_tree_puts_small_directories_together_and_stays_exact(tmp_path: Path) -> None:
    members = [file(f"many/{number:04}/f", b"x") for number in range(3000)]
    found = weight(tmp_path, [directory("big"), file("big/f", b"x" * 50_000), *members])
    tree = directory_tree(found.contents, found.largest)

    def check(node: TreeNode) -> int:
        assert sum(child.bytes for child in node.children) <= node.bytes
        return 1 + sum(check(child) for child in node.children)

    assert check(tree) == 5
    assert [(row.path, row.bytes) for row in found.largest] == [("/big/f", 50_000)]
    (large,) = next(child for child in tree.children if child.name == "big").children
    assert (large.name, large.bytes, large.files) == ("f", 50_000, 1)
    many = next(child for child in tree.children if child.name == "many")
    assert [(child.name, child.bytes, child.files) for child in many.children] == [("(smaller)", 3000, 3000)]


def test_package_databases_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_RECORDS_LIMIT", 1000)
    with pytest.raises(DataCorrupt, match="package databases of more than 1000 bytes") as caught:
        weight(tmp_path, [file(f"var/lib/dpkg/info/{number}.list", b"x" * 300) for number in range(4)])
    assert caught.value.code == "inventory-too-large"
