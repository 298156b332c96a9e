from __future__ import annotations

import hashlib
import tarfile
import tracemalloc
from pathlib import Path

import pytest
from deb_parts import ar, compress, control, deb, member, tar

from tare.archive.entry import Kind
from tare.archive.filetree import FileTree
from tare.distroless import deb as deb_module
from tare.distroless import debian
from tare.distroless.deb import Deb, read_deb
from tare.distroless.dpkg import write_database
from tare.errors import Conflict, DataCorrupt


def read(tmp_path: Path, data: bytes, name: str = "x.deb") -> Deb:
    path = tmp_path / name
    path.write_bytes(data)
    return read_deb(path, tmp_path / f"{name}.spool")


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst", ""])
def test_reads_every_compression(tmp_path: Path, suffix: str) -> None:
    data = deb(
        control("hello", "1.0"),
        member("./usr/bin/", kind=tarfile.DIRTYPE, mode=0o755),
        member("./usr/bin/hello", b"hi", mode=0o4755),
        member("./usr/bin/again", kind=tarfile.LNKTYPE, target="./usr/bin/hello"),
        member("./usr/bin/soft", kind=tarfile.SYMTYPE, target="../../etc/x"),
        suffix=suffix,
        extra={"postinst": "#!/bin/sh\n"},
    )
    package = read(tmp_path, data)
    assert (package.name, package.built) == ("hello", 2000)
    assert package.control["postinst"] == b"#!/bin/sh\n"
    assert package.tree.read("usr/bin/again") == b"hi"
    nodes = {node.entry.path: node.entry for node in package.tree}
    assert nodes["usr/bin/hello"].mode == 0o4755
    assert nodes["usr/bin/soft"].target == "../../etc/x"
    assert nodes["usr/bin/again"].kind is Kind.HARDLINK


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an ar archive"),
        (b"!<arch>\n", "not a Debian package"),
        (b"!<arch>\nshort", "damaged ar header"),
        (ar(("debian-binary", b"2.0\n"))[:-2], "truncated"),
        (ar(("debian-binary", b"3.0\n")), "format"),
        (ar(("debian-binary", b"2.0\n")), "no control.tar"),
        (ar(("debian-binary", b"2.0\n"), ("control.tar.xz", b"junk")), "x.deb"),
        (ar(("debian-binary", b"2.0\n"), ("control.tar.xz", compress(tar(), ".xz"))), "no control file"),
        (deb(control("x")).replace(b"data.tar.xz", b"data.tar.br"), "no data.tar"),
        (deb("Package: x\n"), "lacks"),
        (deb(control("x"), member("../evil", b"x")), "leads outside with"),
        (deb(control("x"), member("usr/../../evil", b"x")), "leads outside with"),
        (deb(control("x"), member("/etc/passwd", b"x")), "absolute path"),
        (deb(control("x"), member("dev/null", kind=tarfile.CHRTYPE)), "neither file, directory nor link"),
        (deb(control("x"), member("dev/sda", kind=tarfile.BLKTYPE)), "neither file, directory nor link"),
        (deb(control("x"), member("a", kind=tarfile.LNKTYPE, target="etc/shadow")), "which is not there"),
        (deb(control("x"), member("a", kind=tarfile.LNKTYPE, target="/etc/shadow")), "absolute path"),
        (deb(control("x"), member("a", kind=tarfile.LNKTYPE, target="../b")), "leads outside with"),
        (deb(control("x"), member("a", kind=tarfile.SYMTYPE, target="a"), member("a/b", b"")), "too many levels"),
        (deb(control("../x")), "no package name"),
        (deb(control("x"), member("/".join("a" * 200), b"")), "directories deep"),
        (deb(control("x"), member("a" * 300, b"")), "path is too long"),
        (deb(control("x"), member("a/" * 2100, b"")), "path is too long"),
        (deb(control("x"), member("a", b""), member("a/b", b"")), "lies below"),
        (ar(*[("x", b"")] * 11), "too many members"),
        (ar(("debian-binary", b"2.0\n")).replace(b"4         `", b"-4        `"), "truncated"),
        (ar(("debian-binary", b"2.0\n")).replace(b"4         `", b"999999999 `"), "truncated"),
        (ar(("debian-binary", b"2.0\n")).replace(b"4         `", b"4x        `"), "damaged ar header"),
        (ar(("control.tar", b""), ("debian-binary", b"2.0\n")), "not a Debian package"),
        (ar(("debian-binary", b"2.0\n"), ("../control.tar", tar())), "no control.tar"),
        (deb(control("x"), suffix=".gz")[:-10], "truncated"),
    ],
)
def test_hostile_packages(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataCorrupt, match=message):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("suffix", "message"), [(".xz", "ends early"), (".gz", "x.deb"), (".zst", "x.deb"), ("", "ends")]
)
def test_truncated_data(tmp_path: Path, suffix: str, message: str) -> None:
    whole = compress(tar(member("a", bytes(range(256)) * 200)), suffix)
    controls = compress(tar(member("./control", control("x").encode())), ".xz")
    cut = whole[:-20] if suffix else whole[:-20000]
    data = ar(("debian-binary", b"2.0\n"), ("control.tar.xz", controls), (f"data.tar{suffix}", cut))
    with pytest.raises(DataCorrupt, match=message):
        read(tmp_path, data)


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".zst"])
def test_bombs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(deb_module, "DATA_LIMIT", 4 << 20)
    bomb = deb(control("x"), member("zeros", bytes(16 << 20)), suffix=suffix)
    tracemalloc.start()
    try:
        with pytest.raises(DataCorrupt, match=rf"data.tar{suffix} unpacks to more than"):
            read(tmp_path, bomb)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert (tmp_path / "x.deb.spool").stat().st_size <= 4 << 20


def test_bombs_of_control_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_module, "CONTROL_LIMIT", 1 << 20)
    with pytest.raises(DataCorrupt, match=r"control.tar.xz unpacks to more than"):
        read(tmp_path, deb(control("x"), extra={"big": "x" * (2 << 20)}))


def header(kind: bytes, size: bytes) -> bytes:
    """A member that says ``size`` (the field's bytes) of itself, its checksum right."""
    block = bytearray(tar(member("a", b"", kind=kind))[:512])
    block[124:136] = size.ljust(12, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


NEGATIVE = b"\xff" * 12
HUGE = b"\x80" + (1 << 40).to_bytes(11, "big")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(b"0", NEGATIVE), "negative size"),
        (header(b"x", NEGATIVE), "extended header of -"),
        (header(b"L", NEGATIVE), "extended header of -"),
        (header(b"0", HUGE), "bytes of content"),
        (header(b"x", HUGE), "extended header of 1099511627776 bytes"),
        (header(b"L", HUGE), "extended header of 1099511627776 bytes"),
        (header(b"0", b"77777777777\0"), "ends within"),
        (header(b"S", b"0"), "sparse file"),
    ],
)
def test_sizes_that_lie(tmp_path: Path, data: bytes, message: str) -> None:
    controls = compress(tar(member("./control", control("x").encode())), ".xz")
    package = ar(("debian-binary", b"2.0\n"), ("control.tar.xz", controls), ("data.tar", data + bytes(4096)))
    with pytest.raises(DataCorrupt, match=message):
        read(tmp_path, package)


def test_very_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = [member(f"usr/{number}/{number}") for number in range(600)]
    assert len(read(tmp_path, deb(control("x"), *many)).tree) == 1201
    monkeypatch.setattr(deb_module, "MEMBER_LIMIT", 1000)
    with pytest.raises(DataCorrupt, match=r"more than 1000 members"):
        read(tmp_path, deb(control("x"), *many), "y.deb")
    monkeypatch.setattr(deb_module, "MEMBER_LIMIT", 10_000)
    monkeypatch.setattr(deb_module, "_NAMES_LIMIT", 5000)
    with pytest.raises(DataCorrupt, match=r"5000 bytes of names"):
        read(tmp_path, deb(control("x"), *many), "z.deb")


def test_a_file_through_a_link_of_the_package_stays_in_the_tree(tmp_path: Path) -> None:
    up = member("up", kind=tarfile.SYMTYPE, target="../../../..")
    away = member("away", kind=tarfile.SYMTYPE, target="/etc")
    package = read(tmp_path, deb(control("x"), up, away, member("up/one", b"1"), member("away/two", b"2")))
    assert (package.tree.read("one"), package.tree.read("etc/two")) == (b"1", b"2")


def test_of_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    package = read(tmp_path, deb(control("x"), member("a", b"1"), member("a", b"22"), member("a", b"333")))
    assert package.tree.read("a") == b"333"
    with pytest.raises(DataCorrupt, match=r"/a is a directory of x and a file of x"):
        read(tmp_path, deb(control("x"), member("a"), member("a", kind=tarfile.DIRTYPE)), "y.deb")


def test_dpkg_database(tmp_path: Path) -> None:
    package = read(
        tmp_path,
        deb(
            control("libx", "1", Multi_Arch="same", Description="short\n long"),
            member("./etc/x.conf", b"1"),
            extra={
                "conffiles": "/etc/x.conf\nremove-on-upgrade /etc/old\n",
                "triggers": "interest /usr/lib\ninterest-noawait named\nactivate other\ninterest ../../evil\n",
                "postinst": "#!/bin/sh\n",
            },
        ),
    )
    tree = FileTree()
    write_database(tree, [package])
    status = tree.read("var/lib/dpkg/status").decode()
    md5 = hashlib.md5(b"1").hexdigest()
    assert "Status: install ok unpacked\n" in status
    assert f"Conffiles:\n /etc/x.conf {md5}\nDescription: short\n long\n" in status
    assert tree.read("var/lib/dpkg/info/libx:all.list") == b"/.\n/etc\n/etc/x.conf\n"
    assert tree.read("var/lib/dpkg/triggers/File") == b"/usr/lib libx:all\n"
    assert tree.read("var/lib/dpkg/triggers/named") == b"libx:all/noawait\n"
    node = tree.get("var/lib/dpkg/info/libx:all.postinst")
    assert node is not None
    assert node.entry.mode == 0o755


def test_replaces_decides_between_packages(tmp_path: Path) -> None:
    old = read(tmp_path, deb(control("old"), member("usr/x", b"1")), "old")
    new = read(tmp_path, deb(control("new", Replaces="old (<< 2)"), member("usr/x", b"2")), "new")
    other = read(tmp_path, deb(control("other"), member("usr/x", b"3")), "other")
    tree = FileTree()
    debian.merge_packages(tree, [old, new])
    assert tree.read("usr/x") == b"2"
    with pytest.raises(Conflict, match=r"/usr/x is claimed by new and other"):
        debian.merge_packages(FileTree(), [new, other])


def test_normalise_removes_what_the_moment_left() -> None:
    tree = FileTree()
    for path in ("var/log/dpkg.log", "run/x", "tmp/y", "etc/passwd-", "var/lib/dpkg/status-old", "etc/machine-id"):
        tree.add_file(path, b"x")
    for path in ("var/log/wtmp", "etc/passwd"):
        tree.add_file(path, b"x")
    tree.add_file("etc/shadow", b"root:*:20001:0:99999:7:::\nx:!::::::\n", mode=0o640, gid=42)
    debian.normalise(tree, 86400 * 100)
    files = {node.entry.path: node.entry for node in tree if node.entry.kind is Kind.FILE}
    assert set(files) == {"var/log/wtmp", "etc/passwd", "etc/shadow"}
    assert tree.read("etc/shadow") == b"root:*:100:0:99999:7:::\nx:!::::::\n"
    assert (files["etc/shadow"].mode, files["etc/shadow"].gid) == (0o640, 42)
