"""What the last words of a program say that ended soon: those of loaders, shells, ``env`` and init programs."""

from __future__ import annotations

import re
from collections.abc import Callable

from tare.base.elf import ElfError, read_elf
from tare.diagnosis.command import diagnose_command
from tare.diagnosis.messages import Settings, too_many_processes
from tare.diagnosis.program import check_libraries
from tare.diagnosis.view import View
from tare.errors import Diagnosis

COMMAND_CODES = (126, 127)
"""Exit codes of shells, ``env`` and init programs for what cannot be executed."""
_MAX_LINES = 20
_MAX_LINE = 500
_CAPABILITIES = {
    "chown": "CHOWN", "mount": "SYS_ADMIN", "umount": "SYS_ADMIN", "ping": "NET_RAW", "mknod": "MKNOD",
    "date": "SYS_TIME", "hwclock": "SYS_TIME", "iptables": "NET_ADMIN", "ip": "NET_ADMIN",
    "ifconfig": "NET_ADMIN", "route": "NET_ADMIN", "chroot": "SYS_CHROOT", "su": "SETUID", "setpriv": "SETUID",
    "hostname": "SYS_ADMIN", "tcpdump": "NET_RAW", "sysctl": "SYS_ADMIN",
}  # fmt: skip


def diagnose_output(text: str, code: int, view: View, settings: Settings) -> Diagnosis | None:
    """The cause that ``text``, the end of what a program wrote, tells of; the last line that does counts.

    ``code`` is its exit code: 126 and 127 are those of commands that could not be executed, and only then are the words
    of shells about files taken to be about commands.
    """
    known = [*_LOADERS, *(_COMMANDS if code in COMMAND_CODES else ()), *_LIMITS]
    lines = [line[:_MAX_LINE] for line in text.split("\n")]
    for line in reversed([line for line in lines if line.strip()][-_MAX_LINES:]):
        for pattern, explain in known:
            found = re.search(pattern, line, re.IGNORECASE)
            if found is not None and (diagnosis := explain(found, view, settings)) is not None:
                return diagnosis
    return None


Explain = Callable[[re.Match[str], View, Settings], Diagnosis | None]


def _library(found: re.Match[str], view: View, _: Settings) -> Diagnosis:
    program, library = found["program"].strip(), found["library"].strip()
    by = found.groupdict().get("by") or program
    analysed = _libraries_of(view, program or by)
    if analysed is not None and analysed.subject == library:
        return analysed
    return Diagnosis(
        code="library-missing", subject=library, cause=f"{by} needs the shared library {library}, which is not found",
        fix="install the package that has it, or copy it from the stage that built the program",
    )  # fmt: skip


def _unusable(found: re.Match[str], view: View, _: Settings) -> Diagnosis:
    analysed = _libraries_of(view, found["program"].strip())
    if analysed is not None and analysed.subject == found["library"]:
        return analysed
    return Diagnosis(
        code="library-unusable", subject=found["library"],
        cause=f"{found['program']} needs the shared library {found['library']}, which cannot be used: {found['why']}",
        fix="install the library for this architecture, whole",
    )  # fmt: skip


def _libraries_of(view: View, program: str) -> Diagnosis | None:
    path = view.absolute(program) if "/" in program else view.which(program)
    try:
        with view.tree.open(path) as fd:
            return check_libraries(view, path, read_elf(fd))
    except (ElfError, OSError):
        return None


def _version(found: re.Match[str], view: View, _: Settings) -> Diagnosis:
    analysed = _libraries_of(view, found["program"])
    if analysed is not None and analysed.code == "symbol-version-missing":
        return analysed
    return Diagnosis(
        code="symbol-version-missing", subject=found["version"],
        cause=f"{found['by']} needs {found['version']} of {found['library']}, which is too old here",
        fix="use a newer base image, or build it on the base image that it runs on",
    )  # fmt: skip


def _symbol(found: re.Match[str], _: View, __: Settings) -> Diagnosis:
    return Diagnosis(
        code="symbol-missing", subject=found["symbol"],
        cause=f"{found['by']} needs {found['symbol']}, which none of its libraries has: they do not fit together",
        fix="build it against the libraries of the image that it runs on",
    )  # fmt: skip


def _command(found: re.Match[str], view: View, _: Settings) -> Diagnosis | None:
    name = found["name"].strip().strip(_QUOTES)
    if name in ("\\r", "\r", "$'\\r'") or name.endswith(("\r", "\\r")):
        return _crlf(found, view, _)
    return diagnose_command(view, name) if name and len(name) < 500 else None


def _crlf(found: re.Match[str], _: View, __: Settings) -> Diagnosis:
    script = next((word for word in re.split(r":\s*", found.string) if word.startswith("/")), "the script")
    return Diagnosis(
        code="crlf", subject=script,
        cause=f"{script} has Windows' line ends, and the shell takes each carriage return for text",
        fix="convert it (sed -i 's/\\r$//'), and have git keep it so (.gitattributes: *.sh text eol=lf)",
    )  # fmt: skip


def _read_only(found: re.Match[str], view: View, settings: Settings) -> Diagnosis | None:
    if not settings.read_only:
        return None
    paths = [word.strip(_QUOTES + ",") for word in re.findall(r"/[^\s:]*", found.string)]
    path = next((item for item in paths if len(item) > 1), "")
    directory = path if view.tree.look(path).is_directory else path.rpartition("/")[0]
    place = directory or "/tmp"
    return Diagnosis(
        code="read-only-root", subject=path or "/",
        cause=f"it wants to write {path or 'a file'}, which --read-only forbids",
        fix=f"add --tmpfs {place} for what may be lost, or -v NAME:{place} for data",
    )  # fmt: skip


def _permitted(found: re.Match[str], _: View, settings: Settings) -> Diagnosis | None:
    words = re.split(r"[\s:]+", found.string.strip())
    program = next((word.rpartition("/")[2] for word in words if word.rpartition("/")[2] in _CAPABILITIES), "")
    program = "ip" if words[:1] == ["RTNETLINK"] else program
    wanted = _CAPABILITIES.get(program, "")
    if not wanted or settings.capabilities is None or wanted in settings.capabilities:
        return None
    return Diagnosis(
        code="capability-missing", subject=f"CAP_{wanted}",
        cause=f"{program} needs the capability CAP_{wanted}, which the container does not have",
        fix=f"add --cap-add {wanted} if the program is to be trusted with it",
    )  # fmt: skip


def _processes(_: re.Match[str], __: View, settings: Settings) -> Diagnosis | None:
    return too_many_processes(settings)


def _no_space(found: re.Match[str], _: View, __: Settings) -> Diagnosis:
    return Diagnosis(
        code="no-space", subject=found.string.strip()[:200],
        cause="a file system is full: the host's, or one in memory",
        fix="see df -h and df -i; tare system prune frees what nothing uses",
    )  # fmt: skip


_QUOTES = "'\"\u2018\u2019`"
_SHARED = r"(?P<program>[^:\s]+): error while loading shared libraries: (?P<library>[^:]+): "
_GONE = "No such file or directory|Permission denied|Is a directory"
_LOADERS: tuple[tuple[str, Explain], ...] = (
    (
        r'^\{"msg":"exec container process (?:\(missing dynamic library\?\) )?`(?P<name>/[^`]*)`: '
        r"(?:no such file or directory|exec format error|permission denied)",
        _command,
    ),  # crun's, whose log is JSON
    (r"^exec (?P<name>/.*): (?:no such file or directory|exec format error|permission denied)$", _command),  # runc's
    (_SHARED + "cannot open shared object file: No such file", _library),
    (_SHARED + "(?P<why>.+)", _unusable),
    (
        r"(?P<program>\S+): (?P<library>\S+): version `(?P<version>[^']+)' not found \(required by (?P<by>[^)]+)\)",
        _version,
    ),
    (r"symbol lookup error: (?P<by>[^:]+): undefined symbol: (?P<symbol>[^\s,]+)", _symbol),
    (
        r"Error loading shared library (?P<library>[^:]+): .*\(needed by (?P<by>(?P<program>[^)]+))\)",
        _library,
    ),
    (r"Error relocating (?P<by>[^:]+): (?P<symbol>\S+): symbol not found", _symbol),
    (r"set: .*(?:illegal|invalid) option.*\r|: \$?'?\\r'?: (?:command )?not found", _crlf),
)
_COMMANDS: tuple[tuple[str, Explain], ...] = (
    (r"exec (?P<name>\S+) failed: (?:No such file|Permission denied|Exec format)", _command),
    (rf"env: (?:can't execute )?(?P<name>[{_QUOTES}][^{_QUOTES}]+[{_QUOTES}]|[^:]+): (?:{_GONE}|not found)", _command),
    (r"(?:^|: )(?P<name>[^:]+): (?:command )?not found\r?$", _command),
    (rf"(?:^|: )(?P<name>[^:]*/[^:]*): (?:{_GONE})\r?$", _command),
    (r"(?:^|: )(?P<name>[^:]+): (?:cannot execute|can't execute|exec format error)", _command),
)
_LIMITS: tuple[tuple[str, Explain], ...] = (
    (r"read-only file ?system|EROFS", _read_only),
    (r"operation not permitted|permission denied|must be (?:root|superuser)", _permitted),
    (r"can't fork|resource temporarily unavailable|can't start new thread|pthread_create", _processes),
    (r"no space left on device|ENOSPC", _no_space),
)
