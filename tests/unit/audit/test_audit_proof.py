"""The proof of distroless: what passes, and images that cheat."""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from audit_parts import breaking, directory, file, hardlink, report_of, symlink, told
from tare.audit.auditing import Question
from tare.audit.policy import read_policy
from tare.oci.image import ExecutionConfig, Healthcheck

Members = Sequence[tuple[tarfile.TarInfo, bytes]]
PROVE = Question(distroless=True)
DASH, BUSYBOX, PERL = Path("/bin/dash"), Path("/bin/busybox"), Path("/usr/bin/perl")
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0).decode("latin-1")
SERVER_SOURCE = r"""
#include <stdio.h>
int main(int argc, char **argv) { printf("serving %d\n", argc); return argv[0] == NULL; }
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program like any other."""
    place = tmp_path_factory.mktemp("server")
    (place / "server.c").write_text(SERVER_SOURCE)
    subprocess.run(["gcc", "-O1", "-static", "-o", place / "server", place / "server.c"], check=True)
    return (place / "server").read_bytes()


@pytest.fixture(scope="module")
def apt_library() -> bytes:
    found = sorted(Path("/usr/lib").glob("*/libapt-pkg.so.*"))
    assert found, "no libapt-pkg: tests run on Debian"
    return found[0].read_bytes()


def honest(server: bytes) -> Members:
    return [
        directory("app"),
        file("app/server", server, 0o755),
        file("etc/passwd", b"nonroot:x:65532:65532::/:/sbin/nologin\n"),
        file("usr/share/zoneinfo/UTC", b"TZif2" + bytes(100)),
    ]


def without_banner(program: bytes) -> bytes:
    return program.replace(b"BusyBox", b"Tinyapp").replace(b"busybox", b"tinyapp")


def without_sections(program: bytes) -> bytes:
    """As sstrip leaves it: no section headers, so that tools that need them see nothing."""
    changed = bytearray(program)
    struct.pack_into("<Q", changed, 40, 0)
    struct.pack_into("<HHH", changed, 58, 0, 0, 0)
    return bytes(changed)


CHEATS: dict[str, tuple[Callable[[bytes], Members], set[tuple[str, str]]]] = {
    "a renamed shell": (
        lambda server: [file("app/healthz", DASH.read_bytes(), 0o755)],
        {("shell", "/app/healthz"), ("outside-closure", "/app/healthz")},
    ),
    "busybox under another name, not executable": (
        lambda server: [file("usr/share/data/model.bin", BUSYBOX.read_bytes(), 0o600)],
        {("shell", "/usr/share/data/model.bin"), ("outside-closure", "/usr/share/data/model.bin")},
    ),
    "busybox without its name and section headers": (
        lambda server: [file("app/x", without_sections(without_banner(BUSYBOX.read_bytes())), 0o755)],
        {("shell", "/app/x"), ("outside-closure", "/app/x")},
    ),
    "an interpreter in a data directory": (
        lambda server: [file("var/lib/app/cache/1f2e", PERL.read_bytes(), 0o755)],
        {("outside-closure", "/var/lib/app/cache/1f2e")},
    ),
    "a set-user-ID copy of the application": (
        lambda server: [file("app/copy", server, 0o4755)],
        {("setuid", "/app/copy"), ("outside-closure", "/app/copy")},
    ),
    "the application itself set-group-ID": (
        lambda server: [file("app/server", server, 0o2755)],
        {("setuid", "/app/server")},
    ),
    "file capabilities of the application": (
        lambda server: [
            file("app/server", server, 0o755, pax_headers={"SCHILY.xattr.security.capability": CAPABILITY})
        ],
        {("file-capabilities", "/app/server")},
    ),
    "a shell in a hard link": (
        lambda server: [file("var/cache/fonts.idx", DASH.read_bytes()), hardlink("app/plugin", "var/cache/fonts.idx")],
        {("shell", "/app/plugin"), ("shell", "/var/cache/fonts.idx"), ("outside-closure", "/app/plugin")},
    ),
    "a script with an interpreter of its own": (
        lambda server: [file("app/.run", server, 0o755), file("app/job", b"#!/app/.run -x\nhello\n", 0o755)],
        {("outside-closure", "/app/.run"), ("outside-closure", "/app/job")},
    ),
    "an unknown program that nobody may execute": (
        lambda server: [file("usr/share/zoneinfo/Etc/GMT-99", server, 0o444)],
        {("outside-closure", "/usr/share/zoneinfo/Etc/GMT-99")},
    ),
    "a shell in a compressed manual": (
        lambda server: [file("usr/share/doc/app/changelog.gz", gzip.compress(BUSYBOX.read_bytes()))],
        {("hidden-program", "/usr/share/doc/app/changelog.gz")},
    ),
    "a program behind a picture": (
        lambda server: [file("app/logo.png", b"\x89PNG\r\n\x1a\n" + bytes(5 << 20) + server)],
        {("hidden-program", "/app/logo.png")},
    ),
    "a packed program": (
        lambda server: [file("app/tool", server[:240] + b"UPX!" + server[244:], 0o755)],
        {("packed-program", "/app/tool"), ("outside-closure", "/app/tool")},
    ),
    "the application is a shell": (
        lambda server: [file("app/server", BUSYBOX.read_bytes(), 0o755)],
        {("shell", "/app/server")},
    ),
    "the application is a link to a shell": (
        lambda server: [file("opt/libx", DASH.read_bytes(), 0o755), symlink("app/server", "../opt/libx")],
        {("shell", "/opt/libx")},
    ),
    "a library that goes into every process": (
        lambda server: [file("etc/ld.so.preload", b"/app/x.so\n")],
        {("preload", "/etc/ld.so.preload")},
    ),
    "a shell behind a whiteout that does not reach it": (
        lambda server: [
            directory("data"), directory("other"), file("data/sh", DASH.read_bytes(), 0o755),
            symlink("way", "other"), file("way/.wh.sh"),
        ],
        {("shell", "/data/sh"), ("outside-closure", "/data/sh")},
    ),
    "a damaged program": (
        lambda server: [file("app/odd", server[:64] + b"\xff" * 200, 0o755)],
        {("outside-closure", "/app/odd")},
    ),
}  # fmt: skip


def test_an_honest_image_passes(tmp_path: Path, server: bytes) -> None:
    report = report_of(tmp_path, honest(server), question=PROVE)
    assert told(report) == set()
    assert report.proof is not None and report.proof.holds
    assert report.proof.entrypoint == ("/app/server",)
    assert report.proof.closure == (("/app/server", "the entrypoint"),)


@pytest.mark.parametrize("name", CHEATS)
def test_cheats_do_not_pass(tmp_path: Path, server: bytes, name: str) -> None:
    make, expected = CHEATS[name]
    report = report_of(tmp_path, honest(server), make(server), question=PROVE)
    assert expected <= breaking(report)
    assert {rule for rule, _ in breaking(report)} <= {rule for rule, _ in expected} | {"interpreter", "network-tool",
        "package-manager", "missing-dependency"}  # fmt: skip
    assert report.proof is not None and not report.proof.holds


def test_a_package_managers_library_does_not_pass(tmp_path: Path, server: bytes, apt_library: bytes) -> None:
    report = report_of(
        tmp_path, honest(server), [file("usr/lib/libmodel.so.1", apt_library)], question=PROVE
    )  # fmt: skip
    assert ("package-manager", "/usr/lib/libmodel.so.1") in breaking(report)
    assert report.proof is not None and not report.proof.holds


def test_what_a_later_layer_hides_does_not_count(tmp_path: Path, server: bytes) -> None:
    shells = [file("bin/sh", DASH.read_bytes(), 0o755), file("opt/sh", DASH.read_bytes(), 0o755)]
    shells += [file("srv/sh", DASH.read_bytes(), 0o755)]
    gone = [file("bin/.wh.sh"), directory("opt"), file("opt/.wh..wh..opq"), file("srv/sh", b"text\n", 0o755)]
    report = report_of(tmp_path, honest(server), shells, gone, question=PROVE)
    assert told(report) == set()
    assert report.proof is not None and report.proof.holds


def test_libraries_and_loader_are_in_the_closure(tmp_path: Path) -> None:
    listed = subprocess.run(["ldd", "/usr/bin/perl"], capture_output=True, text=True, check=True).stdout
    libraries = sorted({word for word in listed.split() if word.startswith("/")})
    loader = next(path for path in libraries if "ld-linux" in path)
    members = [
        file("usr/local/bin/app", PERL.read_bytes(), 0o755),
        symlink("bin", "usr/bin"),
        symlink("lib", "usr/lib"),
    ]
    members += [symlink("lib64", "usr/lib64")]
    for path in libraries:
        members.append(file(f"usr{path}" if not path.startswith("/usr") else path[1:], Path(path).read_bytes(), 0o755))
    config = ExecutionConfig(entrypoint=["app"], env=["PATH=/usr/local/bin"])
    report = report_of(tmp_path, members, config=config, question=PROVE)
    assert report.proof is not None and report.proof.holds, report.findings
    reasons = dict(report.proof.closure)
    assert reasons["/usr/local/bin/app"] == "the entrypoint"
    assert any("ld-linux" in path and "loader of" in reason for path, reason in reasons.items()), (loader, reasons)
    assert any("libc.so" in path and "needed by" in reason for path, reason in reasons.items())
    without = [one for one in members if "libc.so" not in one[0].name]
    broken = report_of(tmp_path, without, config=config, question=PROVE)
    assert ("missing-dependency", "libc.so.6") in breaking(broken)
    assert broken.proof is not None and not broken.proof.holds


def test_programs_that_users_name_count(tmp_path: Path, server: bytes) -> None:
    members = [*honest(server), file("app/migrate", server, 0o755)]
    assert breaking(report_of(tmp_path, members, question=PROVE)) == {("outside-closure", "/app/migrate")}
    asked = Question(distroless=True, programs=("/app/migrate",))
    assert breaking(report_of(tmp_path, members, question=asked)) == set()
    policy = read_policy({"programs": ["/app/migrate"]})
    assert breaking(report_of(tmp_path, members, question=Question(distroless=True, policy=policy))) == set()
    wrong = Question(distroless=True, programs=("/app/migrat",))
    assert ("missing-dependency", "/app/migrat") in breaking(report_of(tmp_path, members, question=wrong))


def test_health_checks_and_wrapped_commands_count(tmp_path: Path, server: bytes) -> None:
    members = [*honest(server), file("app/probe", server, 0o755), file("sbin/tini", server, 0o755)]
    config = ExecutionConfig(
        entrypoint=["/sbin/tini", "--"], cmd=["/app/server", "-v"], healthcheck=Healthcheck(test=["CMD", "/app/probe"])
    )
    report = report_of(tmp_path, members, config=config, question=PROVE)
    assert breaking(report) == set()
    assert report.proof is not None and set(report.proof.entrypoint) == {"/sbin/tini", "/app/server", "/app/probe"}
    shell = ExecutionConfig(entrypoint=["/app/server"], healthcheck=Healthcheck(test=["CMD-SHELL", "true"]))
    assert ("missing-dependency", "/bin/sh") in breaking(
        report_of(tmp_path, members[:-2], config=shell, question=PROVE)
    )


def test_scripts_of_an_interpreter_in_the_closure_add_nothing(tmp_path: Path, server: bytes) -> None:
    members = [
        file("usr/bin/run", server, 0o755),
        symlink("usr/bin/run3", "run"),
        file("app/main", b"#!/usr/bin/env -S run3 -u\n", 0o755),
        file("usr/bin/env", server, 0o755),
        file("app/other", b"#! /usr/bin/run\n", 0o755),
        file("app/dead", b"#!/bin/bash\n", 0o755),
    ]
    report = report_of(tmp_path, members, config=ExecutionConfig(entrypoint=["/app/main"]), question=PROVE)
    assert told(report) == set()
    assert report.proof is not None
    assert {path for path, _ in report.proof.closure} == {"/app/main", "/usr/bin/env", "/usr/bin/run"}


def test_without_an_entrypoint_every_program_counts(tmp_path: Path, server: bytes) -> None:
    report = report_of(tmp_path, honest(server), config=ExecutionConfig(), question=PROVE)
    assert breaking(report) == {("outside-closure", "/app/server")}
    assert ("no-entrypoint", "Entrypoint") in told(report)


def test_a_program_in_xz_counts(tmp_path: Path, server: bytes) -> None:
    members = [*honest(server), file("usr/share/x.xz", lzma.compress(server, preset=0)), file("y.xz", b"\xfd7zXZ\0bad")]
    assert breaking(report_of(tmp_path, members, question=PROVE)) == {("hidden-program", "/usr/share/x.xz")}


def test_a_home_of_java_excuses_launchers_only(tmp_path: Path, server: bytes) -> None:
    launcher = server + b"\0JLI_Launch\0"
    small = launcher[:100_000] + b"\0JLI_Launch\0"
    members = [
        file("jre/bin/java", launcher, 0o755),
        file("jre/bin/keytool", small, 0o755),
        file("jre/bin/tool", server, 0o755),
        file("jre/bin/large", launcher, 0o755),
        file("jre/lib/modules", b"\xda\xda\xfe\xca" + bytes(100) + server),
        file("jre/lib/jspawnhelper", DASH.read_bytes(), 0o755),
        file("jre/lib/x.bin", bytes(10) + server),
    ]
    config = ExecutionConfig(entrypoint=["/jre/bin/java", "-jar"])
    report = report_of(tmp_path, members, config=config, question=PROVE)
    assert breaking(report) == {
        ("outside-closure", "/jre/bin/tool"), ("outside-closure", "/jre/bin/large"), ("shell", "/jre/lib/jspawnhelper"),
        ("outside-closure", "/jre/lib/jspawnhelper"), ("hidden-program", "/jre/lib/x.bin"),
    }  # fmt: skip
    assert report.proof is not None and ("/jre/bin/keytool", "a launcher of the Java VM") in report.proof.closure


def test_a_wrapper_gets_its_command_after_the_dashes(tmp_path: Path, server: bytes) -> None:
    members = [file("sbin/tini", server, 0o755), file("usr/bin/app", server, 0o755)]
    config = ExecutionConfig(entrypoint=["tini", "--"], cmd=["app", "serve"])
    assert breaking(report_of(tmp_path, members, config=config, question=PROVE)) == set()
