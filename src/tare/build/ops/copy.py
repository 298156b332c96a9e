"""COPY and ADD: a layer tar written directly from the source files."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tare.archive.tar_writer import TarWriter
from tare.base.shielding import to_end
from tare.build.cache import Part, Result, make_key
from tare.build.graph import CONTEXT, CopyStep
from tare.build.ops.add import Archive, Download, open_archive, write_archive
from tare.build.ops.layering import LayerPlan, Settings, write_members
from tare.build.ops.operation import Inputs, Made, located
from tare.build.ops.rootfs import find_owner
from tare.build.ops.select import Filter, Match, SourceMissing, Tree, check_names, content_digest
from tare.errors import Conflict, Forbidden, InvalidArgument, NotFound, TareError

T = TypeVar("T")


@asynccontextmanager
async def open_tree(origin: str, inputs: Inputs) -> AsyncIterator[Tree]:
    """The tree that sources are looked up in, for the length of the block. Raises InvalidArgument without context."""
    if origin == CONTEXT:
        if inputs.context is None:
            raise InvalidArgument("this build has no context", hint="give a directory to copy from")
        yield inputs.context
        return
    async with inputs.bench.view(inputs.origins[origin].chain) as root:
        yield Tree(root, keep_owner=True)


async def select_content(
    sources: Sequence[str], origin: str, inputs: Inputs, exclude: tuple[str, ...] = (), *, fresh: bool = False
) -> str:
    """The content key of what ``sources`` stand for in ``origin``.

    For a stage it is remembered by the stage's file system, so that an unchanged stage need not be looked into.
    """
    bench = inputs.bench
    if origin == CONTEXT:
        async with open_tree(origin, inputs) as tree:
            return await to_end(asyncio.to_thread(_digest, tree, sources, exclude, inputs))
    chain = [[part.kind, part.key] for part in inputs.origins[origin].chain]
    key = make_key({"op": "content", "chain": chain, "sources": list(sources), "exclude": list(exclude)})
    if not fresh and (known := await bench.cache.find(key)) is not None:
        return known.value
    async with open_tree(origin, inputs) as tree:
        digest = await to_end(asyncio.to_thread(_digest, tree, sources, exclude, inputs))
    await bench.cache.put(key, Result(value=digest), kind="content")
    return digest


def _digest(tree: Tree, sources: Sequence[str], exclude: tuple[str, ...], inputs: Inputs) -> str:
    matches = tree.select(sources, _excluding(exclude))
    return content_digest(matches, inputs.bench.hashes, keep_owner=tree.keep_owner)


async def copy_fields(step: CopyStep, inputs: Inputs, downloads: Sequence[Download]) -> Mapping[str, Any]:
    """What goes into the key beside the definition: the content of the files meant."""
    fields: dict[str, Any] = {}
    if step.sources:
        fields["content"] = await with_place(
            step, select_content(step.sources, step.origin, inputs, step.exclude), inputs
        )
    if downloads:
        fields["downloads"] = [download.sha256 for download in downloads]
    return fields


async def make_copy(step: CopyStep, inputs: Inputs, downloads: Sequence[Download]) -> Made:
    """Write the layer. Raises NotFound (source, owner), InvalidArgument (destination), Conflict (files changing)."""
    return await with_place(step, _make(step, inputs, downloads), inputs)


async def _make(step: CopyStep, inputs: Inputs, downloads: Sequence[Download]) -> Made:
    source = open_tree(step.origin, inputs) if step.sources else _no_tree()
    async with source as tree, inputs.bench.view(inputs.parent) as root:
        sizes: list[int] = []

        def produce(sink: BinaryIO) -> None:
            sizes.append(_write(step, tree, root, downloads, sink))

        layer = await to_end(inputs.bench.store.layers.write(produce, lease=inputs.lease))
    return Made(Part(kind="layer", key=str(layer.diff_id)), sizes[-1])


@asynccontextmanager
async def _no_tree() -> AsyncIterator[None]:
    yield None


def _write(step: CopyStep, tree: Tree | None, root: Path, downloads: Sequence[Download], sink: BinaryIO) -> int:
    """Write the layer tar; returns the bytes of file content."""
    matches = tree.select(step.sources, _excluding(step.exclude)) if tree is not None else []
    check_names(matches, _reserved)
    owner = find_owner(root, step.chown) if step.chown else None
    if owner is None and (tree is None or not tree.keep_owner):
        owner = find_owner(root, "")
    archives, plain = _split_archives(step, matches)
    plan = LayerPlan(root, Settings(owner=owner, mode=step.chmod))
    plan.place(plain, step.destination)
    many = step.destination.endswith("/") or len(step.inline) + len(downloads) + len(plain) > 1
    for item in step.inline:
        plan.inline(plan.file_target(step.destination, item.name, into=many), item.content.encode())
    for download in downloads:
        plan.download(plan.file_target(step.destination, download.name, into=many), download, step.chmod)
    if archives:
        plan.inside(step.destination)
    writer = TarWriter(sink)
    members = plan.members()
    write_members(members, writer)
    known = {member.entry.path for member in members}
    size = plan.size
    for archive in archives:
        size += write_archive(archive, root, step.destination, writer, known, owner=owner if step.chown else None)
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


async def write_selection(sources: Sequence[str], inputs: Inputs) -> Part:
    """A layer with files of the context at ``/``, for a bind mount."""
    assert inputs.context is not None
    tree = inputs.context

    async with inputs.bench.view(()) as root:

        def produce(sink: BinaryIO) -> None:
            plan = LayerPlan(root, Settings())
            plan.place(tree.select(sources), "/")
            writer = TarWriter(sink)
            write_members(plan.members(), writer)
            writer.finish()

        layer = await to_end(inputs.bench.store.layers.write(produce, lease=inputs.lease))
    return Part(kind="layer", key=str(layer.diff_id))


async def with_place(step: CopyStep, work: Awaitable[T], inputs: Inputs) -> T:
    """Await ``work``; its errors get the Dockerfile's line and, for a missing source, the reason."""
    try:
        return await work
    except SourceMissing as missing:
        error = missing_source(missing, step.origin, step.origin_name, inputs)
        raise located(error, step.place, mark=missing.source) from missing
    except FileNotFoundError as error:
        vanished = Conflict(
            f"{error.filename}: was deleted during the build", hint="build again", code="context-changed"
        )
        raise located(vanished, step.place) from error
    except PermissionError as error:
        raise located(Forbidden(f"{error.filename}: {error.strerror}"), step.place) from error
    except (InvalidArgument, NotFound, Conflict) as error:
        raise located(error, step.place) from error


def missing_source(missing: SourceMissing, origin: str, origin_name: str, inputs: Inputs) -> TareError:
    """The error for a source that is not there: where it was looked for, or the rule that hides it."""
    shown = missing.source if missing.source.startswith("/") else f"/{missing.source}"
    code = "copy-source-missing"
    if missing.excluded_path:
        rule = explain_exclusion(inputs.context.filter if inputs.context else None, missing.excluded_path)
        hint = "change that rule, or copy something else"
        return NotFound(f'"{shown}": excluded from the build context by {rule}', hint=hint, code=code)
    if origin != CONTEXT:
        hint = f"check the path: it is looked for in the root file system of {origin_name}"
        return NotFound(f'"{shown}": not found in {origin_name}', hint=hint, code=code)
    hint = "paths are relative to the build context, not to the Dockerfile"
    return NotFound(f'"{shown}": not found in the build context', hint=hint, code=code)


def explain_exclusion(rules: Filter | None, path: str) -> str:
    """The ignore rule that leaves ``path`` out, in words."""
    explain = getattr(rules, "explain", None)
    return str(explain(path)) if explain is not None else ".dockerignore"


def _reserved(path: str) -> InvalidArgument:
    return InvalidArgument(
        f"{path}: names that begin with .wh. cannot be stored in a layer: they would delete files of the image",
        hint="rename the file, or exclude it in .dockerignore",
        code="reserved-name",
    )


def _excluding(patterns: tuple[str, ...]) -> Filter | None:
    if not patterns:
        return None
    from tare.build.ops.context import parse_rules

    return parse_rules("\n".join(patterns), "--exclude")
