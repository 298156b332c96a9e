"""COPY and ADD: a layer tar written directly from the source files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from tare.archive.entry import Kind
from tare.archive.tar_writer import TarWriter
from tare.base.shielding import to_end
from tare.build.cache import Key, Part, Result, make_key
from tare.build.graph import CopyStep
from tare.build.ops.add import Archive, open_archive, write_archive
from tare.build.ops.downloads import Download, Fetched, FetchedTree, fetched
from tare.build.ops.hidden import hidden_by
from tare.build.ops.layering import LayerPlan, Member, Settings, write_members
from tare.build.ops.operation import Inputs, Made
from tare.build.ops.rootfs import Owner, find_owner
from tare.build.ops.select import Match, Tree, check_names
from tare.build.ops.selection import Selection, open_tree, select_content, selection_of, with_place
from tare.build.sources.limits import SourceLimits
from tare.errors import InvalidArgument


async def copy_fields(step: CopyStep, inputs: Inputs, downloads: Sequence[Download]) -> Mapping[str, Any]:
    """What goes into the key beside the definition: the content of the files meant."""
    fields: dict[str, Any] = {}
    if step.sources:
        fields["content"] = await with_place(step, select_content(selection_of(step), step.origin, inputs), inputs)
    if downloads:
        fields["downloads"] = [download.key for download in downloads]
    return fields


async def make_copy(step: CopyStep, inputs: Inputs, downloads: Sequence[Download], content: str) -> Made:
    """Write the layer, or find it: ``content`` is the content key of the files meant.

    Raises NotFound (source, owner), InvalidArgument (destination), Conflict (files changing).
    """
    return await with_place(step, _make(step, inputs, downloads, content), inputs)


async def find_copy(step: CopyStep, inputs: Inputs, downloads: Sequence[Download], content: str) -> Made | None:
    """The layer that :func:`make_copy` would find; None where it would write one. Raises the same."""

    async def find() -> Made | None:
        async with _planned(step, inputs, downloads) as (planned, _):
            return await _find(_layer_key(step, planned, downloads, content), inputs)

    return await with_place(step, find(), inputs)


@asynccontextmanager
async def _planned(
    step: CopyStep, inputs: Inputs, downloads: Sequence[Download]
) -> AsyncIterator[tuple[_Planned, Path]]:
    """What goes into the layer, and the root file system that it goes over, both for the length of the block."""
    source = open_tree(step.origin, inputs) if step.sources else _no_tree()
    remote = fetched(step, downloads, inputs)
    async with source as tree, remote as files, inputs.bench.view(inputs.parent) as root:
        limits = inputs.bench.sources.limits
        yield await to_end(asyncio.to_thread(_plan, step, tree, root, files, limits)), root


async def _find(key: Key | None, inputs: Inputs) -> Made | None:
    if key is None or not inputs.reuse:
        return None
    known = await inputs.bench.cache.find(key)
    if known is None or known.part is None:
        return None
    await inputs.bench.protect(inputs.lease, [known.part])
    return Made(known.part, known.bytes, created=known.created)


async def _make(step: CopyStep, inputs: Inputs, downloads: Sequence[Download], content: str) -> Made:
    async with _planned(step, inputs, downloads) as (planned, root):
        key = _layer_key(step, planned, downloads, content)
        if (known := await _find(key, inputs)) is not None:
            paths = [member.entry.path for member in planned.members]
            return replace(known, hidden=await asyncio.to_thread(hidden_by, paths, root))
        sizes: list[int] = []
        hidden: list[int] = []

        def produce(sink: BinaryIO) -> None:
            size, paths = _write(step, planned, root, sink)
            sizes.append(size)
            hidden.append(hidden_by(paths, root))

        layer = await inputs.bench.store.layers.write(produce, lease=inputs.lease)
    part, created = Part(kind="layer", key=str(layer.diff_id)), float(int(time.time()))
    if key is not None:
        await to_end(inputs.bench.cache.put(key, Result(part=part, bytes=sizes[-1], created=created), kind="content"))
    return Made(part, sizes[-1], hidden=hidden[-1])


@asynccontextmanager
async def _no_tree() -> AsyncIterator[None]:
    yield None


@dataclass(frozen=True, slots=True)
class _Planned:
    """What goes into the layer: members, then the entries of archives, which belong to ``owner`` if that is given."""

    members: list[Member]
    archives: list[Archive]
    size: int
    owner: Owner | None


def _plan(step: CopyStep, tree: Tree | None, root: Path, remote: Sequence[Fetched], limits: SourceLimits) -> _Planned:
    matches = selection_of(step).find(tree) if tree is not None else []
    check_names(matches, _reserved)
    owner = given = find_owner(root, step.chown) if step.chown else None
    if owner is None and (tree is None or not tree.keep_owner):
        owner = find_owner(root, "")
    archives, plain = _split_archives(step, matches, limits)
    plan = LayerPlan(root, Settings(owner=owner, mode=step.chmod))
    plan.place(plain, step.destination)
    many = step.destination.endswith("/") or len(step.inline) + len(remote) + len(plain) > 1
    for file in step.inline:
        plan.inline(plan.file_target(step.destination, file.name, into=many), file.content.encode())
    for item in remote:
        if isinstance(item, FetchedTree):
            found = Selection(("/",), step.exclude).find(item.tree)
            check_names(found, _reserved)
            plan.place(found, step.destination)
        elif step.unpack_downloads and (archive := open_archive(str(item.file), item.name, limits)):
            archives.append(archive)
        else:
            plan.download(plan.file_target(step.destination, item.name, into=many), item)
    if archives:
        plan.inside(step.destination)
    return _Planned(plan.members(), archives, plan.size, given)


def _layer_key(step: CopyStep, planned: _Planned, downloads: Sequence[Download], content: str) -> Key | None:
    """The key of the layer apart from what lies below it: what is copied, and where it lands with which attributes.

    A new base image keeps the layer where its directories look the same. None where the layer cannot be told without
    writing it.
    """
    if planned.archives:
        return None
    layout = hashlib.sha256()
    for member in planned.members:
        entry = member.entry
        facts = f"{entry.kind}\0{entry.mode:o}\0{entry.uid}:{entry.gid}\0{entry.target}\0"
        layout.update(os.fsencode(entry.path) + b"\0" + os.fsencode(facts))
        if entry.kind is Kind.DIRECTORY:
            layout.update(repr(sorted(entry.xattrs.items())).encode())
    remote = [download.key for download in downloads]
    inline = [item.content for item in step.inline]
    fields = {"content": content, "layout": layout.hexdigest(), "downloads": remote, "inline": inline}
    return make_key({"op": "layer", "shape": make_key(step.definition()).digest, **fields})


def _write(step: CopyStep, planned: _Planned, root: Path, sink: BinaryIO) -> tuple[int, set[str]]:
    """Write the layer tar; returns the bytes of file content and the paths of its members."""
    writer = TarWriter(sink)
    write_members(planned.members, writer)
    known = {member.entry.path for member in planned.members}
    size = planned.size
    for archive in planned.archives:
        size += write_archive(archive, root, step.destination, writer, known, owner=planned.owner)
    writer.finish()
    return size, known


def _split_archives(
    step: CopyStep, matches: Sequence[Match], limits: SourceLimits
) -> tuple[list[Archive], list[Match]]:
    """Local archives to unpack, and the rest."""
    if not step.unpack:
        return [], list(matches)
    archives: list[Archive] = []
    plain: list[Match] = []
    for match in matches:
        regular = stat.S_ISREG(match.items[0].status.st_mode)
        archive = open_archive(match.items[0].host, match.path, limits) if regular else None
        if archive is None:
            plain.append(match)
        else:
            archives.append(archive)
    return archives, plain


def _reserved(path: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path}: names that begin with .wh. cannot be stored in a layer: they would delete files of the image",
        hint="rename the file, or exclude it in .dockerignore",
        code="reserved-name",
    )
