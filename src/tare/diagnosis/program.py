"""Why the kernel or the dynamic loader refuses a file: scripts and their interpreters, ELF and what it needs."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from tare.base import elf as elf_part
from tare.base.elf import Elf, ElfError, read_elf
from tare.diagnosis.linking import Loader, MissingLibrary, MissingVersion
from tare.diagnosis.names import listed, nearest
from tare.diagnosis.system import System, system_of
from tare.diagnosis.tree import Look, Outcome
from tare.diagnosis.view import View
from tare.errors import Diagnosis

Recurse = Callable[[str], Diagnosis | None]

LINE_LIMIT = 256
"""Bytes of a first line that the kernel reads (BINPRM_BUF_SIZE)."""
_HEAD = 4096
_BOMS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_FOREIGN = (
    (b"MZ", "a Windows program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a macOS program or a Java class"),
    (b"\0asm", "a WebAssembly module"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
)
_TEXT_REFUSED = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
_COMPATIBLE = {"amd64": {"amd64", "i386"}, "arm64": {"arm64", "arm"}}


def check_content(view: View, path: str, look: Look, recurse: Recurse) -> Diagnosis | None:
    """What is wrong inside a file that may be executed; ``recurse`` looks at an interpreter."""
    try:
        head = view.tree.read(path, _HEAD)
    except OSError:
        return None
    if not head:
        return Diagnosis(
            code="empty-file", subject=path, cause=f"{path} is empty", fix="see whether the step that makes it fails"
        )
    if head.startswith(elf_part.MAGIC):
        return _elf(view, path, recurse)
    if head.startswith(b"#!"):
        return _script(view, path, head, recurse)
    return _unknown(path, head)


def _unknown(path: str, head: bytes) -> Diagnosis:
    for bom in _BOMS:
        if head.startswith(bom):
            return Diagnosis(
                code="shebang-bom", subject=path,
                cause=f"{path} begins with a byte order mark, before which the kernel sees no #!",
                fix="save it as UTF-8 without BOM (sed -i '1s/^\\xef\\xbb\\xbf//')",
            )  # fmt: skip
    for magic, what in _FOREIGN:
        if head.startswith(magic):
            return Diagnosis(
                code="foreign-format", subject=path, cause=f"{path} is {what}, which Linux does not execute",
                fix="build it for Linux, or name the program that runs it",
            )  # fmt: skip
    if _TEXT_REFUSED.search(head):
        return Diagnosis(
            code="unknown-format", subject=path, cause=f"{path} is neither an ELF program nor a script",
            fix="see whether it was copied or downloaded whole, and unpacked",
        )  # fmt: skip
    return Diagnosis(
        code="no-shebang", subject=path, cause=f"{path} is text without a #! line, which the kernel does not execute",
        fix='begin it with #!/bin/sh, or run it with ["sh", "' + path + '"]',
    )  # fmt: skip


def _script(view: View, path: str, head: bytes, recurse: Recurse) -> Diagnosis | None:
    line, newline, _ = head.partition(b"\n")
    cut = len(line) > LINE_LIMIT - 1 or (not newline and len(head) >= LINE_LIMIT)
    text = line[2:LINE_LIMIT].decode(errors="replace")
    words = text.removesuffix("\r").split(None, 1)
    shown = text.strip()[:80]
    if text.endswith("\r"):
        return Diagnosis(
            code="shebang-crlf", subject=path,
            cause=f"{path} has Windows' line ends: its first line asks for {' '.join(words)[-80:]!r} with a carriage "
            "return at the end",
            fix="convert it (sed -i 's/\\r$//'), and have git keep it so (.gitattributes: *.sh text eol=lf)",
        )  # fmt: skip
    if not words:
        return Diagnosis(
            code="no-shebang", subject=path, cause=f"the #! line of {path} names no program", fix="write #!/bin/sh"
        )
    if cut and (len(words) == 1 or len(words[0]) >= LINE_LIMIT - 3):
        return Diagnosis(
            code="shebang-too-long", subject=path,
            cause=f"the #! line of {path} is longer than the {LINE_LIMIT - 1} bytes that the kernel reads: #!{shown}…",
            fix="shorten the path, or use #!/usr/bin/env",
        )  # fmt: skip
    interpreter, argument = words[0], words[1].strip() if len(words) > 1 else ""
    problem = _interpreter(view, path, interpreter, recurse)
    if problem is not None or posixpath.basename(interpreter) != "env":
        return problem
    return _through_env(view, path, argument, recurse)


def _interpreter(view: View, path: str, interpreter: str, recurse: Recurse) -> Diagnosis | None:
    place = view.absolute(interpreter)
    look = view.tree.look(place)
    if look.outcome is Outcome.UNKNOWN:
        return None
    if look.outcome is Outcome.FOUND or look.links:
        found = recurse(place)
        if found is None:
            return None
        return Diagnosis(
            code=found.code, subject=found.subject, fix=found.fix,
            cause=f"{path} is run by {interpreter}, and {found.cause}",
        )  # fmt: skip
    name = posixpath.basename(interpreter)
    return Diagnosis(
        code="interpreter-missing", subject=interpreter,
        cause=f"{path} is run by {interpreter} (its #! line), which does not exist",
        fix=_interpreter_fix(view, name, interpreter),
    )  # fmt: skip


def _interpreter_fix(view: View, name: str, interpreter: str) -> str:
    steps = []
    if found := view.somewhere(name):
        steps.append(f"write #!{found}, where it is")
    elif near := nearest(name, view.programs()):
        places = [view.which(item) or item for item in near]
        steps.append(f"write #!{listed(places)}, which is there")
    if package := system_of(view.tree).program_package(name):
        steps.append(package)
    if name == "bash" and not view.somewhere("bash") and view.somewhere("sh"):
        steps.append("if it is plain shell, write #!/bin/sh")
    return ", or ".join(dict.fromkeys(steps)) or f"add {interpreter} to the image, or correct the line"


def _through_env(view: View, path: str, argument: str, recurse: Recurse) -> Diagnosis | None:
    """``#!/usr/bin/env PROGRAM``: what env(1) will look for. The kernel gives it all arguments in one string."""
    if not argument or argument.startswith("-"):
        split = re.match(r"(?:-S|--split-string=)\s*(?:\w+=\S*\s+)*([^\s=-]\S*)", argument)
        if split is None:
            return None
        name = split[1]
    elif " " in argument and not view.which(argument):
        return Diagnosis(
            code="env-arguments", subject=argument,
            cause=f"{path} has #!/usr/bin/env with several words, and the kernel passes them on as one: {argument!r}",
            fix=f"write #!/usr/bin/env -S {argument}",
        )  # fmt: skip
    else:
        name = argument
    found = view.which(name) if "/" not in name else view.absolute(name)
    if found:
        return recurse(found)
    steps = []
    if outside := view.somewhere(name):
        steps.append(f"add {posixpath.dirname(outside)} to PATH, where it is")
    elif near := nearest(name, view.programs()):
        steps.append(f"write #!/usr/bin/env {listed(near)}, which is there")
    if package := system_of(view.tree).program_package(name):
        steps.append(package)
    return Diagnosis(
        code="env-program-missing", subject=name,
        cause=f"{path} is run by {name} (#!/usr/bin/env {argument}), and there is no {name} in PATH",
        fix=", or ".join(steps) or f"add {name} to the image",
    )  # fmt: skip


def _elf(view: View, path: str, recurse: Recurse) -> Diagnosis | None:
    try:
        with view.tree.open(path) as fd:
            elf = read_elf(fd)
    except ElfError as error:
        return Diagnosis(
            code="damaged-program", subject=path, cause=f"{path} is damaged: {error}",
            fix="see whether it was copied or downloaded whole",
        )  # fmt: skip
    except OSError:
        return None
    if elf.kind not in (elf_part.EXECUTABLE, elf_part.SHARED):
        what = "an object file that was never linked" if elf.kind == elf_part.RELOCATABLE else "no program"
        return Diagnosis(
            code="not-a-program", subject=path, cause=f"{path} is {what}", fix="link it, or name the program itself"
        )
    if elf.architecture not in _COMPATIBLE.get(view.architecture, {view.architecture}):
        return _wrong_architecture(view, path, elf)
    if not elf.interpreter:
        if elf.kind == elf_part.SHARED and elf.soname and not posixpath.basename(path).startswith("ld-"):
            return Diagnosis(
                code="not-a-program", subject=path, cause=f"{path} is a shared library ({elf.soname}), not a program",
                fix="name the program itself",
            )  # fmt: skip
        return None
    look = view.tree.look(elf.interpreter)
    if look.outcome in (Outcome.MISSING, Outcome.NOT_DIRECTORY):
        return _loader_missing(view, path, elf)
    problem = recurse(elf.interpreter)
    if problem is not None:
        cause = f"{path} is loaded by {elf.interpreter}, and {problem.cause}"
        return Diagnosis(code=problem.code, subject=problem.subject, cause=cause, fix=problem.fix)
    return check_libraries(view, path, elf)


def _wrong_architecture(view: View, path: str, elf: Elf) -> Diagnosis:
    other = f" (the image says {view.image_architecture})" if view.image_architecture != view.architecture else ""
    if not view.image_architecture:
        other = ""
    return Diagnosis(
        code="wrong-architecture", subject=path,
        cause=f"{path} is for {elf.architecture}, this host is {view.architecture}{other}",
        fix=f"build it for linux/{view.architecture}, or install qemu-user-static and binfmt-support on the host",
    )  # fmt: skip


def _loader_missing(view: View, path: str, elf: Elf) -> Diagnosis:
    system, wants = system_of(view.tree), "musl" if "ld-musl" in elf.interpreter else "glibc"
    cause = f"{path} needs the dynamic loader {elf.interpreter}, which does not exist"
    code = "loader-missing"
    if elf.bits == 32 and view.architecture in ("amd64", "arm64"):
        code, cause = "loader-missing-32bit", f"{cause}: it is a 32-bit program ({elf.architecture})"
        fix = "build it for 64 bits"
        if system.family == "debian":
            fix += f", or dpkg --add-architecture {elf.architecture} and install libc6:{elf.architecture}"
    elif system.libc and system.libc != wants:
        cause += f": it was built for {wants}, and the image has {system.libc}"
        has = {"glibc": "glibc (Debian, Ubuntu, …)", "musl": "musl (Alpine)"}
        fix = f"build it on an image like this one, link it statically, or use a base image with {has[wants]}"
        if wants == "glibc" and system.family == "alpine":
            fix += "; apk add gcompat helps some programs"
        elif wants == "musl" and system.family == "debian":
            fix += "; apt-get install musl"
    elif not system.libc:
        cause += f": it was built for {wants}, and the image has no C library at all"
        fix = "link it statically (gcc -static; Go: CGO_ENABLED=0), or use a base image with " + wants
    else:
        fix = f"use a base image that has {elf.interpreter}"
    return Diagnosis(code=code, subject=elf.interpreter, cause=cause, fix=fix)


def check_libraries(view: View, path: str, elf: Elf) -> Diagnosis | None:
    """What the dynamic loader would not find for a program."""
    missing = Loader(view.tree, view.environment).missing(path, elf)
    if missing is None:
        return None
    system = system_of(view.tree)
    if isinstance(missing, MissingVersion):
        return _version(missing, system)
    return _library(path, missing, system)


def _version(missing: MissingVersion, system: System) -> Diagnosis:
    has = f" (the image's has up to {missing.newest})" if missing.newest else ""
    built = missing.version.replace("GLIBC_", "glibc ") if missing.version.startswith("GLIBC_") else ""
    fix = "use a newer base image, or build it on the base image that it runs on"
    if built:
        fix = f"use a base image with {built} or newer, or build it on the base image that it runs on"
    return Diagnosis(
        code="symbol-version-missing", subject=missing.version,
        cause=f"{missing.needed_by} needs {missing.version} of {missing.library}, which is too old here{has}", fix=fix,
    )  # fmt: skip


def _library(path: str, missing: MissingLibrary, system: System) -> Diagnosis:
    by = missing.needed_by if missing.needed_by == path else f"{missing.needed_by} (for {path})"
    cause = f"{by} needs the shared library {missing.library}, which is not found"
    code, steps = "library-missing", []
    if missing.wrong:
        code, cause = "library-unusable", f"{by} needs the shared library {missing.library}, and {missing.wrong}"
    elif missing.elsewhere:
        code = "library-not-searched"
        directory = posixpath.dirname(missing.elsewhere)
        cause += f" where the loader looks, but {missing.elsewhere} exists"
        update = "RUN ldconfig" if directory in ("/usr/local/lib", "/usr/local/lib64") else ""
        search = f"ENV LD_LIBRARY_PATH={directory}"
        steps.append(f"{update}, or {search}" if update and system.libc == "glibc" else search)
    elif missing.other_version:
        cause += f"; the image has {missing.other_version}, another version"
        steps.append("build against the version that is there")
    if not missing.elsewhere and (package := system.library_package(missing.library)):
        steps.insert(0, f"install it: Debian's packages are named after the library, here {package}")
    return Diagnosis(
        code=code, subject=missing.library, cause=cause,
        fix=", or ".join(steps) or "install the package that has it, or copy it from the stage that built the program",
    )  # fmt: skip
