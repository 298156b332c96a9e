"""The tree of a distroless image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tare.archive.entry import Entry, Kind
from tare.archive.filetree import FileTree
from tare.distroless import debian
from tare.distroless.deb import Deb
from tare.distroless.dpkg import conffiles_field
from tare.distroless.effects import apply_effects
from tare.distroless.filters import is_unneeded
from tare.distroless.recipes import Recipe
from tare.distroless.services import apply_service
from tare.errors import DataCorrupt

STATUS_DIRECTORY = "var/lib/dpkg/status.d"
_SPECIAL_BITS = 0o6000  # set-user-ID and set-group-ID
_APPLETS = re.compile(rb"\0(\[\0\[\[\0(?:[a-z0-9_.+-]+\0)+)\0")
_BUSYBOX = "usr/bin/busybox"


def distroless_tree(debs: Sequence[Deb], recipe: Recipe, architecture: str, newest: int) -> FileTree:
    """Put the packages of ``recipe`` together. Blocking.

    Nothing of them has run: what scripts would have done and a runtime needs is added declaratively, what only scripts,
    people or an init system use is left out, and no file keeps a set-user-ID bit. Raises Conflict, DataCorrupt.
    """
    slices = recipe.only_slices
    whole = [deb for deb in debs if deb.name not in slices]
    tree = debian.merged_usr(architecture)
    debian.merge_packages(tree, whole)
    debian.merge_packages(tree, [_slice(deb, slices) for deb in debs if deb.name in slices])
    if recipe.variant.debug:
        _add_busybox(tree)
    if recipe.has_tools:
        tree.add_symlink("bin/sh", "/busybox/sh")
    tree.discard([e.path for e in (node.entry for node in tree) if is_unneeded(e) or recipe.leaves_out(e.path)])
    apply_effects(tree, {deb.name for deb in whole}, architecture, newest)
    if recipe.service is not None:
        apply_service(tree, recipe.service, nonroot=recipe.variant.nonroot, debug=recipe.variant.debug)
    _write_status(tree, debs)
    tree.rewrite(_without_special_bits)
    tree.clamp(newest)
    return tree


def _slice(deb: Deb, slices: Mapping[str, tuple[str, ...]]) -> Deb:
    tree = FileTree()
    for node in deb.tree:
        if f"{node.entry.path}/".startswith(slices[deb.name]) or _is_copyright(deb, node.entry.path):
            tree.add(node.entry, node.content, owner=node.owner)
    return replace(deb, tree=tree)


def _is_copyright(deb: Deb, path: str) -> bool:
    return path == f"usr/share/doc/{deb.name}/copyright"


def _write_status(tree: FileTree, debs: Sequence[Deb]) -> None:
    """What scanners read: one control paragraph and one list of checksums for each package.

    The checksums leave configuration files out; they are named as dpkg's own status file does.
    """
    for deb in debs:
        control = deb.control["control"].rstrip(b"\n") + b"\n"
        if listed := conffiles_field(deb, tree):
            control += f"Conffiles:{listed}\n".encode()
        tree.add_file(f"{STATUS_DIRECTORY}/{deb.name}", control)
        tree.add_file(f"{STATUS_DIRECTORY}/{deb.name}.md5sums", deb.control.get("md5sums", b""))


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
