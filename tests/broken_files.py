"""Root file systems with programs that cannot run, made by the host's compiler and by hand."""

from __future__ import annotations

import io
import struct
import subprocess
import tarfile
from pathlib import Path

from engine_process import add_file, busybox_rootfs

HELLO = '#include <stdio.h>\nint main(void) { puts("fine"); return 0; }\n'
USES_FOO = '#include <stdio.h>\nint foo(void);\nint main(void) { printf("fine %d\\n", foo()); return 0; }\n'
FOO = "int foo(void) { return 7; }\n"
GLIBC = ("/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6")
SHELL = "#!/bin/sh\necho fine\n"


def compiled(directory: Path, name: str, source: str, *options: str) -> bytes:
    """What gcc makes of a C source."""
    (directory / f"{name}.c").write_text(source)
    subprocess.run(["gcc", "-o", directory / name, directory / f"{name}.c", *options], check=True, cwd=directory)
    return (directory / name).read_bytes()


def i386_program(directory: Path) -> bytes:
    """A dynamic program for 32 bits: exit(0), by the system call."""
    (directory / "i386.s").write_text(".globl _start\n_start: movl $1, %eax\n xorl %ebx, %ebx\n int $0x80\n")
    subprocess.run(["as", "--32", "-o", directory / "i386.o", directory / "i386.s"], check=True)
    loader = ("-pie", "--dynamic-linker", "/lib/ld-linux.so.2")
    subprocess.run(["ld", "-m", "elf_i386", *loader, "-o", directory / "i386", directory / "i386.o"], check=True)
    return (directory / "i386").read_bytes()


def elf_hash(name: bytes) -> int:
    """The hash of a symbol version (gABI, chapter 5)."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
    return value


def with_newer_glibc(program: bytes) -> tuple[bytes, str]:
    """The program as if built with a glibc of the future; and the version that it wants then."""
    old = max(name for name in (b"GLIBC_2.34", b"GLIBC_2.38") if name in program)
    new = b"GLIBC_2.99"
    changed = program.replace(old + b"\0", new + b"\0")
    return changed.replace(struct.pack("<I", elf_hash(old)), struct.pack("<I", elf_hash(new))), new.decode()


def for_other_machine(program: bytes) -> bytes:
    """The program with the machine of arm64 in its header."""
    return program[:18] + struct.pack("<H", 183) + program[20:]


def broken_rootfs(directory: Path) -> bytes:
    """Busybox with broken programs in ``/c``; no C library."""
    static = compiled(directory, "static", HELLO, "-static")
    hello = compiled(directory, "hello", HELLO)
    musl = compiled(directory, "musl", HELLO, "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
    scripts: dict[str, str | bytes] = {
        "good": SHELL,
        "no-bash": SHELL.replace("/bin/sh", "/bin/bash"),
        "no-python": "#!/usr/bin/env python3\nprint('fine')\n",
        "env-words": "#!/usr/bin/env sh -e\necho fine\n",
        "crlf": SHELL.replace("\n", "\r\n"),
        "crlf-env": "#!/usr/bin/env sh\r\necho fine\r\n",
        "crlf-body": "#!/bin/sh\nset -e\r\necho fine\r\n",
        "bom": b"\xef\xbb\xbf" + SHELL.encode(),
        "no-shebang": "echo fine\n",
        "long-shebang": f"#!/{'x' * 300}/sh\necho fine\n",
        "calls-missing": '#!/bin/sh\nexec "$@"\n',
        "empty": b"",
        "windows": b"MZ\x90\x00" + bytes(60),
        "noise": bytes(range(8)) * 40,
        "cut": static[:48],
        "half": static[: len(static) // 2],
        "arm64": for_other_machine(static),
        "static": static,
        "glibc": hello,
        "musl": musl,
        "i386": i386_program(directory),
        "object.o": compiled(directory, "object.o", FOO, "-c"),
    }
    files: dict[str, tuple[bytes, int]] = {
        f"c/{name}": (data.encode() if isinstance(data, str) else data, 0o755) for name, data in scripts.items()
    }
    files["c/no-x"] = (SHELL.encode(), 0o644)
    files["c/owner-only"] = (SHELL.encode(), 0o700)
    files["root/hidden"] = (SHELL.encode(), 0o755)
    files["opt/tool/bin/tool"] = (SHELL.encode(), 0o755)
    links = {"c/dangling": "/c/nowhere", "c/loop": "loop2", "c/loop2": "/c/loop"}
    return _extended(busybox_rootfs(), files, links)


def glibc_rootfs(directory: Path) -> bytes:
    """Busybox with the host's C library and programs that miss a library."""
    options = ("-shared", "-fPIC", "-Wl,-soname,libfoo.so.1")
    (directory / "new.map").write_text("FOO_1.0 { };\nFOO_2.0 { global: foo; } FOO_1.0;\n")
    (directory / "old.map").write_text("FOO_1.0 { global: foo; local: *; };\n")
    new = compiled(directory, "libfoo.so.1", FOO, *options, "-Wl,--version-script=new.map")
    (directory / "libfoo.so").write_bytes(new)
    uses = compiled(directory, "uses", USES_FOO, "-L.", "-lfoo")
    runpath = compiled(directory, "runpath", USES_FOO, "-L.", "-lfoo", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/old")
    old = compiled(directory, "libfoo-old", FOO, *options, "-Wl,--version-script=old.map")
    hello = compiled(directory, "hello", HELLO)
    future, _ = with_newer_glibc(hello)
    programs = {
        "c/hello": hello,
        "c/uses": uses,
        "c/future": future,
        "c/versioned": runpath,
        "c/old/libfoo.so.1": old,
        "c/damaged": compiled(directory, "damaged", USES_FOO, "-L.", "-lfoo", "-Wl,--enable-new-dtags,-rpath,/c/bad"),
        "c/bad/libfoo.so.1": new[:32],
        "c/elsewhere": compiled(directory, "elsewhere", USES_FOO, "-L.", "-lfoo"),
        "c/good/libfoo.so.1": new,
        "usr/lib/x86_64-linux-gnu/README": b"",
        **{path.lstrip("/"): Path(path).resolve().read_bytes() for path in GLIBC},
    }
    programs |= {"etc/debian_version": b"12.9\n"}
    return _extended(busybox_rootfs(), {name: (data, 0o755) for name, data in programs.items()}, {})


def _extended(base: bytes, files: dict[str, tuple[bytes, int]], links: dict[str, str]) -> bytes:
    buffer = io.BytesIO(base)
    with tarfile.open(fileobj=buffer, mode="a") as archive:
        for name, (data, mode) in files.items():
            add_file(archive, name, data, mode)
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()
