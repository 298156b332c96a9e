"""Which files a step means: in the context or in a stage, as a content key, and why one is missing."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import BinaryIO, TypeVar

from tare.archive.tar_writer import TarWriter
from tare.base.shielding import to_end
from tare.build.cache import Part, Result, make_key
from tare.build.graph import CONTEXT, CopyStep, is_context
from tare.build.ops.layering import LayerPlan, Settings, write_members
from tare.build.ops.manifests import Facts
from tare.build.ops.operation import Inputs, located
from tare.build.ops.parents import select_with_parents
from tare.build.ops.rootfs import leaving_link
from tare.build.ops.select import Exclude, Filter, Match, SourceMissing, Tree, content_digest
from tare.errors import Conflict, Forbidden, InvalidArgument, NotFound, TareError

T = TypeVar("T")


@asynccontextmanager
async def open_tree(origin: str, inputs: Inputs) -> AsyncIterator[Tree]:
    """The tree that sources are looked up in, for the length of the block. Raises InvalidArgument without context."""
    if is_context(origin):
        yield inputs.tree(origin)
        return
    async with inputs.bench.view(inputs.origins[origin].chain) as root:
        yield Tree(root, keep_owner=True)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files are meant: patterns, what is left out of them, whether their directories are kept."""

    sources: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    parents: bool = False

    def find(self, tree: Tree) -> list[Match]:
        """The files in ``tree``. Raises SourceMissing, InvalidArgument for a bad pattern, OSError."""
        found = tree.found.get(self)
        if found is None:
            exclude = _excluding(self.exclude)
            if self.parents:
                found = select_with_parents(tree, self.sources, exclude)
            else:
                found = tree.select(self.sources, Exclude(exclude))
            tree.found[self] = found
        return found

    def digest(self, tree: Tree, inputs: Inputs) -> str:
        """The content key of the files in ``tree``."""
        bench, files = inputs.bench, dict[str, Facts]()
        digest = content_digest(self.find(tree), bench.hashes, keep_owner=tree.keep_owner, files=files)
        bench.manifests.note(digest, files)
        return digest


def selection_of(step: CopyStep) -> Selection:
    """What the step copies."""
    return Selection(step.sources, step.exclude, step.parents)


async def select_content(selection: Selection, origin: str, inputs: Inputs, *, fresh: bool = False) -> str:
    """The content key of what ``selection`` stands for in ``origin``.

    For a stage it is remembered by the stage's file system, so that an unchanged stage need not be looked into.
    """
    bench = inputs.bench
    if is_context(origin):
        async with open_tree(origin, inputs) as tree:
            return await to_end(asyncio.to_thread(selection.digest, tree, inputs))
    chain = [[part.kind, part.key] for part in inputs.origins[origin].chain]
    key = make_key({"op": "content", "chain": chain, "selection": [*asdict(selection).values()]})
    if not fresh and (known := await bench.cache.find(key)) is not None:
        return known.value
    async with open_tree(origin, inputs) as tree:
        digest = await to_end(asyncio.to_thread(selection.digest, tree, inputs))
    await bench.cache.put(key, Result(value=digest), kind="content")
    return digest


async def write_selection(sources: Sequence[str], inputs: Inputs, origin: str = CONTEXT) -> Part:
    """A layer with files of the context, or of a named one, at ``/``, for a bind mount."""
    tree = inputs.tree(origin)

    async with inputs.bench.view(()) as root:

        def produce(sink: BinaryIO) -> None:
            plan = LayerPlan(root, Settings())
            plan.place(tree.select(sources), "/")
            writer = TarWriter(sink)
            write_members(plan.members(), writer)
            writer.finish()

        layer = await inputs.bench.store.layers.write(produce, lease=inputs.lease)
    return Part(kind="layer", key=str(layer.diff_id))


async def origin_chain(origin: str, inputs: Inputs) -> tuple[Part, ...]:
    """The file system of a step or, as a layer, of a context."""
    if is_context(origin):
        return (await write_selection(("/",), inputs, origin),)
    return inputs.origins[origin].chain


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
    shown = posixpath.normpath(f"/{missing.source.lstrip('/')}")
    code = "copy-source-missing"
    if missing.excluded_path:
        rule = explain_exclusion(inputs.tree(origin).filter, missing.excluded_path)
        hint = "change that rule, or copy something else"
        return NotFound(f'"{shown}": excluded from the build context by {rule}', hint=hint, code=code)
    if not is_context(origin):
        hint = f"check the path: it is looked for in the root file system of {origin_name}"
        return NotFound(f'"{shown}": not found in {origin_name}', hint=hint, code=code)
    where = f"the build context {origin_name}" if origin_name else "the build context"
    hint = _why_outside(missing.source, inputs.tree(origin)) or (
        "paths are relative to the build context, not to the Dockerfile"
    )
    return NotFound(f'"{shown}": not found in {where}', hint=hint, code=code)


def _why_outside(source: str, tree: Tree) -> str:
    """Why a source that leads out of its context is not found where it leads; empty where it stays inside."""
    if posixpath.normpath(source.lstrip("/")).split("/")[0] == "..":
        inside = posixpath.normpath(f"/{source}")
        return f"forbidden path outside the build context: {source} means {inside} in it; build from a directory above"
    link = leaving_link(tree.root, source)
    if link is None:
        return ""
    return (
        f"forbidden path outside the build context: the link {link.path} -> {link.target} leads out of it, "
        "where nothing is read; copy what it leads to into the context"
    )


def explain_exclusion(rules: Filter | None, path: str) -> str:
    """The ignore rule that leaves ``path`` out, in words."""
    explain = getattr(rules, "explain", None)
    return str(explain(path)) if explain is not None else ".dockerignore"


def _excluding(patterns: tuple[str, ...]) -> Filter | None:
    if not patterns:
        return None
    from tare.build.ops.context import parse_rules

    return parse_rules("\n".join(patterns), "--exclude")
