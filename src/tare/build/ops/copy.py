"""COPY and ADD: a layer tar written directly from the source files."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tare.archive.entry import Kind
from tare.archive.tar_writer import TarWriter
from tare.base.shielding import to_end
from tare.build.cache import Key, Part, Result, make_key
from tare.build.graph import CopyStep
from tare.build.ops.add import Archive, Download, open_archive, write_archive
from tare.build.ops.layering import LayerPlan, Member, Settings, write_members
from tare.build.ops.operation import Inputs, Made
from tare.build.ops.rootfs import Owner, find_owner
from tare.build.ops.select import Match, Tree, check_names
from tare.build.ops.selection import open_tree, select_content, selection_of, with_place
from tare.errors import InvalidArgument


async def copy_fields(step: CopyStep, inputs: Inputs, downloads: Sequence[Download]) -> Mapping[str, Any]:
    """What goes into the key beside the definition: the content of the files meant."""
    fields: dict[str, Any] = {}
    if step.sources:
        fields["content"] = await with_place(step, select_content(selection_of(step), step.origin, inputs), inputs)
    if downloads:
        fields["downloads"] = [download.sha256 for download in downloads]
    return fields


async def make_copy(step: CopyStep, inputs: Inputs, downloads: Sequence[Download], content: str) -> Made:
    """Write the layer, or find it: ``content`` is the content key of the files meant.

    Raises NotFound (source, owner), InvalidArgument (destination), Conflict (files changing).
    """
    return await with_place(step, _make(step, inputs, downloads, content), inputs)


async def _make(step: CopyStep, inputs: Inputs, downloads: Sequence[Download], content: str) -> Made:
    source = open_tree(step.origin, inputs) if step.sources else _no_tree()
    cache = inputs.bench.cache
    async with source as tree, inputs.bench.view(inputs.parent) as root:
        planned = await to_end(asyncio.to_thread(_plan, step, tree, root, downloads))
        key = _layer_key(step, planned, downloads, content)
        if key is not None and inputs.reuse and (known := await cache.find(key)) is not None and known.part is not None:
            await inputs.bench.protect(inputs.lease, [known.part])
            return Made(known.part, known.bytes, created=known.created)
        sizes: list[int] = []

        def produce(sink: BinaryIO) -> None:
            sizes.append(_write(step, planned, root, sink))

        layer = await inputs.bench.store.layers.write(produce, lease=inputs.lease)
    part, created = Part(kind="layer", key=str(layer.diff_id)), float(int(time.time()))
    if key is not None:
        await to_end(cache.put(key, Result(part=part, bytes=sizes[-1], created=created), kind="content"))
    return Made(part, sizes[-1])


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


def _plan(step: CopyStep, tree: Tree | None, root: Path, downloads: Sequence[Download]) -> _Planned:
    matches = selection_of(step).find(tree) if tree is not None else []
    check_names(matches, _reserved)
    owner = given = find_owner(root, step.chown) if step.chown else None
    if owner is None and (tree is None or not tree.keep_owner):
        owner = find_owner(root, "")
    archives, plain = _split_archives(step, matches)
    plan = LayerPlan(root, Settings(owner=owner, mode=step.chmod))
    plan.place(plain, step.destination)
    many = step.destination.endswith("/") or len(step.inline) + len(downloads) + len(plain) > 1
    for item in step.inline:
        plan.inline(plan.file_target(step.destination, item.name, into=many), item.content.encode())
    for download in downloads:
        plan.download(plan.file_target(step.destination, download.name, into=many), download)
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
    fetched = [download.sha256 for download in downloads]
    inline = [item.content for item in step.inline]
    fields = {"op": "layer", "content": content, "layout": layout.hexdigest(), "downloads": fetched, "inline": inline}
    return make_key(fields)


def _write(step: CopyStep, planned: _Planned, root: Path, sink: BinaryIO) -> int:
    """Write the layer tar; returns the bytes of file content."""
    writer = TarWriter(sink)
    write_members(planned.members, writer)
    known = {member.entry.path for member in planned.members}
    size = planned.size
    for archive in planned.archives:
        size += write_archive(archive, root, step.destination, writer, known, owner=planned.owner)
    writer.finish()
    return size


def _split_archives(step: CopyStep, matches: Sequence[Match]) -> tuple[list[Archive], list[Match]]:
    """Local archives to unpack, and the rest."""
    if not step.unpack:
        return [], list(matches)
    archives: list[Archive] = []
    plain: list[Match] = []
    for match in matches:
        regular = stat.S_ISREG(match.items[0].status.st_mode)
        archive = open_archive(match.items[0].host) if regular else None
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
