"""What files are, by their content; files that are made to confuse."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from audit_parts import file, tar
from tare.audit.content import Content, Examiner, Form
from tare.audit.layers import open_layers
from tare.audit.signatures import Role, recognise
from tare.audit.tree import Inode
from tare.errors import NotFound

HOST = [
    ("/bin/dash", Role.SHELL, "a POSIX shell"),
    ("/bin/bash", Role.SHELL, "a POSIX shell"),
    ("/bin/busybox", Role.SHELL, "a multi-call program (busybox, toybox)"),
    ("/usr/bin/dpkg", Role.PACKAGE_MANAGER, "dpkg"),
    ("/usr/bin/dpkg-deb", Role.PACKAGE_MANAGER, "dpkg"),
    ("/usr/bin/apt-get", Role.PACKAGE_MANAGER, "apt"),
    ("/usr/bin/perl", Role.INTERPRETER, "Perl"),
    ("/usr/bin/x86_64-linux-gnu-as", Role.COMPILER, "the GNU assembler"),
    ("/usr/bin/x86_64-linux-gnu-ld.bfd", Role.COMPILER, "the GNU linker"),
    ("/usr/bin/x86_64-linux-gnu-gcc-12", Role.COMPILER, "the GNU compiler driver"),
    ("/usr/bin/curl", Role.NETWORK_TOOL, "curl"),
]
ORDINARY = [
    "/bin/cat",
    "/bin/ls",
    "/usr/bin/make",
    "/usr/bin/file",
    "/usr/bin/git",
    "/usr/bin/sqlite3",
    "/usr/sbin/nft",
]


def examine(tmp_path: Path, data: bytes) -> Content:
    with open_layers([tar(tmp_path / "layer.tar", [file("before", b"x" * 700), file("x", data)])]) as layers:
        found = layers.tree.find_file("x")
        assert found is not None
        return Examiner(layers).examine(found[1])


@pytest.mark.parametrize(("program", "role", "name"), HOST)
def test_programs_of_the_host(tmp_path: Path, program: str, role: Role, name: str) -> None:
    if not Path(program).exists():
        pytest.skip(f"no {program} on this host")
    assert (role, name) in examine(tmp_path, Path(program).read_bytes()).roles


@pytest.mark.parametrize("program", ORDINARY)
def test_ordinary_programs_are_nothing_special(tmp_path: Path, program: str) -> None:
    if not Path(program).exists():
        pytest.skip(f"no {program} on this host")
    found = examine(tmp_path, Path(program).read_bytes())
    assert (found.form, found.roles, found.packed, found.hidden) == (Form.PROGRAM, (), "", "")


@pytest.mark.parametrize(
    ("data", "form", "roles"),
    [
        (b"", Form.TEXT, ()),
        (b"hello\n", Form.TEXT, ()),
        (b"#!/bin/sh\n", Form.SCRIPT, ()),
        (b"#!\n", Form.TEXT, ()),
        (b"\x00\x01", Form.DATA, ()),
        (b"import x\nfrom pip._internal.cli.main import main\n", Form.TEXT, ((Role.PACKAGE_MANAGER, "pip"),)),
        (b"see from pip._internal.cli.main import main\n", Form.TEXT, ()),
        (b'{\n  "name": "npm",\n  "version": "9"\n}', Form.TEXT, ((Role.PACKAGE_MANAGER, "npm"),)),
        (b'{\n  "name": "app",\n  "uses": "npm"\n}', Form.TEXT, ()),
    ],
)
def test_texts(tmp_path: Path, data: bytes, form: Form, roles: tuple[tuple[Role, str], ...]) -> None:
    found = examine(tmp_path, data)
    assert (found.form, found.roles) == (form, roles)


def test_a_library_is_a_library(tmp_path: Path) -> None:
    path = next(Path("/usr/lib").glob("*/libz.so.1"))
    found = examine(tmp_path, path.read_bytes())
    assert found.form is Form.LIBRARY and found.elf is not None and found.elf.soname == "libz.so.1"


def test_traces_across_the_borders_of_what_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for chunk in (1000, 4096, 5003):
        monkeypatch.setattr("tare.audit.content._CHUNK", chunk)
        found = examine(tmp_path, Path("/bin/busybox").read_bytes())
        assert found.has(Role.SHELL), chunk


def test_damaged_programs_count_as_programs(tmp_path: Path) -> None:
    whole = Path("/bin/dash").read_bytes()
    chance = random.Random(6)
    for _ in range(60):
        data = bytearray(whole[: chance.choice((20, 64, 300, len(whole)))])
        for _ in range(chance.randrange(1, 40)):
            data[chance.randrange(4, min(len(data), 1200))] = chance.randrange(256)
        assert examine(tmp_path, bytes(data)).form in (Form.PROGRAM, Form.LIBRARY, Form.OBJECT)


def test_ruby_knows_the_words_of_a_shell_and_is_none() -> None:
    words = frozenset(b"if then elif else fi case esac for while until do done in umask trap export".split())
    assert recognise(words, frozenset(), ()) == ()


def test_a_file_that_goes_meanwhile_is_data(tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper/x").write_bytes(b"text")
    (tmp_path / "upper/y").write_bytes(b"text")
    with pytest.raises(NotFound, match="removed meanwhile"), open_layers([], tmp_path / "gone"):
        pass
    with pytest.raises(NotFound, match="removed meanwhile"), open_layers([tmp_path / "gone.tar"]):
        pass
    with open_layers([], tmp_path / "upper") as layers:
        inodes: list[Inode] = [inode for _, inode in layers.tree.files()]
        (tmp_path / "upper/x").unlink()
        (tmp_path / "upper/y").unlink()
        os.mkfifo(tmp_path / "upper/y")
        found = [Examiner(layers).examine(inode) for inode in inodes]
    assert [one.form for one in found] == [Form.DATA, Form.DATA]
    assert "cannot be read" in found[0].damaged
