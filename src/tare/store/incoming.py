"""Layers from outside: their members are looked at while they are stored."""

from __future__ import annotations

from typing import BinaryIO

from tare.archive.tar_stream import iter_entries
from tare.base.readers import CHUNK, Readable, copy_stream
from tare.errors import DataCorrupt
from tare.store.files import StagedFile


class LayerCheck:
    """Copies a layer's tar and reads its members on the way, so that a hostile one is refused before it is used.

    ``fault`` is what is wrong with them. It is told when all has come: that it is another layer than announced would be
    the better reason.
    """

    def __init__(self) -> None:
        self.fault: DataCorrupt | None = None

    def copy(self, stream: Readable, sink: BinaryIO) -> None:
        """Copy everything. Raises what ``stream`` raises, nothing about the members."""
        copied = _Copied(stream, sink)
        try:
            for _ in iter_entries(copied):
                pass
        except DataCorrupt as error:
            if copied.is_broken:
                raise
            self.fault = error
            copy_stream(stream, sink)

    def settle(self, staged: StagedFile) -> None:
        """Raise DataCorrupt, the copy deleted, when a member was such as no layer may have."""
        if self.fault is not None:
            staged.discard()
            raise self.fault


class _Copied:
    """A stream whose bytes are written to ``sink`` as they are read: in large pieces, however small those asked for."""

    def __init__(self, stream: Readable, sink: BinaryIO) -> None:
        self._stream = stream
        self._sink = sink
        self._piece = b""
        self._position = 0
        self.is_broken = False

    def read(self, size: int = -1, /) -> bytes:
        if self._position == len(self._piece):
            self._next()
        end = len(self._piece) if size < 0 else self._position + size
        data = self._piece[self._position : end]
        self._position += len(data)
        return data

    def _next(self) -> None:
        try:
            self._piece = self._stream.read(CHUNK)
        except Exception:
            self.is_broken = True
            raise
        self._position = 0
        self._sink.write(self._piece)
