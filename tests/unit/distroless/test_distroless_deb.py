from __future__ import annotations

import hashlib
import tarfile
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
        (deb(control("x"), member("../evil", b"x")), "leaves the package"),
        (deb(control("x"), member("usr/../../evil", b"x")), "leaves the package"),
        (deb(control("x"), member("dev/null", kind=tarfile.CHRTYPE)), "neither file, directory nor link"),
        (deb(control("x"), member("a", kind=tarfile.LNKTYPE, target="/etc/shadow")), "which is not there"),
        (deb(control("x"), member("a", kind=tarfile.LNKTYPE, target="../b")), "leaves the package"),
        (deb(control("x"), member("a", b""), member("a/b", b"")), "lies below"),
        (ar(*[("x", b"")] * 11), "too many members"),
    ],
)
def test_hostile_packages(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataCorrupt, match=message):
        read(tmp_path, data)


def test_truncated_data(tmp_path: Path) -> None:
    whole = compress(tar(member("a", b"x" * 5000)), ".xz")
    controls = compress(tar(member("./control", control("x").encode())), ".xz")
    data = ar(("debian-binary", b"2.0\n"), ("control.tar.xz", controls), ("data.tar.xz", whole[:-20]))
    with pytest.raises(DataCorrupt, match=r"ends early"):
        read(tmp_path, data)


def test_bombs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_module, "DATA_LIMIT", 1 << 20)
    monkeypatch.setattr(deb_module, "CONTROL_LIMIT", 1 << 20)
    with pytest.raises(DataCorrupt, match=r"data.tar.xz unpacks to more than"):
        read(tmp_path, deb(control("x"), member("zeros", bytes(2 << 20))))
    with pytest.raises(DataCorrupt, match=r"control.tar.xz unpacks to more than"):
        read(tmp_path, deb(control("x"), extra={"big": "x" * (2 << 20)}), "y.deb")


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
