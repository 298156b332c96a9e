"""``SOURCE_DATE_EPOCH``: layers whose times are no later than it, so that equal sources give equal images."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tare.archive.tar_stream import iter_entries
from tare.archive.tar_writer import TarWriter
from tare.base.shielding import to_end
from tare.build.cache.records import Part, Result, make_key
from tare.build.ops.workbench import Workbench
from tare.errors import InvalidArgument
from tare.model import Digest

NAME = "SOURCE_DATE_EPOCH"
_LATEST = 253402300799  # the last second of the year 9999, which RFC 3339 can still write


def read_epoch(build_args: Mapping[str, str | None]) -> int | None:
    """The value among the build arguments in seconds; None without one. Raises InvalidArgument.

    (reproducible-builds.org, "SOURCE_DATE_EPOCH")
    """
    text = build_args.get(NAME)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or int(text) > _LATEST:
        hint = "give seconds since 1970, such as $(git log -1 --format=%ct)"
        raise InvalidArgument(f"invalid {NAME}: {text}", hint=hint)
    return int(text)


async def clamp_layers(diff_ids: Sequence[Digest], epoch: int, bench: Workbench, lease: str) -> list[Digest]:
    """The layers with times after ``epoch`` set to it; what is early enough stays as it is."""
    return [await _clamp(diff_id, epoch, bench, lease) for diff_id in diff_ids]


async def _clamp(diff_id: Digest, epoch: int, bench: Workbench, lease: str) -> Digest:
    key = make_key({"op": "clamp", "layer": str(diff_id), "epoch": epoch})
    known = await bench.cache.find(key)
    if known is not None and known.part is not None:
        await bench.protect(lease, [known.part])
        return Digest.parse(known.part.key)
    path = bench.store.layers.path(diff_id)
    if not await asyncio.to_thread(_has_later, path, epoch):
        made = diff_id
    else:

        def produce(sink: BinaryIO) -> None:
            writer = TarWriter(sink)
            with path.open("rb") as stream:
                for entry, content in iter_entries(stream):
                    writer.add(replace(entry, mtime=min(entry.mtime, epoch)), content)
            writer.finish()

        made = (await to_end(bench.store.layers.write(produce, lease=lease))).diff_id
    part = Part(kind="layer", key=str(made))
    await to_end(bench.cache.put(key, Result(part=part), kind="content"))
    return made


def _has_later(path: Path, epoch: int) -> bool:
    with path.open("rb") as stream:
        return any(entry.mtime > epoch for entry, _ in iter_entries(stream))
