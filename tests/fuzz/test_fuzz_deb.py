"""Damaged packages: read, or refused with DataCorrupt; never anything else, never without bounds."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tare.distroless.deb import Deb, read_deb
from tare.errors import DataCorrupt

MEMORY = 24 << 20  # bytes; zstandard's window and our pieces
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module", params=["none", "gzip", "xz", "zstd"])
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A package as dpkg-deb makes it."""
    return built(request.param, tmp_path_factory.mktemp("deb") / "root")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return built("none", tmp_path_factory.mktemp("deb") / "root")


def built(compression: str, root: Path) -> bytes:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb makes the package")
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: x\nDescription: x\n"
    )
    (root / "DEBIAN/postinst").write_text("#!/bin/sh\ntrue\n")
    (root / "DEBIAN/postinst").chmod(0o755)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/hello").write_bytes(bytes(range(256)) * 8)
    (root / "usr/bin/again").hardlink_to(root / "usr/bin/hello")
    (root / "usr/bin/soft").symlink_to("hello")
    (root / "usr" / ("long" * 40)).write_text("x")
    target = root.parent / "hello.deb"
    argv = ["dpkg-deb", "--root-owner-group", "-Z", compression, "--build", str(root), str(target)]
    subprocess.run(argv, check=True, capture_output=True)
    return target.read_bytes()


def read(data: bytes) -> Deb | None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "x.deb")
        path.write_bytes(data)
        tracemalloc.start()
        try:
            return read_deb(path, Path(name, "spool"))
        except DataCorrupt as error:
            assert error.code == "deb-malformed"
            return None
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < MEMORY, f"{peak} bytes"


KINDS = st.sampled_from(["flip", "cut", "insert", "repeat"])
EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), KINDS, st.binary(max_size=12)),
    min_size=1,
    max_size=6,
)


def edited(data: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    changed = bytearray(data)
    for place, kind, text in edits:
        at = int(place * len(changed)) if changed else 0
        match kind:
            case "flip" if changed:
                changed[at : at + len(text)] = text
            case "cut":
                del changed[at : at + 1 + len(text) * 50]
            case "insert":
                changed[at:at] = text
            case _:
                changed[at:at] = changed[at : at + 512]
    return bytes(changed)


def test_the_package_itself_is_read(package: bytes) -> None:
    found = read(package)
    assert found is not None
    assert found.tree.get("usr/bin/again") is not None


@given(edits=EDITS)
@SETTINGS
def test_damaged_packages(package: bytes, edits: list[tuple[float, str, bytes]]) -> None:
    read(edited(package, edits))


FIELDS = st.sampled_from(
    [(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)]
)
LIES_OF_FIELDS = (
    b"\xff" * 12, b"\x80" + b"\xff" * 11, b"77777777777", b"", b"..", b"/", b"../../etc/x", b"\0", b"x", b"L", b"g",
    b"S", b"3", b"-1", b"usr/bin/hello", b"usr/bin", b"99999999",
)  # fmt: skip
VALUES = st.sampled_from(LIES_OF_FIELDS) | st.binary(max_size=16)


@given(changes=st.lists(st.tuples(st.integers(0, 12), FIELDS, VALUES), min_size=1, max_size=4))
@SETTINGS
def test_headers_that_lie_with_a_right_checksum(
    plain: bytes, changes: list[tuple[int, tuple[int, int], bytes]]
) -> None:
    read(rebuilt(plain, lambda data: with_headers(data, changes)))


KEYS = ("path", "linkpath", "size", "uid", "gid", "mtime", "SCHILY.xattr.security.capability", "GNU.sparse.size")
LIES = ("-1", "1e999", "nan", "0", "99999999999999999999", "..", "/etc/x", "usr/bin/hello", "\x00", "")
PAX = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(LIES) | st.text(max_size=20), min_size=1, max_size=3)


@given(records=PAX, kind=st.sampled_from([b"x", b"g"]))
@SETTINGS
def test_extended_headers_that_lie(plain: bytes, records: dict[str, str], kind: bytes) -> None:
    read(rebuilt(plain, lambda data: extended_header(records, kind) + data))


def rebuilt(package: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The package with its data changed, uncompressed."""
    with tempfile.TemporaryDirectory() as name:
        path, spool = Path(name, "x.deb"), Path(name, "spool")
        path.write_bytes(package)
        read_deb(path, spool)
        data = change(spool.read_bytes())
    at = package.index(b"data.tar")
    return package[:at] + b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (b"data.tar", 0, 0, 0, b"100644", len(data)) + data


def with_headers(data: bytes, changes: list[tuple[int, tuple[int, int], bytes]]) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        places = [item.offset for item in archive]
    out = bytearray(data)
    for index, (offset, length), value in changes:
        start = places[index % len(places)]
        out[start + offset : start + offset + length] = value[:length].ljust(length, b"\0")
        block = out[start : start + 512]
        block[148:156] = b" " * 8
        out[start + 148 : start + 156] = b"%06o\0 " % sum(block)
    return bytes(out)


def extended_header(records: dict[str, str], kind: bytes) -> bytes:
    text = b""
    for key, value in records.items():
        rest = f" {key}={value}\n".encode("utf-8", "surrogatepass")
        size = len(rest) + 1
        while len(str(size)) + len(rest) != size:
            size = len(str(size)) + len(rest)
        text += str(size).encode() + rest
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(text)
    return info.tobuf(tarfile.USTAR_FORMAT) + text.ljust(-(-len(text) // 512) * 512, b"\0")
