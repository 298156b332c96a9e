"""The root file system as files: a directory (``local``) or a tar."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tare.archive.diff import walk_tree
from tare.archive.entry import Kind
from tare.archive.tar_writer import TarWriter
from tare.base.process import run
from tare.base.shielding import to_end
from tare.build.cache.records import Part
from tare.build.ops.workbench import Workbench
from tare.build.outputs.places import Owner, naming, whole_file
from tare.build.request import OutputRequest
from tare.errors import Exhausted, InvalidArgument


async def write_directory(output: OutputRequest, chain: Sequence[Part], bench: Workbench) -> None:
    """Put the files into the directory, beside what is there; they belong to the caller, as from BuildKit.

    Raises InvalidArgument, Exhausted, Forbidden.
    """
    target = await asyncio.to_thread(_directory, output.destination)
    async with bench.view(chain) as root:
        argv = ["cp", "--archive", "--no-preserve=ownership", "--", f"{root}/.", str(target)]
        done = await run(argv)
        if done.returncode:
            raise Exhausted(f"cannot write {target}: {done.error_text.splitlines()[-1]}")
        if output.owner is not None:
            await to_end(asyncio.to_thread(_hand_over, root, target, output.owner))


def _directory(destination: str) -> Path:
    target = Path(destination)
    if target.exists() and not target.is_dir():
        raise InvalidArgument(f"{target}: is not a directory", hint="dest= names a directory")
    with naming(destination):
        target.mkdir(parents=True, exist_ok=True)
    return target


def _hand_over(root: Path, target: Path, owner: Owner) -> None:
    """Give what was copied to the caller; what lay there before is not touched."""
    os.chown(target, *owner)
    for entry, _ in walk_tree(root):
        os.lchown(target / entry.path, *owner)


async def write_tar(output: OutputRequest, chain: Sequence[Part], bench: Workbench, epoch: int | None) -> None:
    """Write the root file system as one tar; times after ``epoch`` become it. Raises as :func:`whole_file`."""
    async with bench.view(chain) as root:
        await to_end(asyncio.to_thread(_write_tar, root, output, epoch))


def _write_tar(root: Path, output: OutputRequest, epoch: int | None) -> None:
    with whole_file(output.destination, output.owner) as sink:
        writer = TarWriter(sink)
        for entry, path in walk_tree(root):
            clamped = entry if epoch is None or entry.mtime <= epoch else replace(entry, mtime=epoch)
            if entry.kind is Kind.FILE:
                with path.open("rb", buffering=0) as content:
                    writer.add(clamped, content)
            else:
                writer.add(clamped)
        writer.finish()
