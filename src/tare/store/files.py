"""Content-addressed files: written under a temporary name while being hashed, renamed to their digest."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tare.base.atomic import fsync_directory
from tare.errors import DataCorrupt
from tare.model import Digest
from tare.store.space import disk_errors
from tare.store.threads import Abort, run_undoable

_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A complete, synced temporary file."""

    path: Path
    digest: Digest
    size: int

    def install(self, target: Path) -> None:
        """Give it its final name, durably; a file that is there already has the same bytes."""
        with disk_errors(target.parent):
            self.path.replace(target)
            fsync_directory(target.parent)

    def discard(self) -> None:
        """Delete it; quiet when it was installed."""
        self.path.unlink(missing_ok=True)


class HashingSink:
    """A writable stream that hashes what passes; small writes are gathered into large ones."""

    def __init__(self, sink: BinaryIO, abort: Abort) -> None:
        self._sink = sink
        self._abort = abort
        self._pending = bytearray()
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append ``data``."""
        length = len(data)
        self.size += length
        if length >= _BUFFER:
            self.flush()
            self._hash.update(data)
            self._sink.write(data)
            return length
        self._pending += data
        if len(self._pending) >= _BUFFER:
            self.flush()
        return length

    def flush(self) -> None:
        """Pass on what was gathered; raises Aborted when nobody wants it any more."""
        self._abort.check()
        if self._pending:
            self._hash.update(self._pending)
            self._sink.write(self._pending)
            self._pending = bytearray()

    @property
    def digest(self) -> Digest:
        """Digest of what was passed on; call :meth:`flush` first."""
        return Digest(self._hash.hexdigest())


async def stage(
    directory: Path, produce: Callable[[BinaryIO], None], *, what: str, expected: Digest | None = None
) -> StagedFile:
    """Write what ``produce`` gives, in a thread, into a temporary file in ``directory``.

    Raises DataCorrupt when its digest is not ``expected``, Exhausted without space; nothing is left then, nor when
    the caller is cancelled.
    """
    return await run_undoable(lambda abort: _stage(directory, produce, what, expected, abort), StagedFile.discard)


def _stage(
    directory: Path, produce: Callable[[BinaryIO], None], what: str, expected: Digest | None, abort: Abort
) -> StagedFile:
    fd, name = tempfile.mkstemp(prefix="stage-", dir=directory)
    path = Path(name)
    try:
        with disk_errors(directory), os.fdopen(fd, "wb", buffering=0) as raw:
            sink = HashingSink(cast(BinaryIO, _Complete(raw.fileno())), abort)
            produce(cast(BinaryIO, sink))
            sink.flush()
            os.fchmod(raw.fileno(), 0o644)
            os.fsync(raw.fileno())
        if expected is not None and sink.digest != expected:
            raise DataCorrupt(f"{what}: digest {sink.digest}, expected {expected}")
        return StagedFile(path, sink.digest, sink.size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class _Complete:
    """Writes everything it is given, however little the kernel takes at once."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        return len(data)
