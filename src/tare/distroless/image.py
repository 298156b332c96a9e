"""The tree of a distroless image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from tare.archive.entry import Entry, Kind
from tare.archive.filetree import FileTree
from tare.distroless import debian
from tare.distroless.deb import Deb
from tare.distroless.dpkg import conffiles_field
from tare.distroless.effects import apply_effects, check_losses, divert
from tare.distroless.filters import is_unneeded
from tare.distroless.recipes import Recipe
from tare.distroless.services import apply_service
from tare.distroless.slices import cut, find_slices
from tare.distroless.users import add_users
from tare.errors import Conflict, DataCorrupt, InvalidArgument

STATUS_DIRECTORY = "var/lib/dpkg/status.d"
_SPECIAL_BITS = 0o6000  # set-user-ID and set-group-ID
_APPLETS = re.compile(rb"\0(\[\0\[\[\0(?:[a-z0-9_.+-]+\0)+)\0")
_BUSYBOX = "usr/bin/busybox"


def distroless_tree(debs: Sequence[Deb], recipe: Recipe, architecture: str, newest: int) -> FileTree:
    """Put the packages of ``recipe`` together. Blocking.

    Nothing of them has run: what scripts would have done and a runtime needs is added declaratively, what only scripts,
    people or an init system use is left out, and no file keeps a set-user-ID bit. Raises Conflict, DataCorrupt,
    NotFound for a slice that takes nothing, Unsupported when a script matters.
    """
    parts = {name: find_slices(name, wanted, recipe.own_slices) for name, wanted in sorted(recipe.only_slices.items())}
    kept, working, taken = set[str](), list[Deb](), list[Deb]()
    for deb in divert(debs):
        slices = parts.get(deb.name, ())
        part, paths = cut(deb, slices) if slices else (deb, frozenset[str]())
        taken.append(part)
        kept |= paths
        if not slices or any(one.works or one.needs_dependencies for one in slices):
            working.append(part)
    tree = debian.merged_usr(architecture)
    _merge(tree, taken)
    kept = {tree.resolve_parent(path) for path in kept}
    if recipe.variant.debug:
        _add_busybox(tree)
    if recipe.has_tools:
        tree.add_symlink("bin/sh", "/busybox/sh")
    others = [node for node in tree if node.entry.path not in kept]
    tree.discard([o.entry.path for o in others if is_unneeded(o.entry) or recipe.leaves_out(o.entry.path, o.owner)])
    check_losses(apply_effects(tree, working, architecture, newest), recipe.accepted_scripts)
    add_users(tree, recipe.users)
    if recipe.service is not None:
        apply_service(tree, recipe.service, nonroot=recipe.variant.nonroot, debug=recipe.variant.debug)
    _write_status(tree, debs)
    tree.rewrite(_without_special_bits)
    tree.clamp(newest)
    return tree


def _merge(tree: FileTree, debs: Sequence[Deb]) -> None:
    try:
        debian.merge_packages(tree, debs)
    except Conflict as error:
        hint = "ask for one of them only, or for slices that leave the path out"
        raise Conflict(error.message, hint=hint, code=error.code) from error


def _write_status(tree: FileTree, debs: Sequence[Deb]) -> None:
    """What scanners read: one control paragraph and one list of checksums for each package.

    The checksums are those of files that are there: scanners compare. They leave configuration files out; these are
    named as dpkg's own status file does.
    """
    for deb in debs:
        control = deb.control["control"].rstrip(b"\n") + b"\n"
        if listed := conffiles_field(deb, tree):
            control += f"Conffiles:{listed}\n".encode()
        tree.add_file(f"{STATUS_DIRECTORY}/{deb.name}", control)
        tree.add_file(f"{STATUS_DIRECTORY}/{deb.name}.md5sums", _present(tree, deb.control.get("md5sums", b"")))


def _present(tree: FileTree, checksums: bytes) -> bytes:
    """The lines (``checksum  path``) whose file is in the tree."""
    lines = checksums.splitlines(keepends=True)
    return b"".join(line for line in lines if _is_there(tree, line.partition(b"  ")[2].strip()))


def _is_there(tree: FileTree, path: bytes) -> bool:
    try:
        return tree.get(path.decode("utf-8", "surrogateescape")) is not None
    except InvalidArgument:
        return False  # names no path below the root


def _without_special_bits(entry: Entry) -> Entry:
    if entry.kind is Kind.FILE and entry.mode & _SPECIAL_BITS:
        return replace(entry, mode=entry.mode & ~_SPECIAL_BITS)
    return entry


def _add_busybox(tree: FileTree) -> None:
    """Move busybox and its applets, as links, to ``/busybox``, out of the way of the image's own files."""
    node = tree.get(_BUSYBOX)
    if node is None:
        raise DataCorrupt(f"busybox-static has no /{_BUSYBOX}")
    program = tree.read(_BUSYBOX)
    tree.remove(_BUSYBOX)
    tree.add(replace(node.entry, path="busybox/busybox"), node.content, owner=node.owner)
    for applet in busybox_applets(program):
        tree.add_symlink(f"busybox/{applet}", "busybox")


def busybox_applets(program: bytes) -> list[str]:
    """The names of the applets, from the table in the program (libbb/appletlib.c: names, each ended by a zero byte)."""
    match = _APPLETS.search(program)
    if match is None:
        raise DataCorrupt("busybox has no table of applets")
    return [name.decode() for name in match[1].split(b"\0") if name and name != b"busybox"]
