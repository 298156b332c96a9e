"""Findings of single files: what programs are for, special bits, permissions, devices."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from tare.archive.entry import Kind
from tare.audit.closure import Closure
from tare.audit.content import Content, Examiner, Form
from tare.audit.findings import Finding, Severity, shown
from tare.audit.rules import RULES
from tare.audit.signatures import Role
from tare.audit.tree import Inode, Tree

_SPECIAL = stat.S_ISUID | stat.S_ISGID
_EVERYBODY = stat.S_IWOTH


def finding(rule: str, path: str, what: str, *, layer: int = -1, severity: Severity | None = None) -> Finding:
    """A finding of ``rule`` with the rule's own severity unless another is given."""
    chosen = RULES[rule].severity if severity is None else severity
    return Finding(rule=rule, severity=chosen, path=shown(path), what=shown(what), layer=layer)


def check_files(tree: Tree, examiner: Examiner, closure: Closure) -> Iterator[Finding]:
    """Look at every name of the image."""
    for path, inode in tree.walk():
        yield from _check_permissions(path, inode)
        if inode.kind is Kind.FILE:
            yield from _check_content(path, inode, examiner.examine(inode), closure)


def _check_permissions(path: str, inode: Inode) -> Iterator[Finding]:
    if inode.kind in (Kind.CHARACTER, Kind.BLOCK):
        device = f"{inode.kind.value} device {inode.device[0]}:{inode.device[1]}"
        yield finding("device-node", path, device, layer=inode.layer)
        return
    if inode.kind is Kind.FILE and inode.mode & _SPECIAL:
        bits = [name for bit, name in ((stat.S_ISUID, "user"), (stat.S_ISGID, "group")) if inode.mode & bit]
        owner = f"{inode.uid}:{inode.gid}"
        yield finding("setuid", path, f"set-{'- and set-'.join(bits)}-ID, owner {owner}", layer=inode.layer)
    if inode.capabilities:
        yield finding("file-capabilities", path, "attribute security.capability", layer=inode.layer)
    if inode.kind in (Kind.FILE, Kind.DIRECTORY) and inode.mode & _EVERYBODY:
        if inode.kind is Kind.DIRECTORY and inode.mode & stat.S_ISVTX:
            return
        yield finding("world-writable", path, f"{inode.kind.value}, mode {inode.mode:04o}", layer=inode.layer)


def _check_content(path: str, inode: Inode, content: Content, closure: Closure) -> Iterator[Finding]:
    what = f"{content.form.value}, " if content.form is not Form.PROGRAM else ""
    for role, name in content.roles:
        if role is Role.INTERPRETER and (closure.has(inode) or content.form is Form.LIBRARY):
            continue
        yield finding(role.value, path, f"{what}recognised as {name}", layer=inode.layer)
    if content.packed:
        yield finding("packed-program", path, f"packed with {content.packed}", layer=inode.layer)
    if content.hidden and not any(path == f"{home}/lib/modules" for home in closure.homes):
        yield finding("hidden-program", path, f"a program begins {content.hidden}", layer=inode.layer)


def check_closure(tree: Tree, examiner: Examiner, closure: Closure, *, has_command: bool) -> Iterator[Finding]:
    """What the proof asks beyond: no program outside the closure, and the closure known to its end."""
    if not has_command:
        yield finding("no-entrypoint", "Entrypoint", "neither ENTRYPOINT nor CMD")
    for missing in closure.missing:
        severity = Severity.LOW if missing.optional else None
        yield finding("missing-dependency", missing.name, f"needed by {missing.user}", severity=severity)
    for path, inode in tree.files():
        if closure.has(inode):
            continue
        content = examiner.examine(inode)
        if content.form is Form.LIBRARY or _is_talking_library(inode, content, examiner):
            yield finding("unused-library", path, "library", layer=inode.layer)
        elif content.form is Form.PROGRAM:
            roles = ", ".join(name for _, name in content.roles)
            what = f"program ({roles})" if roles else "program"
            what += f", damaged: {content.damaged}" if content.damaged else ""
            yield finding("outside-closure", path, what, layer=inode.layer)
        elif content.form is Form.SCRIPT and (inode.mode & 0o111):
            yield from _check_script(path, inode, content, tree, closure)


def _is_talking_library(inode: Inode, content: Content, examiner: Examiner) -> bool:
    """Whether it is a library that says its version when the loader starts it, as libcap's are.

    It has the name of a library and functions for others, nobody may execute it, and it is nothing that is known.
    """
    if content.elf is None or not content.elf.soname or content.roles or inode.mode & 0o111:
        return False
    return bool(examiner.exports(inode))


def _check_script(path: str, inode: Inode, content: Content, tree: Tree, closure: Closure) -> Iterator[Finding]:
    """A script does what its interpreter can do: without one nothing, with one of the closure nothing new."""
    words = content.interpreter
    found = tree.find_file(words[0])
    if found is None or closure.has(found[1]):
        return
    yield finding("outside-closure", path, f"script of {found[0]}, which is outside the closure", layer=inode.layer)
