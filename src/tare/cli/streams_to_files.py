"""What an engine streams, into a file or onto standard output."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO


async def pour(chunks: AsyncIterator[bytes], sink: BinaryIO) -> None:
    """All of it into an open file."""
    async for chunk in chunks:
        sink.write(chunk)
    sink.flush()


async def write_file(chunks: AsyncIterator[bytes], path: Path) -> None:
    """Write beside ``path`` first: what breaks off leaves what was there."""
    descriptor, name = tempfile.mkstemp(prefix=f".tmp-{path.name}", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as sink:
            await pour(chunks, sink)
        os.replace(name, path)  # noqa: PTH105 - a rename does not block for long
    except BaseException:
        os.unlink(name)  # noqa: PTH108
        raise
