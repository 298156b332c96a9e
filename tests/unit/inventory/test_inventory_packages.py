"""Packages and owners, from the databases of dpkg, distroless images, apk, Python and Node."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from layer_parts import Member, directory, file, hardlink, symlink, whiteout, write_layers

from tare.inventory.scan import Inventory, take_inventory

STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.36-9
Depends: libgcc-s1 (>= 1) | other, libcrypt1:any
Provides: libc6-x (= 1)
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Homepage: https://www.gnu.org/software/libc/
Description: GNU C Library
 more words

Package: dash
Status: install ok installed
Architecture: amd64
Version: 0.5

Package: mine
Status: hold ok unpacked
Architecture: all
Source: mine-src (7:1-2)
Version: 7:1-2+b1

Package: gone
Status: deinstall ok config-files
Version: 1

Package: ../odd
Status: install ok installed
Version: 1
"""


def inventory(place: Path, *layers: Sequence[Member]) -> Inventory:
    return take_inventory(write_layers(place, *layers))


def owners(found: Inventory) -> dict[str, str]:
    return {path: found.packages.owner(path).label for path, _, _ in found.files() if found.packages.owner(path).name}


def test_dpkg_with_merged_usr_diversions_and_qualified_lists(tmp_path: Path) -> None:
    found = inventory(
        tmp_path,
        [
            directory("usr/lib"),
            symlink("lib", "usr/lib"),
            symlink("bin", "usr/bin"),
            file("usr/lib/libc.so.6", "elf"),
            file("usr/bin/sh", "diverted by mine"),
            file("usr/bin/sh.distrib", "of dash"),
            file("usr/bin/stray", "nobody's"),
            file("var/lib/dpkg/status", STATUS),
            file("var/lib/dpkg/diversions", "/bin/sh\n/bin/sh.distrib\nmine\n/x\n/y\n:\n"),
            file("var/lib/dpkg/info/libc6:amd64.list", "/.\n/lib\n/lib/libc.so.6\n"),
            file("var/lib/dpkg/info/libc6:amd64.md5sums", "0  lib/libc.so.6\n"),
            file("var/lib/dpkg/info/dash.list", "/bin/sh\n"),
            file("var/lib/dpkg/info/mine.list", "/bin/sh\n"),
        ],
    )
    assert owners(found) == {
        "usr/lib/libc.so.6": "deb:libc6@2.36-9:amd64",
        "usr/bin/sh": "deb:mine@7:1-2+b1:all",
        "usr/bin/sh.distrib": "deb:dash@0.5:amd64",
        "var/lib/dpkg/info/libc6:amd64.list": "deb:libc6@2.36-9:amd64",
        "var/lib/dpkg/info/libc6:amd64.md5sums": "deb:libc6@2.36-9:amd64",
        "var/lib/dpkg/info/dash.list": "deb:dash@0.5:amd64",
        "var/lib/dpkg/info/mine.list": "deb:mine@7:1-2+b1:all",
    }
    assert [package.name for package in found.packages.packages] == ["dash", "libc6", "mine"]
    libc, mine = found.packages.packages[1:]
    assert (libc.source, libc.source_version) == ("glibc", "2.36-9")
    assert (mine.source, mine.source_version) == ("mine-src", "7:1-2")
    assert libc.depends == ("libgcc-s1", "other", "libcrypt1")
    assert (libc.provides, libc.summary) == (("libc6-x",), "GNU C Library")


def test_distroless_images_with_configuration_files(tmp_path: Path) -> None:
    control = "Package: netbase\nArchitecture: all\nVersion: 6.4\nConffiles:\n /etc/protocols 00ff\n /etc/rpc 11ee\n"
    found = inventory(
        tmp_path,
        [
            file("var/lib/dpkg/status.d/netbase", control),
            file("var/lib/dpkg/status.d/netbase.md5sums", f"{'0' * 32}  usr/share/doc/netbase/copyright\nbroken\n"),
            file("usr/share/doc/netbase/copyright", "c"),
            file("etc/protocols", "p"),
            file("etc/rpc", "r"),
            file("etc/passwd", "made by the assembler"),
        ],
    )
    netbase = "deb:netbase@6.4:all"
    assert owners(found) == dict.fromkeys(
        (
            "etc/protocols",
            "etc/rpc",
            "usr/share/doc/netbase/copyright",
            "var/lib/dpkg/status.d/netbase",
            "var/lib/dpkg/status.d/netbase.md5sums",
        ),
        netbase,
    )


def test_apk(tmp_path: Path) -> None:
    database = (
        "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nT:the musl c library\nU:https://musl.libc.org/\nL:MIT\no:musl\n"
        "m:Timo <t@a.org>\nD:so:libx>1 !bad scanelf\np:so:libc.musl-x86_64.so.1=1\nF:lib\nR:ld-musl.so.1\na:0:0:755\n"
        "F:usr\nF:usr/lib\nR:x\n\nP:broken\n\n"
    )
    found = inventory(
        tmp_path, [file("lib/apk/db/installed", database), file("lib/ld-musl.so.1", "1"), file("usr/lib/x", "2")]
    )
    assert owners(found) == dict.fromkeys(("lib/ld-musl.so.1", "usr/lib/x"), "apk:musl@1.2.4-r2:x86_64")
    (musl,) = found.packages.packages
    assert (musl.licence, musl.depends) == ("MIT", ("so:libx", "scanelf"))
    assert musl.provides == ("so:libc.musl-x86_64.so.1",)


SITE = "usr/lib/python3/dist-packages"


def test_python_projects_with_and_without_a_distribution_package(tmp_path: Path) -> None:
    metadata = (
        "Metadata-Version: 2.1\nName: Zope.Interface\nVersion: 6.0\nLicense-Expression: MIT OR Apache-2.0\n"
        "Requires-Dist: Set_Tools (>=1)\nRequires-Dist: docs; extra == 'docs'\n\nLicense: not a field\n"
    )
    record = 'zope/__init__.py,sha256=x,1\n../../bin/zope,,\n"odd,name.py",,\nzope.dist-info/RECORD,,\n'
    found = inventory(
        tmp_path,
        [
            file("app/lib/zope.dist-info/METADATA", metadata),
            file("app/lib/zope.dist-info/RECORD", record),
            file("app/lib/zope.dist-info/INSTALLER", "pip"),
            file("app/lib/zope/__init__.py", "1"),
            file("app/lib/odd,name.py", "1"),
            file("bin/zope", "1"),
            file("app/lib/other.py", "1"),
            file(f"{SITE}/set_tools.egg-info", "Name: set_tools\nVersion: 1\nLicense: UNKNOWN\n"),
            file(f"{SITE}/set_tools.py", "1"),
            file(f"{SITE}/__pycache__/set_tools.cpython-311.opt-1.pyc", "1"),
            file(f"{SITE}/__pycache__/other.cpython-311.pyc", "1"),
            file("var/lib/dpkg/status", "Package: python3-set\nStatus: a b installed\nVersion: 3\n"),
            file("var/lib/dpkg/info/python3-set.list", f"/{SITE}/set_tools.egg-info\n/{SITE}/set_tools.py\n"),
            file("bad/x.dist-info/METADATA", "Version: 1\n"),
        ],
    )
    zope = "pypi:zope-interface@6.0"
    assert {path: owner for path, owner in owners(found).items() if owner == zope} == dict.fromkeys(
        (
            "app/lib/odd,name.py",
            "app/lib/zope.dist-info/INSTALLER",
            "app/lib/zope.dist-info/METADATA",
            "app/lib/zope.dist-info/RECORD",
            "app/lib/zope/__init__.py",
            "bin/zope",
        ),
        zope,
    )
    assert owners(found)[f"{SITE}/set_tools.egg-info"] == "deb:python3-set@3"
    assert owners(found)[f"{SITE}/__pycache__/set_tools.cpython-311.opt-1.pyc"] == "deb:python3-set@3"
    assert f"{SITE}/__pycache__/other.cpython-311.pyc" not in owners(found)
    names = {package.name: package for package in found.packages.packages}
    assert names.keys() == {"python3-set", "set-tools", "zope-interface"}
    assert names["zope-interface"].depends == ("set-tools",)
    assert names["zope-interface"].licence == "MIT OR Apache-2.0"


def test_node_packages_own_what_is_in_their_directory_but_not_what_is_nested(tmp_path: Path) -> None:
    def described(name: str, **more: object) -> str:
        return json.dumps({"name": name, "version": "1.0.0", **more})

    found = inventory(
        tmp_path,
        [
            file("app/package.json", described("the-app")),
            file(
                "app/node_modules/a/package.json", described("a", license={"type": "MIT"}, dependencies={"@s/b": "1"})
            ),
            file("app/node_modules/a/lib/index.js", "1"),
            file("app/node_modules/a/node_modules/@s/b/package.json", described("@s/b")),
            file("app/node_modules/a/node_modules/@s/b/x/package.json", described("inner")),
            file("app/node_modules/broken/package.json", "{"),
            file("app/node_modules/listed/package.json", "[1]"),
            file("app/node_modules/numbered/package.json", json.dumps({"name": 1, "version": 2})),
            file("app/node_modules/odd/package.json", described("o\ud800dd")),
        ],
    )
    assert owners(found) == {
        "app/node_modules/a/lib/index.js": "npm:a@1.0.0",
        "app/node_modules/a/package.json": "npm:a@1.0.0",
        "app/node_modules/a/node_modules/@s/b/package.json": "npm:@s/b@1.0.0",
        "app/node_modules/a/node_modules/@s/b/x/package.json": "npm:@s/b@1.0.0",
        "app/node_modules/odd/package.json": "npm:o\\ud800dd@1.0.0",
    }
    assert found.packages.packages[1].licence == "MIT"
    assert found.packages.packages[1].depends == ("@s/b",)


def test_a_package_that_is_removed_is_none_of_the_image_but_its_bytes_keep_their_owner(tmp_path: Path) -> None:
    found = inventory(
        tmp_path,
        [file("node_modules/a/package.json", '{"name": "a", "version": "1"}'), file("node_modules/a/x", "12345")],
        [whiteout("node_modules/a")],
    )
    assert not found.packages.packages
    assert {content.path: owner.name for content, owner in found.owners.items()} == {
        "node_modules/a/package.json": "a",
        "node_modules/a/x": "a",
    }


def test_files_that_came_before_their_database_are_owned(tmp_path: Path) -> None:
    found = inventory(
        tmp_path,
        [file("usr/bin/x", "1"), hardlink("usr/bin/y", "usr/bin/x")],
        [
            file("var/lib/dpkg/status", "Package: x\nStatus: install ok installed\nVersion: 1\n"),
            file("var/lib/dpkg/info/x.list", "/usr/bin/x\n"),
        ],
    )
    assert {content.path: owner.name for content, owner in found.owners.items()} == {
        "usr/bin/x": "x", "var/lib/dpkg/info/x.list": "x",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\0\0\0",
        "Status: install ok installed\n" * 3,
        "Package: a\nVersion: 1\n",
        "Package: a\nStatus:\nVersion: 1\n",
    ],
)
def test_a_database_that_is_none_has_no_packages(tmp_path: Path, text: str) -> None:
    assert not inventory(tmp_path, [file("var/lib/dpkg/status", text)]).packages.packages
