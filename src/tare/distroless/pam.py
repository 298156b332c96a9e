"""``/etc/pam.d/common-*``, put together of packages' profiles as pam-auth-update(8) does on a new system."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from tare.archive.filetree import FileTree
from tare.errors import InvalidArgument

PROFILES = "usr/share/pam-configs/"
TEMPLATES = "usr/share/pam/common-"
_TYPES = ("auth", "account", "password", "session", "session-noninteractive")
_FIELD = re.compile(r"(\S+):(?:\s+(.*))?")
_MODULE = re.compile(r"((?:\[[^]]+\]|\w+)\s+\S+)\s*(.*)")
_BLOCKS = {
    '# here are the per-package modules (the "Primary" block)': "Primary",
    '# and here are more per-package modules (the "Additional" block)': "Additional",
}
_ENDS = ("# here's the fallback if no module succeeds", "# end of pam-auth-update config")
_TEXT_LIMIT = 1 << 16  # bytes of a profile or template


def write_pam_configuration(tree: FileTree) -> None:
    """Write the five files of the profiles that are in ``tree`` and on by default; raises NotFound, InvalidArgument."""
    paths = [node.entry.path for node in tree if node.entry.path.startswith(PROFILES)]
    named = {path.removeprefix(PROFILES): _profile(_text(tree, path)) for path in paths}
    chosen = [name for name in named if named[name].get("Default") == "yes"]
    # by priority, then by name backwards, as the program has it
    ordered = sorted(sorted(chosen, reverse=True), key=lambda name: -_priority(name, named[name]))
    for kind in _TYPES:
        text = _filled(_text(tree, f"{TEMPLATES}{kind}"), kind, [named[name] for name in ordered])
        tree.add_file(f"etc/pam.d/common-{kind}", text.encode())


def _text(tree: FileTree, path: str) -> str:
    return tree.read(path, limit=_TEXT_LIMIT).decode("utf-8", "replace")


def _priority(name: str, profile: Mapping[str, str]) -> int:
    try:
        return int(profile.get("Priority", "0"))
    except ValueError as error:
        raise InvalidArgument(f"the PAM profile {name} has no number as its priority") from error


def _profile(text: str) -> dict[str, str]:
    """Fields by name, those of several lines joined; ``-Final`` is an older spelling of the plain field."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        match = _FIELD.fullmatch(line)
        if match:
            name = match[1].removesuffix("-Final")
            fields[name] = (match[2] or "").rstrip()
        elif line.strip():
            fields[name] = f"{fields.get(name, '')}\n{line.strip()}".lstrip()
    if "Session-Interactive-Only" not in fields:
        for suffix in ("", "-Type", "-Initial"):
            if f"Session{suffix}" in fields:
                fields[f"Session-noninteractive{suffix}"] = fields[f"Session{suffix}"]
    return fields


def _filled(template: str, kind: str, profiles: Sequence[Mapping[str, str]]) -> str:
    out: list[str] = []
    copying = True
    for line in template.splitlines():
        copying = copying or line.startswith(_ENDS)
        if copying:
            out.append(line)
        if line in _BLOCKS:
            out += _block(kind, _BLOCKS[line], profiles)
            copying = False
    return "\n".join(out) + "\n"


def _block(kind: str, place: str, profiles: Sequence[Mapping[str, str]]) -> list[str]:
    """The modules of one block; ``end`` in them is the number of lines to jump over."""
    field, name = kind.capitalize(), kind.removesuffix("-noninteractive")
    modules: list[str] = []
    wanted = [profile for profile in profiles if profile.get(f"{field}-Type") == place]
    for index, profile in enumerate(wanted):
        first = profile.get(f"{field}-Initial", "") if index == 0 else ""
        modules += (first or profile.get(field, "")).splitlines()
    if not modules and place == "Primary":
        return [f"{name}\t[default=1]\t\t\tpam_permit.so"]
    left = len(modules) - (place == "Additional")
    lines = []
    for module in modules:
        match = _MODULE.fullmatch(module)
        if match is None:
            raise InvalidArgument(f"the PAM module {module[:80]!r} is not understood")
        lines.append(f"{name}\t{match[1].replace('end', str(left))} {' '.join(match[2].split())}")
        left -= 1
    return lines
