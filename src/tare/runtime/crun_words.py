"""crun's error messages in runc's words, which Docker's clients know: they look for them to tell 126 from 127.

crun 1.8 to 1.2x, ``src/libcrun/container.c`` and ``linux.c``; messages that are not known here stay as they are.
"""

from __future__ import annotations

import re

_MISSING = re.compile(r"executable file `(.*)` not found(?: in \$PATH)?: No such file or directory", re.DOTALL)
_OPEN = re.compile(r"open executable: (.*)")
_MOUNT = re.compile(r"mount `(.*)` to `/?(.*)`: (.*)", re.DOTALL)
_STAT = re.compile(r"error stat'ing file `(.*)`: (.*)", re.DOTALL)
_SYSCTL = re.compile(r"the sysctl `(.*)` requires a new (network|IPC) namespace")
_WRITE = re.compile(r"writing file `(.*)`: (.*)", re.DOTALL)
_SETTING = re.compile(r"(open|write to) (/proc/sys/.*): (.*)")
_CHDIR = re.compile(r"chdir `(.*)`: (.*)", re.DOTALL)
_REFUSED = ("Permission denied", "Operation not permitted")


def docker_words(message: str, *, command: str, verb: str) -> str:
    """``message`` of crun as runc would say it; ``command`` is what was to be executed, ``verb`` what failed.

    ``verb`` is such as ``crun create failed``; runc's own messages come back unchanged.
    """
    if match := _SYSCTL.fullmatch(message):
        place = "not allowed in host network namespace"
        if match[2] == "IPC":
            place = "is not allowed in the hosts ipc namespace"
        return f'{verb}: sysctl "{match[1]}" {place}'
    cause = _cause(message, command)
    return message if cause is None else f"{verb}: unable to start container process: {cause}"


def _cause(message: str, command: str) -> str | None:
    if match := _MISSING.fullmatch(message):
        return _not_found(match[1])
    if match := _OPEN.fullmatch(message):
        if "/" not in command:  # runc goes on looking in $PATH
            return _not_found(command)
        reason = match[1]
        if reason in _REFUSED:
            return f'exec: "{command}": permission denied'
        return f'exec: "{command}": stat {command}: {_lower(reason)}'
    if match := _MOUNT.fullmatch(message):
        source, target, reason = match.groups()
        return (
            f'error during container init: error mounting "{source}" to rootfs at "/{target}": '
            f"mount {source}:/{target}: {_lower(reason)}"
        )
    if match := _STAT.fullmatch(message):
        return f'error during container init: error mounting "{match[1]}": stat {match[1]}: {_lower(match[2])}'
    if match := _WRITE.fullmatch(message):
        return f"error during container init: error setting cgroup config: write {match[1]}: {_lower(match[2])}"
    if match := _SETTING.fullmatch(message):
        return f"error during container init: {match[1].removesuffix(' to')} {match[2]}: {_lower(match[3])}"
    if match := _CHDIR.fullmatch(message):
        return f'chdir to cwd ("{match[1]}") set in config.json failed: {_lower(match[2])}'
    if message.startswith("sethostname: "):
        return f"error during container init: sethostname: {_lower(message.removeprefix('sethostname: '))}"
    return None


def _not_found(command: str) -> str:
    if "/" in command:
        return f'exec: "{command}": stat {command}: no such file or directory'
    return f'exec: "{command}": executable file not found in $PATH'


def _lower(reason: str) -> str:
    return reason[:1].lower() + reason[1:]
