"""Users and files that packages declare for systemd's tools: sysusers.d(5) and tmpfiles.d(5)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from tare.archive.filetree import FileTree
from tare.distroless.changes import (
    AddGroup,
    AddMember,
    AddUser,
    Change,
    CopyFile,
    MakeDirectory,
    MakeLink,
    SetMode,
    SetOwner,
    WriteFile,
)

_TEXT_LIMIT = 1 << 20  # bytes of one declaring file
_SPECIFIERS = {
    "t": "/run", "S": "/var/lib", "C": "/var/cache", "L": "/var/log", "T": "/tmp", "V": "/var/tmp", "h": "/root",
    "%": "%",
}  # fmt: skip
_SPECIFIER = re.compile(r"%(.)")
_OUTSIDE = ("/dev/", "/proc/", "/sys/", "/run/log/", "/run/systemd/", "/run/udev/", "/run/user")
"""Places that a container's engine or init system fills."""


def declared_changes(tree: FileTree) -> list[Change]:
    """What the files of a package's ``tree`` declare: users and groups first, then directories, links, files."""
    users = [change for text in _texts(tree, "usr/lib/sysusers.d/") for change in sysusers_changes(text)]
    return users + [change for text in _texts(tree, "usr/lib/tmpfiles.d/") for change in tmpfiles_changes(text)]


def sysusers_changes(text: str) -> list[Change]:
    """Users (``u``), groups (``g``) and members (``m``); ranges and lines that are not understood do nothing."""
    changes: list[Change] = []
    for words in _lines(text):
        kind, name, number, comment, home, *_ = [*words, *[""] * 5]
        number = "" if number == "-" else number
        if kind.rstrip("!") == "u":
            uid, _, group = number.partition(":")
            changes.append(
                AddUser(
                    name=name,
                    uid=int(uid) if uid.isdigit() else None,
                    group=group,
                    home="/" if home in ("", "-") else home,
                    comment="" if comment == "-" else comment,
                )
            )
        elif kind == "g":
            changes.append(AddGroup(name=name, gid=int(number) if number.isdigit() else None))
        elif kind == "m" and number:
            changes.append(AddMember(user=name, group=number))
    return changes


def tmpfiles_changes(text: str) -> list[Change]:
    """Directories, links, files, owners and modes; what cleans up, and what is not for a container, does nothing."""
    changes: list[Change] = []
    for words in _lines(text):
        kind, path, mode, user, group, _, *rest = [*words, *["-"] * 6]
        path = _expanded(path)
        if not path.startswith("/") or path.startswith(_OUTSIDE) or "%" in path or ".." in path.split("/"):
            continue
        argument = _expanded(" ".join(word for word in rest if word != "-"))
        user, group = user.lstrip(":"), group.lstrip(":")
        owners = (None if user in ("-", "") else user, None if group in ("-", "") else group)
        changes += _tmpfile(kind, path, mode.lstrip("~:"), owners, argument)
    return changes


def _tmpfile(kind: str, path: str, mode: str, owners: tuple[str | None, str | None], argument: str) -> Iterator[Change]:
    number = int(mode, 8) if re.fullmatch("[0-7]{3,4}", mode) else None
    user, group = owners
    match kind[:1]:
        case "d" | "D" | "v" | "q" | "Q":
            yield MakeDirectory(path=path, mode=0o755 if number is None else number, user=user, group=group)
        case "L":
            yield MakeLink(path=path, target=argument or f"/usr/share/factory{path}", force="+" in kind)
        case "f" | "F":
            content = argument.encode().decode("unicode_escape", "replace").encode()
            yield WriteFile(path=path, content=content, only_new="+" not in kind, mode=number, user=user, group=group)
        case "C":
            source = argument or f"/usr/share/factory{path}"
            yield CopyFile(source=source, target=path, only_new=True, mode=number, user=user, group=group)
        case "e" | "m" | "z" | "Z" if not any(mark in path for mark in "*?["):
            recursive = kind[0] == "Z"
            if user is not None or group is not None:
                yield SetOwner(path=path, user=user, group=group, recursive=recursive)
            if number is not None:
                yield SetMode(path=path, mode=mode, recursive=recursive)
        case _:
            pass  # what cleans up, and what is no file


def _texts(tree: FileTree, directory: str) -> list[str]:
    paths = [node.entry.path for node in tree if node.entry.path.startswith(directory)]
    return [tree.read(path, limit=_TEXT_LIMIT).decode("utf-8", "replace") for path in paths if path.endswith(".conf")]


def _lines(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            words = shlex.split(line)
        except ValueError:
            continue
        if len(words) > 1:
            yield words


def _expanded(text: str) -> str:
    return _SPECIFIER.sub(lambda match: _SPECIFIERS.get(match[1], match[0]), text)
