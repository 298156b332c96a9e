"""What differs between two images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from layer_parts import Member, directory, file, hardlink, opaque, symlink, whiteout, write_layers

from tare.archive.entry import Entry, Kind
from tare.cli.image_diff import difference_lines
from tare.errors import DataCorrupt
from tare.inventory.difference import Difference, compare, compare_configurations
from tare.inventory.scan import take_inventory
from tare.oci.image import ExecutionConfig, Healthcheck, ImageConfig

Layers = Sequence[Sequence[Member]]


def difference(place: Path, before: Layers, after: Layers) -> Difference:
    sides = []
    for name, layers in (("before", before), ("after", after)):
        (place / name).mkdir()
        sides.append(take_inventory(write_layers(place / name, *layers)))
    return compare(*sides)


def rows(found: Difference) -> dict[str, tuple[str, list[str], int | None, int | None]]:
    return {row.path: (str(row.change), row.what, row.before, row.after) for row in found.files}


def test_each_respect_is_told(tmp_path: Path) -> None:
    before = [
        file("same", "same"),
        file("content", "old"),
        file("mode", "x", mode=0o644),
        file("owner", "x"),
        file("gone", "12345"),
        symlink("link", "old"),
        file("kind", "123"),
        directory("d", mode=0o755),
    ]
    after = [
        file("same", "same"),
        file("content", "newer"),
        file("mode", "x", mode=0o4755),
        file("owner", "x", uid=7),
        file("come", "1234567"),
        symlink("link", "new"),
        directory("kind"),
        directory("d", mode=0o700),
    ]
    found = difference(tmp_path, [before], [after])
    assert rows(found) == {
        "/content": ("changed", ["content"], 3, 5),
        "/mode": ("changed", ["mode"], 1, 1),
        "/owner": ("changed", ["owner"], 1, 1),
        "/gone": ("removed", [], 5, None),
        "/come": ("added", [], None, 7),
        "/link": ("changed", ["target"], None, None),
        "/kind": ("changed", ["kind", "content"], 3, None),
        "/d": ("changed", ["mode"], None, None),
    }
    assert [row.path for row in found.files[:4]] == ["/come", "/content", "/gone", "/kind"]
    totals = {key: (count.names, count.before, count.after) for key, count in found.totals.items()}
    assert totals == {"added": (1, 0, 7), "removed": (1, 5, 0), "changed": (6, 8, 7)}


def test_capabilities_and_device_numbers_count(tmp_path: Path) -> None:
    def layer(minor: int, xattrs: dict[str, bytes]) -> list[Member]:
        device = Entry(path="dev", kind=Kind.CHARACTER, mode=0o600, major=1, minor=minor)
        return [
            (Entry(path="ping", kind=Kind.FILE, mode=0o755, xattrs=xattrs), b""),
            hardlink("too", "ping"),
            (device, b""),
        ]

    found = difference(tmp_path, [layer(3, {})], [layer(5, {"security.capability": b"\x01\x00\x00\x02"})])
    assert {path: row[1] for path, row in rows(found).items()} == {
        "/ping": ["xattrs"],
        "/too": ["xattrs"],
        "/dev": ["device"],
    }


def test_only_what_a_container_sees_counts(tmp_path: Path) -> None:
    base = [file("a/one", "1"), file("a/two", "2"), file("b", "3")]
    after = [base, [whiteout("a/one"), file("b", "other")], [opaque("a"), file("a/two", "2"), file("b", "3")]]
    assert rows(difference(tmp_path, [base], after)) == {"/a/one": ("removed", [], 1, None)}


def test_linked_names_are_listed_each_and_counted_once(tmp_path: Path) -> None:
    found = difference(tmp_path, [[]], [[file("one", "12345"), hardlink("two", "one")]])
    assert [row.path for row in found.files] == ["/one", "/two"]
    assert (found.totals["added"].names, found.totals["added"].after) == (2, 5)


def test_a_link_or_a_copy_of_the_same_content_is_no_difference(tmp_path: Path) -> None:
    found = difference(
        tmp_path, [[file("one", "12345"), hardlink("two", "one")]], [[file("one", "12345"), file("two", "12345")]]
    )
    assert found.files == []


def test_the_difference_the_other_way_round_mirrors_it(tmp_path: Path) -> None:
    sides = [[file("a", "1"), file("b", "22")]], [[file("b", "333"), symlink("c", "b")]]
    (tmp_path / "there").mkdir()
    (tmp_path / "back").mkdir()
    there, back = difference(tmp_path / "there", *sides), difference(tmp_path / "back", *reversed(sides))
    mirrored = {"added": "removed", "removed": "added", "changed": "changed"}
    assert rows(there) == {
        path: (mirrored[change], what, after, before) for path, (change, what, before, after) in rows(back).items()
    }


def test_names_that_are_no_unicode_are_escaped(tmp_path: Path) -> None:
    found = difference(tmp_path, [[]], [[file(b"caf\xe9".decode("utf-8", "surrogateescape"), "x")]])
    assert msgspec.to_builtins(found)["files"][0]["path"] == "/caf\\udce9"


def test_a_layer_that_cannot_be_unpacked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match="is no directory"):
        difference(tmp_path, [[]], [[file("a", "x"), file("a/b", "x")]])


_LIST = "/lib\n/lib/libc.so\n"  # belongs to its package, too


def status(*packages: tuple[str, str]) -> Member:
    stanzas = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
        for name, version in packages
    ]
    return file("var/lib/dpkg/status", "\n".join(stanzas))


def test_packages_are_told_by_version_with_their_bytes(tmp_path: Path) -> None:
    def image(name: str, version: str, size: int) -> list[Member]:
        return [
            status(("kept", "1"), ("libc6", version), (name, "3")),
            file("var/lib/dpkg/info/libc6:amd64.list", _LIST),
            file("lib/libc.so", "x" * size),
        ]

    found = difference(tmp_path, [image("old", "2.36-9", 100)], [image("new", "2.36-10", 130)])
    assert [
        (row.package, str(row.change), row.versions_before, row.versions_after, row.before, row.after)
        for row in found.packages
    ] == [
        ("libc6", "changed", ["2.36-9"], ["2.36-10"], 100 + len(_LIST), 130 + len(_LIST)),
        ("new", "added", [], ["3"], 0, 0),
        ("old", "removed", ["3"], [], 0, 0),
    ]


def config(**fields: Any) -> ImageConfig:
    return ImageConfig(architecture="amd64", os="linux", config=ExecutionConfig(**fields))


def test_fields_of_the_configuration_are_compared_entry_by_entry() -> None:
    before = config(env=["A=1", "B=2", "C=="], cmd=["sh"], labels={"x": "1"}, user="root")
    after = config(env=["C==", "A=2", "D="], cmd=["sh", "-c"], entrypoint=[], labels={"x": "1"}, user="root")
    found = [
        (row.field, row.key, str(row.change), row.before, row.after) for row in compare_configurations(before, after)
    ]
    assert found == [
        ("Cmd", "", "changed", ["sh"], ["sh", "-c"]),
        ("Entrypoint", "", "added", None, []),
        ("Env", "A", "changed", "1", "2"),
        ("Env", "B", "removed", "2", None),
        ("Env", "D", "added", None, ""),
    ]


def test_health_checks_and_the_platform_are_fields() -> None:
    before = ImageConfig(architecture="amd64", os="linux", created="2026-01-01T00:00:00Z")
    after = ImageConfig(
        architecture="arm64",
        os="linux",
        variant="v8",
        created="2026-01-01T00:00:00Z",
        config=ExecutionConfig(healthcheck=Healthcheck(test=["CMD", "true"]), volumes={"/data": {}}),
    )
    found = [(row.field, row.key, row.before, row.after) for row in compare_configurations(before, after)]
    assert found == [
        ("Architecture", "", "amd64", "arm64"),
        ("Healthcheck", "", None, {"Test": ["CMD", "true"]}),
        ("Variant", "", None, "v8"),
        ("Volumes", "/data", None, {}),
    ]
    assert compare_configurations(before, before) == []


def test_the_difference_is_written_for_people(tmp_path: Path) -> None:
    found = difference(tmp_path, [[file("old", "1" * 1000)]], [[file("new", "1"), file("more", "22")]])
    found.configuration = compare_configurations(config(), config(env=["A="], user="7"))
    side = {"id": "sha256:" + "1" * 64, "tags": [], "size": 10, "layers": 1, "only": 10}
    document = {
        "before": side,
        "after": side,
        "shared": 0,
        "shared_layers": [],
        "difference": msgspec.to_builtins(found),
    }
    lines = [" ".join(line.split()) for line in difference_lines(document, names=("a", "b"), top=2)]
    assert lines == [
        "IMAGE IMAGE ID SIZE LAYERS ONLY HERE",
        "a 111111111111 10B 1 10B",
        "b 111111111111 10B 1 10B",
        "0B in 0 layers that both have",
        "",
        "FILES NAMES BYTES IN A BYTES IN B",
        "added 2 0B 3B",
        "removed 1 1kB 0B",
        "changed 0 0B 0B",
        "",
        "FILE IN A IN B CHANGED",
        "- /old 1kB -",
        "+ /more - 2B",
        "… and 1 more (--top, --json)",
        "",
        "CONFIGURATION IN A IN B",
        '+ Env.A - ""',
        "+ User - 7",
    ]
    document["difference"] = msgspec.to_builtins(Difference())
    assert difference_lines(document, names=("a", "b"), top=2)[-1] == "files, packages and configuration are the same"
