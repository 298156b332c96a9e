"""Bills of materials: exact per file, valid by the formats' own validators, the same every time; licences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from layer_parts import Member, file, hardlink, symlink, whiteout, write_layers

from spdx_documents import valid_spdx
from tare.inventory.bill import Bill, address, make_bill
from tare.inventory.cyclonedx import write_cyclonedx
from tare.inventory.licences import is_copyright
from tare.inventory.scan import take_inventory
from tare.inventory.spdx import write_spdx

COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: foo

Files: *
Copyright: 2020 Somebody
License: GPL-2+ or Artistic, and Expat

Files: debian/*
License: GPL-2+

License: Artistic
 You may.
 .
  Or not.

License: GPL-2+
 On Debian systems, see /usr/share/common-licenses/GPL-2.
"""
STATUS = """Package: foo
Status: install ok installed
Architecture: amd64
Version: 1:2.0+dfsg-1~x
Maintainer: Foo Team (all of it) <foo@example.org>
Homepage: https://example.org/foo
Description: does foo
Depends: bar-api | nothing, libc6

Package: bar
Status: install ok installed
Architecture: all
Version: 3
Maintainer: "Bär, B." <bar@example.org>
Homepage: see the README
Provides: bar-api

Package: empty
Status: install ok installed
Architecture: all
Version: 1
Maintainer: <>
"""
LAYER: list[Member] = [
    file("etc/os-release", 'ID=debian\nVERSION_ID="12"\n'),
    file("var/lib/dpkg/status", STATUS),
    file("var/lib/dpkg/info/foo.list", "/usr/bin/foo\n/usr/share/doc/foo/copyright\n/usr/bin/foo2\n"),
    file("var/lib/dpkg/info/bar.list", "/usr/bin/bar\n/usr/lib/python3/x.egg-info\n"),
    file("usr/bin/foo", "foo"),
    hardlink("usr/bin/foo2", "usr/bin/foo"),
    symlink("usr/bin/link", "foo"),
    file("usr/bin/bar", ""),
    file("usr/share/doc/foo/copyright", COPYRIGHT),
    file("usr/lib/python3/x.egg-info", "Name: x\nVersion: 1\nLicense: Custom thing\n"),
    file("app/node_modules/@s/m/package.json", '{"name":"@s/m","version":"1","license":"MIT/Apache-2.0"}'),
    file(b"app/\xff\xc3\xa4".decode("utf-8", "surrogateescape"), "odd name"),
    file("old", "old"),
]


def bill(place: Path, *layers: Sequence[Member], created: str | None = "2024-05-06T07:08:09.123456789+02:00") -> Bill:
    place.mkdir(exist_ok=True)
    inventory = take_inventory(write_layers(place, *layers), sha1=True, keep=is_copyright)
    return make_bill(
        inventory,
        image=f"sha256:{'ab' * 32}",
        name="app:1",
        created=created,
        architecture="amd64",
        diff_ids=(f"sha256:{'cd' * 32}",),
    )


def spdx(made: Bill) -> dict[str, Any]:
    """The document, if it is a valid one."""
    return valid_spdx(b"".join(write_spdx(made)))


def cyclonedx(made: Bill) -> dict[str, Any]:
    """The document, after the published schema has nothing to say against it."""
    text = b"".join(write_cyclonedx(made)).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document: dict[str, Any] = json.loads(text)
    return document


EXPECTED = {
    "/etc/os-release": b'ID=debian\nVERSION_ID="12"\n',
    "/usr/bin/foo": b"foo",
    "/usr/bin/foo2": b"foo",
    "/usr/bin/bar": b"",
    "/usr/share/doc/foo/copyright": COPYRIGHT.encode(),
    "/app/\\udcffä": b"odd name",
    "/old": b"new!",
}


def test_spdx_has_every_visible_file_by_its_package_and_digests(tmp_path: Path) -> None:
    document = spdx(bill(tmp_path, LAYER, [file("old", "new!"), whiteout("usr/lib/python3")]))
    files = {one["SPDXID"]: one for one in document["files"]}
    found = {
        one["fileName"][1:]: {sum_["algorithm"]: sum_["checksumValue"] for sum_ in one["checksums"]}
        for one in files.values()
    }
    for path, content in EXPECTED.items():
        assert found[path] == {
            "SHA1": hashlib.sha1(content).hexdigest(),
            "SHA256": hashlib.sha256(content).hexdigest(),
        }, path
    assert len(found) == len(EXPECTED) + 4  # dpkg's three, and the module's package.json
    names = {one["SPDXID"]: one["name"] for one in document["packages"]}
    contained = [
        (names[one["spdxElementId"]], files[one["relatedSpdxElement"]]["fileName"])
        for one in document["relationships"]
        if one["relationshipType"] == "CONTAINS" and one["relatedSpdxElement"] in files
    ]
    assert len(contained) == len(files), "each file is in one package, or in the image itself"
    assert [path for name, path in contained if name == "foo"] == [
        "./usr/bin/foo", "./usr/bin/foo2", "./usr/share/doc/foo/copyright", "./var/lib/dpkg/info/foo.list",
    ]  # fmt: skip
    assert ("app:1", "./old") in contained


def test_spdx_describes_packages(tmp_path: Path) -> None:
    document = spdx(bill(tmp_path, LAYER))
    packages = {one["name"]: one for one in document["packages"]}
    foo = packages["foo"]
    assert foo["externalRefs"][0]["referenceLocator"] == (
        "pkg:deb/debian/foo@1:2.0%2Bdfsg-1~x?arch=amd64&distro=debian-12"
    )
    assert foo["supplier"] == "Organization: Foo Team all of it (foo@example.org)"
    assert foo["homepage"] == "https://example.org/foo"
    artistic = document["hasExtractedLicensingInfos"][0]["licenseId"]
    assert foo["licenseDeclared"] == f"((GPL-2.0-or-later OR {artistic}) AND MIT) AND GPL-2.0-or-later"
    sums = sorted(hashlib.sha1(content).hexdigest() for content in (b"foo", b"foo", COPYRIGHT.encode(), LAYER[2][1]))
    code = hashlib.sha1("".join(sums).encode()).hexdigest()
    assert foo["packageVerificationCode"] == {"packageVerificationCodeValue": code}
    assert "homepage" not in packages["bar"]
    assert packages["empty"]["filesAnalyzed"] is False
    assert "supplier" not in packages["empty"]
    artistic, custom = document["hasExtractedLicensingInfos"]
    assert (artistic["name"], artistic["extractedText"]) == ("Artistic", "You may.\n\n Or not.")
    assert custom["name"] == "Custom thing"
    assert "/usr/lib/python3/x.egg-info calls the licence 'Custom thing'" in custom["extractedText"]
    assert packages["@s/m"]["licenseDeclared"] == "MIT OR Apache-2.0"
    assert packages["@s/m"]["externalRefs"][0]["referenceLocator"] == "pkg:npm/%40s/m@1"
    names = {one["SPDXID"]: one["name"] for one in document["packages"]}
    related = {
        (names.get(one["spdxElementId"]), one["relationshipType"], names.get(one["relatedSpdxElement"]))
        for one in document["relationships"]
    }
    assert ("foo", "DEPENDS_ON", "bar") in related  # which provides bar-api
    assert ("bar", "CONTAINS", "x") in related
    assert (None, "DESCRIBES", "app:1") in related


def test_cyclonedx_says_the_same(tmp_path: Path) -> None:
    document = cyclonedx(bill(tmp_path, LAYER, [file("old", "new!")]))
    packages = {one["name"]: one for one in document["components"] if one["type"] == "library"}
    assert packages.keys() == {"foo", "bar", "empty", "x", "m"}
    assert packages["m"]["group"] == "@s"
    listed = [
        file for one in document["components"] for file in (one, *one.get("components", ())) if file["type"] == "file"
    ]
    sums = {file["name"]: file["hashes"][0]["content"] for file in listed}
    assert len(sums) == len(listed) == len(EXPECTED) + 5
    for path, content in EXPECTED.items():
        assert sums[path] == hashlib.sha256(content).hexdigest(), path
    references = {one["bom-ref"]: name for name, one in packages.items()}
    needs = {references.get(one["ref"], one["ref"]): one.get("dependsOn", []) for one in document["dependencies"]}
    assert {references[one] for one in needs["Image"]} == packages.keys()
    assert [references[one] for one in needs["foo"]] == ["bar"]
    assert packages["foo"]["publisher"] == "Foo Team (all of it)"
    assert packages["foo"]["licenses"][0]["expression"].startswith("((GPL-2.0-or-later OR ")
    assert packages["foo"]["properties"][0] == {"name": "tare:source", "value": "foo"}


def test_documents_are_the_same_every_time_and_dated_by_the_image(tmp_path: Path) -> None:
    one, two = bill(tmp_path / "1", LAYER), bill(tmp_path / "2", LAYER)
    assert b"".join(write_spdx(one)) == b"".join(write_spdx(two))
    assert b"".join(write_cyclonedx(one)) == b"".join(write_cyclonedx(two))
    assert spdx(one)["creationInfo"]["created"] == "2024-05-06T05:08:09Z"
    assert cyclonedx(one)["metadata"]["timestamp"] == "2024-05-06T05:08:09Z"
    for created in (None, "", "yesterday"):
        assert bill(tmp_path / "3", LAYER, created=created).created == "1970-01-01T00:00:00Z"


def test_an_image_without_anything_has_a_bill(tmp_path: Path) -> None:
    for layers in ([], [[]], [[file("only", "x")]]):
        made = bill(tmp_path, *layers)
        assert len(spdx(made)["packages"]) == 1
        assert len(cyclonedx(made)["components"]) == len(made.files)


def test_node_modules_need_those_that_node_would_load(tmp_path: Path) -> None:
    def module(path: str, **needs: str) -> Member:
        name = path.rpartition("node_modules/")[2]
        text = json.dumps({"name": name, "version": "1", "dependencies": needs})
        return file(f"app/{path}/package.json", text)

    made = bill(
        tmp_path,
        [
            module("node_modules/a", b="*", c="*"),
            module("node_modules/a/node_modules/b", c="*", missing="*"),
            module("node_modules/b"),
            module("node_modules/c", b="*"),
        ],
    )
    places = {
        part.identifier: part.package.record.removeprefix("app/").removesuffix("/package.json") for part in made.parts
    }
    assert {places[part.identifier]: [places[one] for one in part.needs] for part in made.parts} == {
        "node_modules/a": ["node_modules/a/node_modules/b", "node_modules/c"],
        "node_modules/a/node_modules/b": ["node_modules/c"],
        "node_modules/b": [],
        "node_modules/c": ["node_modules/b"],
    }


def test_one_package_answers_for_each_need(tmp_path: Path) -> None:
    def stanza(name: str, architecture: str, **fields: str) -> str:
        more = "".join(f"{key}: {value}\n" for key, value in fields.items())
        return f"Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: {architecture}\n{more}\n"

    status = (
        stanza("app", "amd64", Depends="lib (>= 1), virtual | real, absent")
        + stanza("lib", "amd64")
        + stanza("lib", "i386")
        + "".join(stanza(f"provider{number}", "all", Provides="virtual") for number in range(3))
    )
    made = bill(tmp_path, [file("var/lib/dpkg/status", status)])
    labels = {part.identifier: part.package.label for part in made.parts}
    assert [labels[one] for one in made.parts[0].needs] == ["deb:lib@1:amd64", "deb:provider0@1:all"]


def declared(place: Path, copyright_text: str) -> str:
    made = bill(
        place,
        [
            file("var/lib/dpkg/status", "Package: p\nStatus: install ok installed\nVersion: 1\n"),
            file("usr/share/doc/p/copyright", copyright_text),
        ],
    )
    spdx(made)
    return made.parts[0].licence


HEAD = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (("GPL-2",), "GPL-2.0-only"),
        (("LGPL-2.1+", "GPL-3+"), "GPL-3.0-or-later AND LGPL-2.1-or-later"),
        (("Expat", "expat"), "MIT"),
        (("Apache-2.0 or BSD-3-clause",), "Apache-2.0 OR BSD-3-Clause"),
        (("ISC", "zlib or MIT"), "ISC AND (Zlib OR MIT)"),
        (("GPL-2+ and LGPL-2+ or AGPL-3",), "(GPL-2.0-or-later AND LGPL-2.0-or-later) OR AGPL-3.0-only"),
        (("GFDL-NIV-1.3+", "CC0-1.0"), "CC0-1.0 AND GFDL-1.3-no-invariants-or-later"),
        (
            ("GPL-2+ and LGPL-2+, or AGPL-3, and ISC",),
            "((GPL-2.0-or-later AND LGPL-2.0-or-later) OR AGPL-3.0-only) AND ISC",
        ),
        ((), "NOASSERTION"),
    ],
)
def test_names_of_debian_become_those_of_spdx(tmp_path: Path, licences: tuple[str, ...], expected: str) -> None:
    text = HEAD + "\n\n".join(f"Files: {number}\nLicense: {name}" for number, name in enumerate(licences))
    assert declared(tmp_path, text) == expected


@pytest.mark.parametrize(
    "text", ["This package was debianized by hand.\nLicense: GPL-2\n", "", "Format: 1.0\n\nFiles: *\nLicense: GPL-2\n"]
)
def test_copyright_files_for_people_are_not_guessed_at(tmp_path: Path, text: str) -> None:
    assert declared(tmp_path, text) == "NOASSERTION"


def test_licences_with_exceptions_and_odd_names_keep_their_words(tmp_path: Path) -> None:
    found = declared(tmp_path, HEAD + "Files: *\nLicense: GPL-2+ with Ünusual / exception\n It may be linked.\n")
    assert found.startswith("LicenseRef-GPL-2-with-nusual-exception-")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("License-Expression: MIT OR Apache-2.0", "MIT OR Apache-2.0"),
        ("License: BSD-3-Clause", "BSD-3-Clause"),
        ("License: MIT License", "MIT"),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
        ("Classifier: License :: OSI Approved :: BSD License", "LicenseRef-BSD-License-"),
        (f"License: {'long ' * 30}\nClassifier: License :: OSI Approved :: MIT License", "MIT"),
        ("Summary: nothing", "NOASSERTION"),
    ],
)
def test_licences_of_python_projects(tmp_path: Path, field: str, expected: str) -> None:
    made = bill(tmp_path, [file("site/x.dist-info/METADATA", f"Name: x\nVersion: 1\n{field}\n")])
    spdx(made)
    assert made.parts[0].licence.startswith(expected)


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("https://example.org/a?b#c", True),
        (" http://example.org ", True),
        ("https://", False),
        ("ftp://example.org/", False),
        ("https://exa mple.org/", False),
        ("https://example.org/ü", False),
        ("https://[::1", False),
    ],
)
def test_homepages_that_are_none_are_left_out(text: str, fits: bool) -> None:
    assert bool(address(text)) is fits
