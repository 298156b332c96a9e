"""Layers as they are sent: as they lie in the store, or compressed once and kept for the next client."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tare.archive.compression import Compression
from tare.base.atomic import write_atomic
from tare.base.single_flight import SingleFlight
from tare.model import Digest
from tare.registry.server.documents import LayerForm
from tare.store.files import StagedFile
from tare.store.store import Store

CACHE_BYTES = 10 << 30
"""What the compressed layers may take; those that were not asked for the longest go first."""

_WORKERS = 2  # layers that are compressed at a time; each takes a core


class _Note(msgspec.Struct, frozen=True):
    digest: str
    size: int


class LayerForms:
    """The layers of ``store`` compressed as ``kind`` says, below ``directory``.

    ``<diffID>.<kind>.json`` notes digest and size and stays as long as the layer is in the store; ``<digest>.<kind>``
    has the bytes and may go at any time: they are made again, and are the same.
    """

    def __init__(self, store: Store, directory: Path, kind: Compression, limit: int = CACHE_BYTES) -> None:
        self.kind = kind
        self._store = store
        self._directory = directory
        self._limit = limit
        self._flights: SingleFlight[LayerForm] = SingleFlight()
        self._slots = asyncio.Semaphore(_WORKERS)

    async def known(self, diff_id: Digest) -> LayerForm | None:
        """The form, if its digest is known without compressing anything. Raises NotFound for the layer."""
        if self.kind is Compression.NONE:
            layer = await self._store.layers.get(diff_id)
            return LayerForm(diff_id, diff_id, layer.size, self.kind)
        note = await asyncio.to_thread(_read_note, self._note(diff_id))
        return LayerForm(diff_id, Digest.parse(note.digest), note.size, self.kind) if note is not None else None

    async def get(self, diff_id: Digest) -> LayerForm:
        """The form; made if it is not there. The caller holds the layer. Raises NotFound, Exhausted."""
        return await self.known(diff_id) or await self._make(diff_id)

    async def file(self, form: LayerForm) -> Path | None:
        """Where the bytes lie; made again if they have gone.

        None when what is made now has another digest (another version of the compressor). Raises as :meth:`get`.
        """
        if self.kind is Compression.NONE:
            return self._store.layers.path(form.diff_id)
        path = self._file(form.digest)
        if not await asyncio.to_thread(_touch, path, form.size):
            made = await self._make(form.diff_id)
            if made.digest != form.digest:
                return None
        return path

    async def tidy(self) -> None:
        """Delete the forms of layers that are gone, what nobody knows, and what is too much."""
        layers = await self._store.layers.sizes()
        known = {Digest.parse(text).hex for text in layers}
        await asyncio.to_thread(self._tidy, known)

    async def _make(self, diff_id: Digest) -> LayerForm:
        async def work() -> LayerForm:
            async with self._slots:
                return await self._compress(diff_id)

        return await self._flights.do(str(diff_id), work)

    async def _compress(self, diff_id: Digest) -> LayerForm:
        await asyncio.to_thread(self._directory.mkdir, mode=0o700, exist_ok=True)
        async with self._store.layers.compressed(diff_id, self.kind) as staged:
            await asyncio.to_thread(self._install, diff_id, staged)
        return LayerForm(diff_id, staged.digest, staged.size, self.kind)

    def _install(self, diff_id: Digest, staged: StagedFile) -> None:
        with staged.path.open("rb") as file:
            os.fsync(file.fileno())  # a digest is never asked again whether it is right
        staged.install(self._file(staged.digest))
        write_atomic(self._note(diff_id), msgspec.json.encode(_Note(str(staged.digest), staged.size)), durable=False)
        self._shrink(self._limit, keep=self._file(staged.digest).name)

    def _note(self, diff_id: Digest) -> Path:
        return self._directory / f"{diff_id.hex}.{self.kind}.json"

    def _file(self, digest: Digest) -> Path:
        return self._directory / f"{digest.hex}.{self.kind}"

    def _tidy(self, layers: set[str]) -> None:
        if not self._directory.is_dir():
            return
        wanted = set()
        for path in self._directory.glob("*.json"):
            note = _read_note(path)
            if note is not None and path.name.partition(".")[0] in layers:
                wanted.add(f"{Digest.parse(note.digest).hex}.{path.name.split('.')[1]}")
            else:
                path.unlink(missing_ok=True)
        for path in self._directory.iterdir():
            if path.suffix != ".json" and path.name not in wanted:
                path.unlink(missing_ok=True)
        self._shrink(self._limit)

    def _shrink(self, limit: int, keep: str = "") -> None:
        found = sorted(_forms(self._directory), key=lambda one: one[1].st_mtime_ns)
        total = sum(status.st_size for _, status in found)
        for path, status in found:
            if total <= limit:
                return
            if path.name != keep:
                path.unlink(missing_ok=True)  # who is sending it has it open
                total -= status.st_size


def _forms(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in directory.iterdir():
        if path.suffix in (f".{Compression.GZIP}", f".{Compression.ZSTD}"):
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()


def _touch(path: Path, size: int) -> bool:
    """Note that it is asked for; False when it is not there as a whole."""
    try:
        os.utime(path)
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _read_note(path: Path) -> _Note | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Note)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
