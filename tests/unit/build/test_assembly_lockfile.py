"""Lock files: written, read again, compared, and refused where they do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tare.build.assembly.document import read_document
from tare.build.assembly.lockfile import LockChange, changes_between, lock_name, pins_for, read_lock, write_lock
from tare.build.assembly.yaml_nodes import DocumentError
from tare.model.assembly import Pin

FILE = """\
base: cc
packages:
- libpq5
- name: tzdata
  slices: [zoneinfo]
exclude:
  libldap-2.5-0: no directory is asked
"""
LIBC = Pin(name="libc6", version="2.36-9+deb12u14", architecture="amd64", sha256="ab" * 32, size=2759320)
TZDATA = Pin(name="tzdata", version="2026f-0+deb12u1", architecture="all", sha256="01" * 32, size=300)
ARM = replace(LIBC, architecture="arm64", sha256="cd" * 32)
PINS = {"arm64": (ARM, TZDATA), "amd64": (TZDATA, LIBC), "386": ()}
TEXT = f"""\
# Written by `tare build --update-lock`: builds use exactly these packages. Keep it beside the declarative file.
version: 1
request:
  base: "cc"
  release: "12"
  packages:
  - libpq5
  - tzdata zoneinfo
  exclude:
  - libldap-2.5-0
packages:
  "386": []
  amd64:
  - libc6 2.36-9+deb12u14 amd64 sha256:{"ab" * 32} 2759320
  - tzdata 2026f-0+deb12u1 all sha256:{"01" * 32} 300
  arm64:
  - libc6 2.36-9+deb12u14 arm64 sha256:{"cd" * 32} 2759320
  - tzdata 2026f-0+deb12u1 all sha256:{"01" * 32} 300
"""


def test_the_text_is_sorted_and_read_back() -> None:
    read = read_document(FILE, "distroless.yaml")
    assert write_lock(read.document, PINS) == TEXT
    lock = read_lock(TEXT, "distroless.lock")
    assert pins_for(lock, read, "amd64") == (LIBC, TZDATA)
    assert pins_for(lock, read, "arm64") == (ARM, TZDATA)
    assert pins_for(lock, read, "386") == ()


@pytest.mark.parametrize(
    ("name", "lock"), [("distroless.yaml", "distroless.lock"), ("a/b.prod.yml", "a/b.prod.lock"), ("x.yaml", "x.lock")]
)
def test_its_name(name: str, lock: str) -> None:
    assert lock_name(name) == lock


@pytest.mark.parametrize(
    ("old", "new", "cause", "place"),
    [
        ("base: cc", "base: python3", "base was cc", 1),
        ("base: cc", "base: cc\ndebug: true", "debug was false", 2),
        ("- libpq5", "- libpq5\n- curl", "curl came to packages later", 2),
        ("- libpq5\n", "", "libpq5 went from packages since", 2),
        ("- libpq5", "- libpq5=15.13-0+deb12u1", "libpq5=15.13-0+deb12u1 came to packages later", 2),
        ("[zoneinfo]", "[config]", "tzdata config came to packages later", 2),
        ("libldap-2.5-0", "libgomp1", "libgomp1 came to exclude later", 6),
    ],
)
def test_a_lock_for_something_else_is_refused(old: str, new: str, cause: str, place: int) -> None:
    read = read_document(FILE.replace(old, new), "distroless.yaml")
    with pytest.raises(DocumentError) as caught:
        pins_for(read_lock(TEXT, "distroless.lock"), read, "amd64")
    assert caught.value.message == f"distroless.yaml: distroless.lock was made for another distroless.yaml: {cause}"
    assert (caught.value.code, caught.value.line) == ("lock-stale", place)
    assert "--update-lock" in caught.value.hint


def test_what_does_not_change_the_packages_does_not_matter() -> None:
    read = read_document(f"{FILE}files: [{{source: a, target: /a}}]\nuser: root\n", "distroless.yaml")
    assert pins_for(read_lock(TEXT, "distroless.lock"), read, "amd64")


def test_an_architecture_that_is_not_locked() -> None:
    with pytest.raises(DocumentError, match="no packages are locked for arm, only for 386, amd64, arm64") as caught:
        pins_for(read_lock(TEXT, "distroless.lock"), read_document(FILE, "distroless.yaml"), "arm")
    assert (caught.value.code, caught.value.name, caught.value.line) == ("lock-architecture", "distroless.lock", 11)


@pytest.mark.parametrize(
    ("old", "new", "line", "cause"),
    [
        (" 2759320\n  - tz", "\n  - tz", 14, "this is no package"),
        ("sha256:ab", "sha256:xy", 14, "this is no package"),
        ("- tzdata 2026f", "- libc6 2026f", 15, "package libc6 is there twice"),
        ("version: 1", "version: 2", 2, "'2' is not one of 1"),
        ("request:", "requests:", 3, "unknown field requests"),
        ("  base: \"cc\"\n", "", 4, "base is missing"),
        ("  arm64:", "<<<<<<< ours\n  arm64:", 17, "not YAML"),
        (TEXT, "", 1, "the file is empty"),
        (TEXT, "packages: {}\n", 1, "version is missing"),
    ],
)  # fmt: skip
def test_damage_is_told_with_its_line(old: str, new: str, line: int, cause: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_lock(TEXT.replace(old, new, 1), "distroless.lock")
    assert caught.value.reason.startswith(cause)
    assert (caught.value.line, caught.value.code) == (line, "lock-invalid")
    assert caught.value.hint


def test_differences() -> None:
    newer = replace(LIBC, version="2.36-9+deb12u15", sha256="ef" * 32)
    rebuilt = replace(TZDATA, sha256="ef" * 32)
    curl = replace(LIBC, name="curl")
    found = changes_between({"amd64": (LIBC, TZDATA), "arm64": (ARM,)}, {"amd64": (newer, curl, rebuilt), "arm64": ()})
    assert found == (
        LockChange(architecture="amd64", name="curl", after=LIBC.version),
        LockChange(architecture="amd64", name="libc6", before=LIBC.version, after=newer.version),
        LockChange(architecture="amd64", name="tzdata", before=TZDATA.version, after=TZDATA.version),
        LockChange(architecture="arm64", name="libc6", before=ARM.version),
    )
    assert changes_between(PINS, PINS) == ()
