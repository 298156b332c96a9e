"""Commands of maintainer scripts that make or change files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tare.distroless.changes import (
    Change,
    CopyFile,
    MakeDirectory,
    MakeLink,
    Remove,
    SetMode,
    SetOwner,
    WriteFile,
)
from tare.distroless.command_words import (
    TEMPORARY,
    Matters,
    displayed,
    is_path,
    mode_of,
    options_of,
    owner_of,
    paths_of,
)
from tare.distroless.shell_syntax import UNKNOWN


def _mkdir(words: list[str]) -> list[Change]:
    options, paths = options_of(words, "m", ["mode"])
    mode = mode_of(options.get("m", options.get("mode")))
    return [MakeDirectory(path=path, mode=mode) for path in paths_of(paths, "the directory")]


def _chown(words: list[str]) -> list[Change]:
    options, rest = options_of(words, "", ["from"])
    if not rest or "reference" in options:
        raise Matters("the owner of files")
    user, group = owner_of(rest[0])
    recursive = "R" in options or "recursive" in options
    return [
        SetOwner(path=path, user=user, group=group, recursive=recursive) for path in paths_of(rest[1:], "the owner of")
    ]


def _chgrp(words: list[str]) -> list[Change]:
    options, rest = options_of(words)
    if not rest or UNKNOWN in rest[0]:
        raise Matters("the group of files")
    recursive = "R" in options or "recursive" in options
    return [SetOwner(path=path, group=rest[0], recursive=recursive) for path in paths_of(rest[1:], "the group of")]


def _chmod(words: list[str]) -> list[Change]:
    operands = [word for word in words if not (word.startswith("-") and set(word[1:]) <= set("Rcfv-"))]
    recursive = any("R" in word for word in words if word.startswith("-") and word not in operands)
    operands = [word for word in operands if word not in ("--recursive", "--quiet", "--silent", "--")]
    if not operands or UNKNOWN in operands[0]:
        raise Matters("the mode of files")
    return [SetMode(path=path, mode=operands[0], recursive=recursive) for path in paths_of(operands[1:], "the mode of")]


def _ln(words: list[str]) -> list[Change]:
    options, rest = options_of(words, "St")
    is_soft, force = "s" in options or "symbolic" in options, "f" in options or "force" in options
    if not is_soft or len(rest) != 2 or UNKNOWN in rest[0] or "r" in options:
        raise Matters(f"the link {displayed(rest[-1] if rest else '')}")
    (path,) = paths_of(rest[1:], "the link")
    if path.endswith("/"):
        path = f"{path}{rest[0].rpartition('/')[2]}"
    return [MakeLink(path=path, target=rest[0], force=force)]


def _rm(words: list[str]) -> list[Change]:
    options, rest = options_of(words)
    recursive = bool({"r", "R", "recursive"} & options.keys())
    # what cannot be named was made by the script itself or by an earlier version
    return [Remove(path=path, recursive=recursive) for path in rest if is_path(path) and path.strip("/")]


def _rmdir(words: list[str]) -> list[Change]:
    return [Remove(path=path) for path in options_of(words)[1] if is_path(path) and path.strip("/")]


def _touch(words: list[str]) -> list[Change]:
    _, paths = options_of(words, "rdt")
    return [WriteFile(path=path, only_new=True) for path in paths_of(paths, "the file")]


def _cp(words: list[str]) -> list[Change]:
    return _copied(words, move=False)


def _mv(words: list[str]) -> list[Change]:
    return _copied(words, move=True)


def _copied(words: list[str], *, move: bool) -> list[Change]:
    options, rest = options_of(words, "tS")
    if len(rest) != 2 or {"r", "R", "a", "t", "recursive"} & options.keys():
        raise Matters(f"what is {'moved' if move else 'copied'} to {displayed(rest[-1] if rest else '')}")
    source, target = paths_of(rest, "the file")
    return [CopyFile(source=source, target=target, only_new="n" in options, move=move)]


def _ucf(words: list[str]) -> list[Change]:
    options, rest = options_of(words, "Ss", ["src-dir", "sum-file", "state-dir"])
    if {"p", "purge"} & options.keys():
        return []
    if len(rest) != 2 or not all(map(is_path, rest)) or rest[1].startswith(TEMPORARY):
        raise Matters(f"the configuration file {displayed(rest[-1] if rest else '')}")
    return [CopyFile(source=rest[0], target=rest[1], only_new=True)]


def _install(words: list[str]) -> list[Change]:
    options, rest = options_of(words, "mogt", ["mode", "owner", "group"])
    mode = mode_of(options.get("m", options.get("mode")))
    user, group = options.get("o", options.get("owner")), options.get("g", options.get("group"))
    if any(UNKNOWN in word for word in (user or "", group or "")):
        raise Matters("the owner of files")
    if "d" in options or "directory" in options:
        return [
            MakeDirectory(path=path, mode=0o755 if mode is None else mode, user=user, group=group)
            for path in paths_of(rest, "the directory")
        ]
    if len(rest) != 2 or "t" in options or "D" in options:
        raise Matters(f"what is installed as {displayed(rest[-1] if rest else '')}")
    if rest[0] == "/dev/null":
        (path,) = paths_of(rest[1:], "the file")
        return [WriteFile(path=path, mode=0o755 if mode is None else mode, user=user, group=group)]
    source, target = paths_of(rest, "the file")
    return [CopyFile(source=source, target=target, mode=0o755 if mode is None else mode, user=user, group=group)]


def _find(words: list[str]) -> list[Change]:
    if {"-exec", "-execdir", "-ok", "-fprint", "-fprintf", "-fls"} & set(words):
        raise Matters(f"what is done to files below {displayed(words[0] if words else '')}")
    return []


FILE_COMMANDS: Mapping[str, Callable[[list[str]], list[Change]]] = {
    "mkdir": _mkdir,
    "chown": _chown,
    "chgrp": _chgrp,
    "chmod": _chmod,
    "ln": _ln,
    "rm": _rm,
    "unlink": _rm,
    "rmdir": _rmdir,
    "touch": _touch,
    "cp": _cp,
    "mv": _mv,
    "ucf": _ucf,
    "install": _install,
    "find": _find,
}
"""Each command's changes, by its name; they raise Matters."""
