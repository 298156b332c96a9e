"""Maintainer scripts (Debian Policy 6): what they would have changed on a new system, and what of that is lost.

No script runs. Each is followed (``shell.py``) as dpkg would call it when the package is installed for the first time;
the commands on the way are done as changes of the tree, or do not matter in a container, or are losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tare.archive.filetree import FileTree
from tare.distroless.accounts import Accounts
from tare.distroless.changes import AddGroup, AddUser, Change
from tare.distroless.command_words import Matters
from tare.distroless.commands import ONLY_WITH, changes_of, shown
from tare.distroless.control import parse_paragraphs
from tare.distroless.deb import Deb
from tare.distroless.recipes import EXCLUDED
from tare.distroless.shell import Step, follow
from tare.distroless.shell_syntax import UNKNOWN, ScriptUnclear
from tare.errors import DataCorrupt

_CALLS = (("preinst", ("install",)), ("postinst", ("configure", "")))
_SHELLS = ("sh", "bash", "dash")

COVERED: Mapping[tuple[str, str], str] = {
    ("base-files", "*"): "the tree is made with its directories",
    ("base-passwd", "*"): "users and groups are made by the assembler",
    ("ca-certificates", "*"): "the bundle is written by the assembler",
    ("cron-daemon-common", "chmod"): "a spool for tables of people, of whom there are none",
    ("cron-daemon-common", "chown"): "a spool for tables of people, of whom there are none",
    ("dash", "*"): "its link /bin/sh is in the package",
    ("docutils-common", "update-xmlcatalog"): "the program has its document types itself",
    ("erlang-base", "filerc"): "a container runs no init system",
    ("hicolor-icon-theme", "*"): "a cache of icons: programs do without",
    ("libc6", "*"): "checks of a running system, and the loader's cache, which the assembler writes",
    ("libc-bin", "*"): "the loader's cache, which the assembler writes",
    ("libgdk-pixbuf-2.0-0", "find"): "names the loaders, for a command that is judged itself",
    ("libgdk-pixbuf-2.0-0", "sort"): "names the loaders, for a command that is judged itself",
    ("libpaper1", "run-parts"): "the paper size is handed to other packages: the default is theirs",
    ("locales", "*"): "locales that somebody chooses, by default none; C.UTF-8 is there",
    ("mysql-common", "cat"): "settings of earlier versions",
    ("netbase", "*"): "/etc/networks, names of networks that nobody asks for",
    ("postgresql-15", "configure_version"): "makes a cluster: initdb does where the data is to lie",
    ("postgresql-client-15", "configure_client_version"): "manual pages",
    ("postgresql-common", "pg_checksystem"): "advice",
    ("postgresql-common", "pg_updateaptconfig"): "there is no package manager",
    ("postgresql-common", "pg_updatedicts"): "dictionaries of packages that are not there",
    ("postgresql-common", "su"): "looks at a directory's owner",
    ("postgresql-common", "ucf"): "settings of pg_createcluster",
    ("python3", "*"): "bytecode: the interpreter makes it",
    ("python3.11-minimal", "*"): "places for what an administrator installs",
    ("r-base-core", "sed"): "the paper size: R's default holds",
    ("sgml-base", "*"): "a register of document types, without entries",
    ("ssl-cert", "make-ssl-cert"): "a private key in an image would be everybody's",
    ("tzdata", "*"): "the time zone is set by the assembler",
    ("xml-core", "*"): "a register of document types, with none but its own",
}
"""Scripts (``*``), or single commands of them, that are covered otherwise: package and command with the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A command of a maintainer script that matters and is not done: where it stands, and what is lost without it.

    ``only_with`` is a pattern of paths (fnmatch(3), from the root, without leading slash): without such a file in the
    image nothing is lost.
    """

    package: str
    script: str
    line: int
    command: str
    what: str
    only_with: str = ""

    def __str__(self) -> str:
        return f"{self.script} line {self.line}: {self.command}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A change that a script makes, and the loss that it is when it cannot be done."""

    change: Change
    loss: Loss
    is_certain: bool


@dataclass(slots=True)
class Script:
    """What the scripts of one package do."""

    package: str
    changes: list[Planned] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)


def lost_effects(deb: Deb, image: FileTree | None = None) -> list[Loss]:
    """What an image with this package lacks because its maintainer scripts do not run; empty when nothing matters.

    ``image`` is the tree of all packages, if there is one: it decides questions for other packages' files.
    """
    return read_scripts(deb, image).losses


def read_scripts(deb: Deb, image: FileTree | None = None) -> Script:
    """Follow the scripts that dpkg would call for a new installation of ``deb``; ``image`` as above."""
    script = Script(deb.name)
    if (deb.name, "*") in COVERED:
        return script
    facts = _NewSystem(deb, image)
    variables = {
        "DPKG_MAINTSCRIPT_PACKAGE": deb.name,
        "DPKG_MAINTSCRIPT_ARCH": deb.fields["Architecture"],
        "DPKG_MAINTSCRIPT_NAME": "",
    }
    for name, arguments in _CALLS:
        if name not in deb.control:
            continue
        text = deb.control[name].decode("utf-8", "replace")
        try:
            _check_shell(text)
            steps = follow(text, arguments, facts, {**variables, "DPKG_MAINTSCRIPT_NAME": name})
        except ScriptUnclear as error:
            loss = Loss(
                package=deb.name, script=name, line=error.line, command=_first(text, error.line), what=str(error)
            )
            script.losses.append(loss)
            continue
        for step in steps:
            _judge(script, name, step)
    return script


def _judge(script: Script, name: str, step: Step) -> None:
    program = step.words[0].rpartition("/")[2]
    if (script.package, program) in COVERED:
        return
    only_with, lost = ONLY_WITH.get(program, ("", "its effect"))
    loss = Loss(
        package=script.package, script=name, line=step.line, command=shown(step), what=lost, only_with=only_with
    )
    try:
        changes = changes_of(step)
    except Matters as error:
        loss = loss if only_with else replace(loss, what=str(error))
        if loss not in script.losses:
            script.losses.append(loss)
        return
    script.changes += [Planned(change=change, loss=loss, is_certain=step.is_certain) for change in changes]


def _check_shell(text: str) -> None:
    first = text.partition("\n")[0]
    if not first.startswith("#!"):
        raise ScriptUnclear("it is a program, which cannot be read")
    words = first[2:].split()
    interpreter = words[-1 if words[:1] == ["/usr/bin/env"] else 0].rpartition("/")[2] if words else ""
    if interpreter not in _SHELLS:
        raise ScriptUnclear(f"it is written for {interpreter or 'an unknown interpreter'}")


def _first(text: str, line: int) -> str:
    lines = text.splitlines()
    return lines[line - 1].strip()[:100] if 0 < line <= len(lines) and "\0" not in lines[line - 1] else ""


class _NewSystem:
    """The facts of a system on which the package is installed for the first time, without init system."""

    def __init__(self, deb: Deb, image: FileTree | None) -> None:
        self._tree = deb.tree
        self._image = image
        self._architecture = deb.fields["Architecture"]
        self._accounts = Accounts()
        self._users: set[str] = set()
        self._groups: set[str] = set()
        self._answers = _defaults(deb.control.get("templates", b""))
        self._temporary = 0

    def status(self, words: Sequence[str]) -> bool | None:
        """See :class:`tare.distroless.shell.Facts`."""
        self._note(words)
        match [*words]:
            case ["getent", "group", name]:
                return None if UNKNOWN in name else name in self._groups or self._accounts.has_group(name)
            case ["getent", "passwd", name] | ["id", *_, name]:
                return None if UNKNOWN in name else name in self._users or self._accounts.has_user(name)
            case ["dpkg", "--compare-versions", "", relation, _]:
                # "an empty version is earlier than any", except for the -nl operators (dpkg(1))
                return relation in ("lt", "le", "ne", "gt-nl", "ge-nl", "<", "<<", "<=")
            case [("dpkg-statoverride" | "dpkg-divert"), *options] if {"--list", "--listpackage"} & set(options):
                return False
            case ["update-alternatives", *options] if {"--list", "--query", "--display"} & set(options):
                return False
            case [("db_get" | "db_set" | "db_go" | "db_stop" | "db_version"), *_]:
                return True
            case [
                ("mkdir" | "chown" | "chmod" | "adduser" | "addgroup" | "useradd" | "groupadd" | "install" | "set"),
                *_,
            ]:
                return True
            case [("echo" | "printf" | "touch" | "ln" | "rm" | "cd" | "mountpoint" | "cp"), *_]:
                return True
            case ["systemctl" | "ischroot", *_]:
                return False
            case _:
                return None

    def output(self, words: Sequence[str], given: str | None) -> str | None:
        """See :class:`tare.distroless.shell.Facts`."""
        match [*words]:
            case ["dpkg", "--print-architecture"]:
                return None if self._architecture == "all" else self._architecture
            case ["dpkg-architecture", *_]:
                return None
            case ["mktemp" | "tempfile", *_]:
                self._temporary += 1
                return f"/tmp/{self._temporary}"
            case ["echo", *rest]:
                return " ".join(rest)
            case ["cut", delimiter, number] if given is not None and delimiter.startswith("-d") and number[:2] == "-f":
                fields = given.split(delimiter[2:3] or "\t")
                return (
                    fields[int(number[2:]) - 1] if number[2:].isdigit() and 0 < int(number[2:]) <= len(fields) else None
                )
            case ["basename", path] if UNKNOWN not in path:
                return path.rstrip("/").rpartition("/")[2]
            case ["dirname", path] if UNKNOWN not in path:
                return path.rstrip("/").rpartition("/")[0] or ("/" if path.startswith("/") else ".")
            case ["dpkg-statoverride", "--list", *_]:
                return ""
            case ["expr", left, "-", right] if left.isdigit() and right.isdigit():
                return str(int(left) - int(right))
            case _:
                return None

    def exists(self, path: str) -> bool | None:
        """See :class:`tare.distroless.shell.Facts`."""
        if path == "/etc/staff-group-for-usr-local":  # systems older than Debian 7
            return False
        if path.startswith(("/run/systemd/", "/run/initctl", "/run/udev", "/proc/vz", "/dev/initctl")):
            return False
        if not path.startswith("/") or ".." in path.split("/"):
            return None
        if self._tree.get(path) is not None:
            return True
        if self._image is None or not path.startswith("/usr/share/") or path.split("/")[3] in EXCLUDED:
            return None
        return self._image.get(path) is not None  # other packages' own directories: only they put something there

    def assigned(self, words: Sequence[str]) -> dict[str, str]:
        """See :class:`tare.distroless.shell.Facts`."""
        if words[0].startswith("db_"):
            return {"RET": self._answers.get(words[1], UNKNOWN) if words[0] == "db_get" and len(words) > 1 else UNKNOWN}
        return {}

    def _note(self, words: Sequence[str]) -> None:
        """Remember users and groups, so that later questions for them are answered."""
        if words[0] not in ("adduser", "addgroup", "useradd", "groupadd"):
            return
        try:
            changes = changes_of(Step(line=0, words=tuple(words), text=""))
        except Matters:
            return
        self._users |= {change.name for change in changes if isinstance(change, AddUser)}
        self._groups |= {change.name for change in changes if isinstance(change, AddGroup)}
        self._groups |= {change.name for change in changes if isinstance(change, AddUser) and not change.group}


def _defaults(templates: bytes) -> dict[str, str]:
    """The answers to debconf's questions that nobody was asked (debconf-devel(7))."""
    try:
        paragraphs = parse_paragraphs(templates.decode("utf-8", "replace"))
    except DataCorrupt:
        return {}
    return {
        paragraph["Template"]: paragraph.get("Default", "false" if paragraph.get("Type") == "boolean" else "")
        for paragraph in paragraphs
        if "Template" in paragraph
    }
