"""Why a command could not be executed: from its name to the file, and from the file to what it needs."""

from __future__ import annotations

import os
import posixpath
import re
import stat
from dataclasses import replace

from tare.diagnosis.names import listed, nearest
from tare.diagnosis.program import check_content
from tare.diagnosis.system import system_of
from tare.diagnosis.tree import Look, Outcome
from tare.diagnosis.view import View
from tare.errors import Diagnosis

_BUILTINS = frozenset(
    {
        ".", ":", "alias", "bg", "break", "case", "cd", "continue", "eval", "exec", "exit", "export", "fg", "for",
        "getopts", "hash", "if", "jobs", "local", "read", "readonly", "return", "set", "shift", "source", "times",
        "trap", "type", "ulimit", "umask", "unalias", "unset", "until", "wait", "while",
    }
)  # fmt: skip
_SHELL_SIGNS = re.compile(r"[|&;<>`*]|\$[A-Za-z_({]|^[A-Za-z_]\w*=")
_SHELLS = ("sh", "bash", "ash", "dash")
_GOES_ON = ("not-executable", "noexec-mount", "directory-not-accessible")
_MAX_DEPTH = 5  # interpreters of interpreters: the kernel gives up after four


def diagnose_command(view: View, name: str) -> Diagnosis | None:
    """Why ``name`` (as in ``execvpe``) cannot be executed; None when nothing is found. Blocks: reads files."""
    if not name:
        return Diagnosis(
            code="command-empty", subject="", cause="the command's first word is empty", fix="name a program"
        )
    if "/" in name:
        return diagnose_file(view, view.absolute(name), name)
    first: Diagnosis | None = None
    for directory in view.path():
        place = posixpath.join(directory, name)
        look = view.tree.look(place)
        if look.outcome is Outcome.UNKNOWN:
            return None
        found = diagnose_file(view, place, name) if look.outcome is Outcome.FOUND or look.links else None
        if found is not None and found.code in ("file-not-found", "command-line-as-name", "is-directory"):
            continue  # as execvp(3) goes on
        if look.outcome is Outcome.FOUND and (found is None or found.code not in _GOES_ON):
            return found
        first = first or found
    return first or _not_in_path(view, name)


def diagnose_file(view: View, path: str, name: str = "", depth: int = 0) -> Diagnosis | None:
    """Why the file ``path`` cannot be executed; ``name`` is how it was called."""
    look = view.tree.look(path)
    place = posixpath.normpath(path)
    match look.outcome:
        case Outcome.UNKNOWN:
            return None
        case Outcome.LOOP:
            chain = " → ".join(dict.fromkeys(link for link, _ in look.links[:4]))
            return Diagnosis(
                code="link-loop", subject=place, cause=f"{place} is a symbolic link that goes round ({chain})",
                fix="let the link point to the program",
            )  # fmt: skip
        case Outcome.MISSING | Outcome.NOT_DIRECTORY:
            return _missing(view, place, look, name or path)
        case Outcome.FOUND:
            problem = _usable(view, place, look)
            if problem is not None:
                return problem
            if depth >= _MAX_DEPTH:
                return Diagnosis(
                    code="interpreter-loop", subject=place, cause=f"{place} needs interpreters without an end",
                    fix="write a program, not a script, behind #!",
                )  # fmt: skip
            return check_content(view, place, look, lambda file: diagnose_file(view, file, depth=depth + 1))


def _usable(view: View, path: str, look: Look) -> Diagnosis | None:
    """Kind and permissions of what was found."""
    info, identity = look.info, view.tree.identity
    if info is None:
        return None
    if look.is_directory:
        inside = sorted(name for name in view.tree.names(path) if view.tree.look(posixpath.join(path, name)).is_file)
        example = next((name for name in inside if name == posixpath.basename(path)), inside[0] if inside else "")
        fix = f"name a program in it, such as {posixpath.join(path, example)}" if example else "name a program"
        return Diagnosis(code="is-directory", subject=path, cause=f"{path} is a directory", fix=fix)
    if not look.is_file:
        return Diagnosis(
            code="not-a-program", subject=path, cause=f"{path} is no regular file", fix="name a program or a script"
        )
    if look.blocked_at:
        return Diagnosis(
            code="directory-not-accessible", subject=look.blocked_at,
            cause=f"user {identity.uid} may not enter the directory {look.blocked_at}, in which {path} is",
            fix=f"RUN chmod a+x {look.blocked_at}, or run as another user",
        )  # fmt: skip
    if not identity.may(info, 1):
        return _no_permission(path, look, info)
    if look.noexec:
        where = f" ({look.mount.label})" if look.mount else ""
        return Diagnosis(
            code="noexec-mount", subject=path,
            cause=f"{path} is on a file system mounted noexec{where}: the kernel executes nothing there",
            fix="put the program into the image, or mount with exec",
        )  # fmt: skip
    return None


def _no_permission(path: str, look: Look, info: os.stat_result) -> Diagnosis:
    mode = stat.S_IMODE(info.st_mode)
    if mode & 0o111:
        cause = f"{path} may be executed only by its owner, user {info.st_uid}, or its group (mode {mode:04o})"
        fix = f"RUN chmod a+rx {path}, COPY --chmod=755, or run as user {info.st_uid}"
    else:
        cause = f"{path} has no execute bit (mode {mode:04o})"
        fix = f"RUN chmod +x {path}, or COPY --chmod=755"
        if look.mount and look.mount.source is not None:
            fix = f"chmod +x the file on the host ({look.mount.label})"
    return Diagnosis(code="not-executable", subject=path, cause=cause, fix=fix)


def _missing(view: View, path: str, look: Look, name: str) -> Diagnosis:
    dangling = [pair for pair in look.links if view.tree.look(pair[0]).outcome is not Outcome.FOUND]
    if dangling:
        link, target = dangling[-1]
        via = "" if link == path else f"{path} leads to "
        return Diagnosis(
            code="dangling-link", subject=link,
            cause=f"{via}{link}, a symbolic link to {target}, and {look.path} does not exist",
            fix=f"add {look.path} to the image, or let the link point to what is there",
        )  # fmt: skip
    if (hidden := _hidden(view, path)) is not None:
        return hidden
    if name.endswith("\r"):
        return Diagnosis(
            code="crlf", subject=path.rstrip("\r"),
            cause=f"the name {name!r} ends with a carriage return: it was written with Windows' line ends",
            fix="save the file that names it with Unix line ends",
        )  # fmt: skip
    if (words := _command_line(view, name)) is not None:
        return words
    if look.outcome is Outcome.NOT_DIRECTORY:
        cause = f"{path} does not exist: {look.path} is a file, not a directory"
        return Diagnosis(code="file-not-found", subject=path, cause=cause, fix="correct the path")
    return _not_there(view, path, look)


def _not_there(view: View, path: str, look: Look) -> Diagnosis:
    directory, base = posixpath.split(path)
    cause = f"{path} does not exist"
    if posixpath.normpath(look.path) != path:
        cause += f": there is no {look.path}"
    near = [posixpath.join(directory, item) for item in nearest(base, view.tree.names(directory))]
    found = view.somewhere(base)
    places = list(dict.fromkeys([*([found] if found else []), *near]))[:3]
    fix = f"did you mean {listed(places)}?" if places else _no_shell(base) or "add it to the image, or correct the path"
    return Diagnosis(code="file-not-found", subject=path, cause=cause, fix=fix)


def _no_shell(name: str) -> str:
    """What to do in an image without a shell; empty when no shell was asked for."""
    if name not in _SHELLS:
        return ""
    return (
        'the image has no shell: write the command as an array (["program", "argument"]), or use a base image with one'
    )


def _hidden(view: View, path: str) -> Diagnosis | None:
    """A file that the image has, under something mounted over it."""
    for mount in view.tree.mounts:
        inside = path == mount.destination or path.startswith(mount.destination.rstrip("/") + "/")
        if inside and not mount.opaque and view.tree.without(mount).look(path).outcome is Outcome.FOUND:
            return Diagnosis(
                code="hidden-by-mount", subject=path,
                cause=f"the image has {path}, but {mount.label} is mounted over {mount.destination} and hides it",
                fix="mount it at another place, or put the file into what is mounted",
            )  # fmt: skip
    return None


def _command_line(view: View, name: str) -> Diagnosis | None:
    """A whole command line where a program's name belongs."""
    words = name.split()
    if len(words) < 2:
        return None
    if _SHELL_SIGNS.search(name):
        return Diagnosis(
            code="command-line-as-name", subject=name,
            cause=f"{name!r} is a line for a shell, taken as a program's name",
            fix=f'write ["sh", "-c", {_quoted(name)}]',
        )  # fmt: skip
    known = view.which(words[0]) if "/" not in words[0] else view.tree.look(view.absolute(words[0])).is_file
    if not known:
        return None
    array = ", ".join(_quoted(word) for word in words)
    return Diagnosis(
        code="command-line-as-name", subject=name,
        cause=f"{name!r} is a program with its arguments in one string, taken as a program's name",
        fix=f"write [{array}], each argument a string of its own",
    )  # fmt: skip


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _not_in_path(view: View, name: str) -> Diagnosis | None:
    if name.endswith("\r"):
        return _missing(view, name, Look(outcome=Outcome.MISSING, path=name), name)
    if (words := _command_line(view, name)) is not None:
        return words
    searched = ":".join(view.path())
    if name in _BUILTINS:
        return Diagnosis(
            code="shell-builtin", subject=name, cause=f"{name} is a word of the shell, not a program",
            fix=f'let a shell run it: sh -c "{name} …"',
        )  # fmt: skip
    if _SHELL_SIGNS.search(name):
        return Diagnosis(
            code="command-line-as-name", subject=name,
            cause=f"{name!r} is for a shell: without one, nothing replaces variables or sets them",
            fix=f'write ["sh", "-c", {_quoted(name)}]',
        )  # fmt: skip
    for mount in view.tree.mounts:
        if not mount.opaque and (behind := replace(view, tree=view.tree.without(mount)).which(name)):
            return _hidden(view, behind)
    outside = view.somewhere(name)
    if outside:
        return Diagnosis(
            code="command-not-found", subject=name, cause=f"no {name} in PATH ({searched}), but there is {outside}",
            fix=f"call it {outside}, or add {posixpath.dirname(outside)} to PATH",
        )  # fmt: skip
    near = nearest(name, view.programs())
    system = system_of(view.tree)
    steps = [f"did you mean {listed(near)}?"] if near else []
    if package := system.program_package(name):
        steps.append(package)
    return Diagnosis(
        code="command-not-found", subject=name, cause=f"no {name} in PATH ({searched})",
        fix=" ".join(steps) or _no_shell(name) or "add it to the image, or correct the name",
    )  # fmt: skip
