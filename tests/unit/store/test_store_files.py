"""Files that are hashed and written by threads of their own while they are made."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from tare.errors import DataCorrupt, Exhausted
from tare.model import Digest
from tare.store.files import HashingSink, stage
from tare.store.threads import Abort, Aborted

CHUNKS = [1, 511, 512, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20]


@pytest.mark.parametrize("seed", range(4))
def test_every_way_of_cutting_gives_the_same_file_and_digest(seed: int) -> None:
    chooser = random.Random(seed)
    parts = [chooser.randbytes(chooser.choice(CHUNKS)) for _ in range(12)]
    target = io.BytesIO()
    sink = HashingSink(target, Abort())
    for part in parts:
        sink.write(memoryview(part) if chooser.random() < 0.5 else part)
    sink.flush()
    sink.close()
    assert target.getvalue() == b"".join(parts)
    assert sink.digest == Digest(hashlib.sha256(b"".join(parts)).hexdigest())
    assert sink.size == sum(map(len, parts))
    assert not [thread for thread in threading.enumerate() if thread.name in ("hash", "write")]


def test_what_was_written_may_change_afterwards() -> None:
    data = bytearray(b"a" * (2 << 20))
    target = io.BytesIO()
    sink = HashingSink(target, Abort())
    sink.write(data)
    data[:] = b"b" * len(data)
    sink.flush()
    assert target.getvalue() == b"a" * (2 << 20)


async def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def produce(sink: BinaryIO) -> None:
        for _ in range(40):
            sink.write(bytes(1 << 20))

    monkeypatch.setattr("tare.store.files.os.write", full)
    with pytest.raises(Exhausted, match="No space left on device"):
        await stage(tmp_path, produce, what="layer")
    assert list(tmp_path.iterdir()) == []
    assert not [thread for thread in threading.enumerate() if thread.name in ("hash", "write")]


async def test_large_files_are_complete(tmp_path: Path) -> None:
    """Past the part that stays in the page cache."""
    block = random.Random(1).randbytes(1 << 20)

    def produce(sink: BinaryIO) -> None:
        for _ in range(130):
            sink.write(block)

    staged = await stage(tmp_path, produce, what="layer")
    with staged.path.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == staged.digest.hex
    assert staged.size == staged.path.stat().st_size == 130 << 20
    staged.discard()


async def test_another_digest_than_expected(tmp_path: Path) -> None:
    with pytest.raises(DataCorrupt, match="layer: digest sha256:"):
        await stage(tmp_path, lambda sink: None, what="layer", expected=Digest("0" * 64))
    assert list(tmp_path.iterdir()) == []


def test_abort_is_noticed() -> None:
    abort = Abort()
    sink = HashingSink(io.BytesIO(), abort)
    abort.set()
    with pytest.raises(Aborted):
        sink.write(bytes(2 << 20))
    sink.close()


def test_files_are_read_into_the_sinks_own_buffers(tmp_path: Path) -> None:
    content = random.Random(5).randbytes((2 << 20) + 77)
    (tmp_path / "f").write_bytes(content)
    target = io.BytesIO()
    sink = HashingSink(target, Abort())
    sink.write(b"head")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        left = len(content)
        while left:
            count = sink.fill(fd, left)
            assert 0 < count <= 1 << 20
            left -= count
        assert sink.fill(fd, 10) == 0, "the end of the file"
    finally:
        os.close(fd)
    sink.write(b"tail")
    sink.flush()
    sink.close()
    assert target.getvalue() == b"head" + content + b"tail"
    assert sink.digest == Digest(hashlib.sha256(b"head" + content + b"tail").hexdigest())
