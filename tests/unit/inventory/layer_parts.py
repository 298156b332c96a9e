"""Layers for tests: tars of members as they are given."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from tare.archive.entry import Entry, Kind
from tare.archive.tar_writer import TarWriter

Member = tuple[Entry, bytes]


def file(path: str, content: bytes | str = b"", *, mode: int = 0o644, uid: int = 0) -> Member:
    data = content.encode() if isinstance(content, str) else content
    return Entry(path=path, kind=Kind.FILE, mode=mode, uid=uid, size=len(data)), data


def directory(path: str, *, mode: int = 0o755) -> Member:
    return Entry(path=path, kind=Kind.DIRECTORY, mode=mode), b""


def symlink(path: str, target: str) -> Member:
    return Entry(path=path, kind=Kind.SYMLINK, mode=0o777, target=target), b""


def hardlink(path: str, target: str) -> Member:
    return Entry(path=path, kind=Kind.HARDLINK, mode=0o644, target=target), b""


def whiteout(path: str) -> Member:
    parent, slash, name = path.rpartition("/")
    return file(f"{parent}{slash}.wh.{name}", mode=0)


def opaque(path: str) -> Member:
    return file(f"{path}/.wh..wh..opq" if path else ".wh..wh..opq", mode=0)


def write_layers(directory: Path, *layers: Sequence[Member]) -> list[Path]:
    """A tar for each layer, bottom first."""
    paths = []
    for number, members in enumerate(layers):
        path = directory / f"{number}.tar"
        with path.open("wb") as sink:
            writer = TarWriter(sink)
            for entry, data in members:
                writer.add(entry, io.BytesIO(data) if entry.kind is Kind.FILE else None)
            writer.finish()
        paths.append(path)
    return paths
