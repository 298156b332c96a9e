"""Programs and scripts as files, also hostile ones; what a real kernel says to them is tested end to end."""

from __future__ import annotations

import os
import random
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tare.base.elf import Elf, ElfError, read_elf
from tare.diagnosis.causes import CAUSES
from tare.diagnosis.command import diagnose_command
from tare.diagnosis.ldcache import MAGIC, read_cache
from tare.diagnosis.messages import Settings, diagnose_message, out_of_memory, size_text
from tare.diagnosis.names import edit_distance, listed, nearest
from tare.diagnosis.output import diagnose_output
from tare.diagnosis.system import System, system_of
from tare.diagnosis.tree import Tree
from tare.diagnosis.view import View

PATH = {"PATH": "/usr/local/bin:/bin"}
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("bin", "etc", "c", "lib"):
        (tmp_path / name).mkdir()
    program(tmp_path, "bin/sh", b"\x7fELF")
    return tmp_path


def program(root: Path, name: str, data: bytes, mode: int = 0o755) -> str:
    place = root / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    place.chmod(mode)
    return f"/{name}"


def view(root: Path, **changes: object) -> View:
    return View(**{"tree": Tree(root), "environment": PATH, **changes})  # type: ignore[arg-type]


def code_of(root: Path, name: str) -> str:
    found = diagnose_command(view(root), name)
    assert found is None or found.code in CAUSES
    return found.code if found else ""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("c")
    (directory / "x.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-o", directory / "x", directory / "x.c"], check=True)
    return (directory / "x").read_bytes()


def elf(path: Path, data: bytes) -> Elf:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_elf(fd)
    finally:
        os.close(fd)


def test_a_real_program_is_read(tmp_path: Path, compiled: bytes) -> None:
    found = elf(tmp_path / "x", compiled)
    assert (found.bits, found.architecture, found.needed) == (64, "amd64", ("libc.so.6",))
    assert found.interpreter == "/lib64/ld-linux-x86-64.so.2"
    assert found.is_pie
    ((library, versions),) = found.needs
    assert library == "libc.so.6" and "GLIBC_2.34" in versions


@pytest.mark.parametrize("length", [0, 3, 4, 15, 16, 20, 63, 64, 100, 500, 1000, 4096, 12000])
def test_a_program_cut_off_anywhere(tmp_path: Path, compiled: bytes, length: int) -> None:
    with pytest.raises(ElfError):
        elf(tmp_path / "x", compiled[:length])


@pytest.mark.parametrize("value", [0xFFFFFFFFFFFFFFFF, 0x8000000000000000, 0x7FFFFFFFFFFFFFFF, 1 << 40])
@pytest.mark.parametrize("offset", [32, 64 + 8, 64 + 56 + 8, 64 + 112 + 8])
def test_huge_offsets(tmp_path: Path, compiled: bytes, offset: int, value: int) -> None:
    data = compiled[:offset] + struct.pack("<Q", value) + compiled[offset + 8 :]
    try:
        elf(tmp_path / "x", data)
    except ElfError as error:
        assert str(error)


def test_random_damage_is_answered(tmp_path: Path, compiled: bytes) -> None:
    chance = random.Random(4)
    for _ in range(400):
        data = bytearray(compiled[: chance.choice([len(compiled), chance.randrange(64, len(compiled))])])
        for _ in range(chance.randrange(1, 30)):
            data[chance.randrange(min(len(data), 1024) if chance.random() < 0.7 else len(data))] = chance.randrange(256)
        try:
            elf(tmp_path / "x", bytes(data))
        except ElfError:
            continue


def test_version_chains_that_go_round_end(tmp_path: Path, compiled: bytes) -> None:
    original = elf(tmp_path / "x", compiled)
    needle = struct.pack("<HH", 1, len(original.needs[0][1]))  # vn_version, vn_cnt
    at = compiled.find(needle, compiled.find(b"libc.so.6"))
    assert at > 0
    round_ = compiled[: at + 12] + struct.pack("<I", 0xFFFFFFF0) + compiled[at + 16 :]
    try:
        elf(tmp_path / "y", round_)
    except ElfError as error:
        assert "cut off" in str(error)
    same = compiled[: at + 12] + struct.pack("<I", 1 << 31) + compiled[at + 16 :]
    with pytest.raises(ElfError):
        elf(tmp_path / "y", same)


@QUICK
@given(data=st.binary(max_size=600))
def test_any_bytes_get_an_answer(root: Path, data: bytes) -> None:
    for head in (b"", b"#!", b"\x7fELF\x02\x01\x01", b"#!/usr/bin/env "):
        program(root, "c/x", head + data)
        code_of(root, "/c/x")


@QUICK
@given(data=st.binary(max_size=400))
def test_any_cache_is_read(data: bytes) -> None:
    read_cache(data)
    read_cache(MAGIC + data)
    read_cache(b"ld.so-1.7.0\0" + data)


def test_the_hosts_cache_is_read() -> None:
    found = read_cache(Path("/etc/ld.so.cache").read_bytes())
    assert any(path.endswith("/libc.so.6") for path in found["libc.so.6"])


def test_a_first_line_without_end(root: Path) -> None:
    program(root, "c/x", b"#!/" + b"a" * 10_000_000)
    assert code_of(root, "/c/x") == "shebang-too-long"


def test_scripts_that_run_each_other_end(root: Path) -> None:
    program(root, "c/a", b"#!/c/b\n")
    program(root, "c/b", b"#!/c/a\n")
    assert code_of(root, "/c/a") == "interpreter-loop"
    program(root, "c/self", b"#!/c/self\n")
    assert code_of(root, "/c/self") == "interpreter-loop"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"#!", "no-shebang"),
        (b"#!   \n", "no-shebang"),
        (b"#! /bin/nothing -x\n", "interpreter-missing"),
        (b"#!/c\n", "is-directory"),
        (b"#!/usr/bin/env\n", "interpreter-missing"),
        (b"\xff\xfe#\0!\0", "shebang-bom"),
        (b"PK\x03\x04", "foreign-format"),
        (b"\0asm\1\0\0\0", "foreign-format"),
        (b"\x01\x02\x03", "unknown-format"),
        (b"echo hello\n", "no-shebang"),
        (b"\x7fELF", "damaged-program"),
    ],
)
def test_first_bytes(root: Path, line: bytes, code: str) -> None:
    program(root, "c/x", line)
    assert code_of(root, "/c/x") == code


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("python3", "env-program-missing"),
        ("-S python3 -u", "env-program-missing"),
        ("-S A=1 python3 -u", "env-program-missing"),
        ("good -x", "env-arguments"),
        ("good", ""),
        ("-i", ""),
        ("python3\r", "shebang-crlf"),
    ],
)
def test_through_env(root: Path, argument: str, code: str) -> None:
    busybox = Path("/bin/busybox").read_bytes()
    program(root, "usr/bin/env", busybox)
    program(root, "bin/good", busybox)
    program(root, "c/x", f"#!/usr/bin/env {argument}\n".encode())
    assert code_of(root, "/c/x") == code


def test_relative_names_and_empty_ones(root: Path) -> None:
    program(root, "c/x", b"echo\n")
    assert diagnose_command(view(root, cwd="/c"), "./x") is not None
    assert code_of(root, "") == "command-empty"
    assert code_of(root, "/bin/sh\r") == "crlf"
    assert code_of(root, "nothing\r") == "crlf"


def test_a_program_that_is_in_path_twice(root: Path) -> None:
    program(root, "usr/local/bin/tool", b"text", 0o644)
    program(root, "bin/tool", Path("/bin/busybox").read_bytes())
    assert code_of(root, "tool") == ""  # execvp goes on after EACCES
    (root / "bin/tool").unlink()
    assert code_of(root, "tool") == "not-executable"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("pyhton3", ["python3"]),
        ("python", ["python3", "python3.11"]),
        ("nod", ["node"]),
        ("NODE", ["node"]),
        ("bsah", ["bash"]),
        ("nosuch", []),
        ("", []),
        ("x" * 200, []),
    ],
)
def test_near_names(wanted: str, expected: list[str]) -> None:
    assert nearest(wanted, ["python3", "python3.11", "node", "bash", "touch"]) == expected


@given(one=st.text(max_size=8), two=st.text(max_size=8))
def test_edit_distance(one: str, two: str) -> None:
    distance = edit_distance(one, two)
    assert distance == edit_distance(two, one)
    assert (distance == 0) == (one == two)
    assert abs(len(one) - len(two)) <= distance <= max(len(one), len(two))


def test_lists() -> None:
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed("abc")] == ["", "a", "a or b", "a, b or c"]


@pytest.mark.parametrize(
    ("soname", "package"),
    [
        ("libssl.so.3", "libssl3"),
        ("libz.so.1", "zlib1g"),
        ("libstdc++.so.6", "libstdc++6"),
        ("libgcc_s.so.1", "libgcc-s1"),
        ("libX11.so.6", "libx11-6"),
        ("libglib-2.0.so.0", "libglib2.0-0"),
        ("plugin.so", ""),
    ],
)
def test_debian_package_names(soname: str, package: str) -> None:
    assert System("debian", "glibc").library_package(soname) == package
    assert System("alpine", "musl").library_package(soname) == ""


def test_systems_are_recognised(root: Path) -> None:
    assert system_of(Tree(root)) == System("", "")
    program(root, "lib/ld-musl-x86_64.so.1", b"")
    program(root, "etc/alpine-release", b"3.20\n")
    assert system_of(Tree(root)) == System("alpine", "musl")


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("app: error while loading shared libraries: libx.so.1: cannot open shared object file: No such file", 127,
         ("library-missing", "libx.so.1")),
        ("Error loading shared library libx.so.1: No such file or directory (needed by /c/app)", 127,
         ("library-missing", "libx.so.1")),
        ("Error relocating /c/app: foo: symbol not found", 127, ("symbol-missing", "foo")),
        ("/c/app: symbol lookup error: /c/app: undefined symbol: bar", 127, ("symbol-missing", "bar")),
        ("/c/app: /lib/libc.so.6: version `GLIBC_2.99' not found (required by /c/app)", 1,
         ("symbol-version-missing", "GLIBC_2.99")),
        ("bash: line 1: nosuch: command not found", 127, ("command-not-found", "nosuch")),
        ("sh: 1: exec: nosuch: not found", 127, ("command-not-found", "nosuch")),
        ("/entry.sh: 3: nosuch: not found\nbye\n\n", 127, ("command-not-found", "nosuch")),
        ("env: 'nosuch': No such file or directory", 127, ("command-not-found", "nosuch")),
        ("sh: /c/noexec: Permission denied", 126, ("not-executable", "/c/noexec")),
        ("/x.sh: line 2: $'\\r': command not found", 127, ("crlf", "/x.sh")),
        ("write: No space left on device", 1, ("no-space", "write: No space left on device")),
        ("OSError: [Errno 30] Read-only file system: '/etc/new'", 1, ("read-only-root", "/etc/new")),
        ("ping: permission denied (are you root?)", 1, ("capability-missing", "CAP_NET_RAW")),
        ("RuntimeError: can't start new thread", 1, ("pids-limit", "5")),
    ],
)  # fmt: skip
def test_last_words(root: Path, text: str, code: int, expected: tuple[str, str]) -> None:
    program(root, "c/noexec", b"", 0o644)
    asked = Settings(read_only=True, pids=5, capabilities=frozenset({"CHOWN"}))
    found = diagnose_output(text, code, view(root), asked)
    assert found is not None
    assert (found.code, found.subject) == expected
    assert found.code in CAUSES


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("cat: /no/data: No such file or directory", 1),
        ("GET /x 404 page: not found", 1),
        ("grep: file: Permission denied", 2),
        ("all is well", 127),
        ("", 127),
        ("x" * 100_000, 127),
        ("open: Read-only file system", 1),
    ],
)
def test_other_last_words_say_nothing(root: Path, text: str, code: int) -> None:
    assert diagnose_output(text, code, view(root), Settings()) is None


@QUICK
@given(text=st.text(max_size=300), code=st.sampled_from([1, 126, 127]))
def test_any_last_words_get_an_answer(root: Path, text: str, code: int) -> None:
    for prefix in ("", "exec /", "env: ", "sh: ", "a: error while loading shared libraries: "):
        diagnose_output(prefix + text, code, view(root), Settings(read_only=True, pids=1))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("container init was OOM-killed (memory limit too low?)", ("memory-limit-low", str(6 << 20))),
        ('chdir to cwd ("/w") set in config.json failed: no such file or directory', ("workdir-missing", "/w")),
        ("write: no space left on device", ("no-space", "no space left on device")),
        ("fork/exec /proc/self/exe: resource temporarily unavailable", ("pids-limit", "3")),
        ('failed to write "9": write /sys/fs/cgroup/x/cpuset.mems: invalid argument', ("cpuset-unavailable", "9")),
    ],
)
def test_messages_of_runtimes(root: Path, message: str, expected: tuple[str, str]) -> None:
    found = diagnose_message(message, view(root), Settings(working_directory="/w", memory=6 << 20, pids=3))
    assert found is not None and (found.code, found.subject) == expected


def test_messages_that_say_nothing(root: Path) -> None:
    assert diagnose_message("something else", view(root), Settings()) is None
    assert diagnose_message("container init was OOM-killed", view(root), Settings()) is None


def test_sizes_are_written_as_limits_are() -> None:
    assert [size_text(size) for size in (5, 2048, 6 << 20, 3 << 29)] == ["5 bytes", "2 KiB", "6 MiB", "1.5 GiB"]
    assert "-m 12m" in out_of_memory(Settings(memory=6 << 20)).fix
    assert out_of_memory(Settings()).subject == "host"


def test_search_paths_without_end(root: Path, compiled: bytes) -> None:
    program(root, "lib64/ld-linux-x86-64.so.2", Path("/lib64/ld-linux-x86-64.so.2").read_bytes())
    program(root, "c/app", compiled)
    assert code_of(root, "/c/app") == "library-missing"
    endless = {**PATH, "LD_LIBRARY_PATH": ":".join(["/c"] * 30_000)}
    assert diagnose_command(view(root, environment=endless), "/c/app") is None
    program(root, "lib/libc.so.6", Path("/lib/x86_64-linux-gnu/libc.so.6").read_bytes())
    assert code_of(root, "/c/app") == ""


@pytest.mark.parametrize("part", [": ", ":", "a: ", "env: ", "(needed by ", "exec "])
def test_lines_made_to_keep_patterns_busy(root: Path, part: str) -> None:
    text = "\n".join([part * 5000] * 50)
    assert diagnose_output(text, 127, view(root), Settings(read_only=True, pids=1)) is None


@pytest.mark.parametrize("name", ["sh", "/bin/sh", "bash"])
def test_an_image_without_a_shell(tmp_path: Path, name: str) -> None:
    found = diagnose_command(view(tmp_path), name)
    assert found is not None
    assert "the image has no shell" in found.fix
